"""Hothouse's own command inside an image: what works on this machine, and what to do where not.

`scripts/doctor.py` shares rows, findings, nvidia and machine with the host: these four need no
package, Python 3.10 and nothing of TensorFlow.
"""
