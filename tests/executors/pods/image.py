"""The programs of the egress image, as modules: they are no part of the package, and stand on Python alone."""

import importlib.util
import sys
from types import ModuleType

from tests.support import ROOT

FOLDER = ROOT / "deploy" / "images" / "egress"


def program(name: str) -> ModuleType:
    """`allow`, `gate`, `start` or `ready`."""
    spec = importlib.util.spec_from_file_location(f"egress_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = path
    return module
