"""The bodies of the invoke tasks: one module for each step, lock → fetch → build → test."""
