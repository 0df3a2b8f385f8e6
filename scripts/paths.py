"""Where things lie in a checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "images"
TESTS = ROOT / "tests"
ARTIFACTS = ROOT / ".artifacts"
STORE = ARTIFACTS / "store"
