"""What this Python has installed, read from the folders' names: nothing is imported."""

from __future__ import annotations

import ast
import os
import re
import sys
from functools import lru_cache
from pathlib import Path

CPU, CUDA = "cpu", "cuda"


def _folders() -> list[Path]:
    return [Path(p) for p in sys.path if p.endswith(("dist-packages", "site-packages"))]


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the installed distributions with their versions, the one that is imported first."""
    found: dict[str, str] = {}
    for folder in _folders():
        names = os.listdir(folder) if folder.is_dir() else []
        for name in names:
            if match := re.fullmatch(r"(.+?)-([^-]+)\.dist-info", name):
                found.setdefault(match[1].lower().replace("_", "-"), match[2])
    return found


def variant() -> str:
    """Return ``cuda``, ``cpu`` or "" by which distribution of TensorFlow is installed."""
    have = versions()
    return CUDA if "tensorflow" in have else CPU if "tensorflow-cpu" in have else ""


def cuda_major() -> int:
    """Return the major version of the CUDA runtime that is installed, 0 where there is none."""
    for name, version in versions().items():
        if re.fullmatch(r"nvidia-cuda-runtime(-cu\d+)?", name):
            return int(version.split(".")[0])
    return 0


def find(name: str) -> Path | None:
    """Return a file of the packages, such as ``nvidia/cuda_nvcc/bin/ptxas``."""
    return next((folder / name for folder in _folders() if (folder / name).exists()), None)


def build_info() -> dict[str, object]:
    """Return what TensorFlow tells of its build (tf.sysconfig.get_build_info), unimported."""
    path = find("tensorflow/python/platform/build_info.py")
    found = re.search(r"OrderedDict\((\[.*\])\)", path.read_text(), re.DOTALL) if path else None
    return dict(ast.literal_eval(found.group(1))) if found else {}


def built_cuda() -> int:
    """Return the CUDA that TensorFlow was built with, as cuDriverGetVersion counts: 12.5.1 is
    12050. 0 where it is not known."""
    found = re.match(r"(\d+)\.(\d+)", str(build_info().get("cuda_version", "")))
    return int(found[1]) * 1000 + int(found[2]) * 10 if found else 0


def capabilities() -> list[str]:
    """Return the compute capabilities that TensorFlow is built for: ``["sm_80", …]``."""
    return [str(name) for name in build_info().get("cuda_compute_capabilities", [])]
