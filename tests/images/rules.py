"""What prune.toml says, tried on the locked wheels and on an image."""

import zipfile
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10: pytest brings this one
    import tomli as tomllib

from scripts import build, fetch, locks

PACKAGES = "/usr/local/lib/python3.13/dist-packages"


def read(image_name: str) -> dict[str, list[dict]]:
    """Return the rules of one image: ``remove`` and ``strip``."""
    return tomllib.loads((build.IMAGES / image_name / "prune.toml").read_text())


def lay_out_names(image_name: str, folder: Path) -> None:
    """Make an empty file for the files that the locked wheels of one image install; of other
    people's than NVIDIA's one for each folder and ending: enough for patterns, and quick.

    Empty files, so that the rules can be tried with the very function that the build uses.
    """
    seen: set[tuple[Path, str]] = set()
    lock = next(path for path in locks.WHEELS if path.parent.name == image_name)
    for package in locks.read(lock).packages:
        with zipfile.ZipFile(fetch.path_of(package.sha256)) as wheel:
            for name in wheel.namelist():
                head, _, rest = name.partition("/")
                if head.endswith(".data"):  # NAME.data/purelib/…, as in PyPA's wheel format
                    kind, _, name = rest.partition("/")
                    if kind not in ("purelib", "platlib"):
                        continue
                path = folder / name
                known = (path.parent, name if name.startswith("nvidia/") else path.suffix)
                if not name.endswith("/") and known not in seen:
                    seen.add(known)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()


def idle_rules(image_name: str, folder: Path) -> list[str]:
    """Return the rules of one image that match no file of its wheels."""
    lay_out_names(image_name, folder)
    rules = read(image_name)
    return [rule["files"] for part in rules.values() for rule in part
            if not any(path.is_file() for path in folder.glob(rule["files"]))]


#: Run in an image with the rules' patterns as arguments: prints what should be gone but is there,
#: or is named in a RECORD but is not there.
CHECK = f"""
import csv, os, pathlib, sys
top = pathlib.Path("{PACKAGES}")
for pattern in sys.argv[1:]:
    for path in top.glob(pattern):
        print("there:", path)
for record in top.glob("*.dist-info/RECORD"):
    for name, *_ in csv.reader(record.read_text().splitlines()):
        if not os.path.exists(os.path.normpath(top / name)):
            print("in", record, "and not there:", name)
"""
