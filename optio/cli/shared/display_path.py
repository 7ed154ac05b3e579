"""Paths of files of a tree, as messages show them."""

import os
from pathlib import Path


def display_path(root: Path, path: str) -> str:
    """Return a path of a tree relative to the working directory if the tree is below it, else with that of the tree."""
    return os.path.relpath(root / path) if root.absolute().is_relative_to(Path.cwd()) else os.path.join(root, path)
