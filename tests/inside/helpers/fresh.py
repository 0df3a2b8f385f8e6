"""Starts Python anew, as cron or ``env -i`` would: nothing is inherited from pytest."""

import subprocess
import sys


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a Python with an empty environment but for ``environment``.

    :raises subprocess.TimeoutExpired: after 100 seconds.
    """
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
