"""What is installed by wheels in the image, read from its own folder only.

pytest's packages come by PYTHONPATH and must not be taken for the image's.
"""

import re
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))


def canonical(name: str) -> str:
    """A distribution's name as an index normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def distributions() -> tuple[metadata.Distribution, ...]:
    """The distributions installed in the image's own folder."""
    return tuple(metadata.distributions(path=[str(SITE)]))


def modules(distribution: metadata.Distribution) -> set[str]:
    """The top import names of a distribution; of a namespace package, the packages in it."""
    python = [
        Path(f)
        for f in distribution.files or ()
        if f.suffix in (".py", ".so") and ".." not in f.parts
    ]
    packages = sorted((f.parent for f in python if f.name == "__init__.py"), key=lambda f: f.parts)
    tops: set[Path] = set()
    for package in packages:
        if not any(parent in tops for parent in package.parents):
            tops.add(package)
    names = {".".join(top.parts) for top in tops}
    names |= {f.name.split(".")[0] for f in python if len(f.parts) == 1}
    return {name for name in names if all(part.isidentifier() for part in name.split("."))}
