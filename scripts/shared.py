"""What the host's doctor and the image's share: the modules of the image's package that need no
package. The image is their home, since it must not depend on the checkout."""

import importlib
import sys
from types import ModuleType

from scripts.paths import IMAGES

PACKAGES = IMAGES / "tensorflow/rootfs/usr/local/lib/python3.13/dist-packages"


def load(name: str) -> ModuleType:
    """Import one of them, without a .pyc: the folder's content is an image's."""
    if str(PACKAGES) not in sys.path:
        sys.path.append(str(PACKAGES))
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        return importlib.import_module(f"hothouse.{name}")
    finally:
        sys.dont_write_bytecode = before


rows = load("rows")
findings = load("findings")
nvidia = load("nvidia")
machine = load("machine")
