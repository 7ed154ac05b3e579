"""A digest of everything findings depend on besides the task files: Optio's own source, the versions of the libraries and of
Python, the time zone database, and the operator's prices of models. A cache written under another digest is never read."""

import os
import re
import sys
import zoneinfo
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# All code that the result of a check depends on.
SOURCES = ("scheduling", "model", "compiler", "check_cache")
MODULES = ("errors.py", "tree/scan.py", "model/prices.json")
LIBRARIES = frozenset({"pyyaml", "jsonschema_rs", "jsonpath_rfc9535", "google_re2", "cronsim", "msgspec"})
_ZONES = ("tzdata.zi", "+VERSION", "leapseconds")


def cache_key() -> bytes | None:
    """Return the digest, or None when it cannot be computed (a library without metadata, unreadable source): then nothing is
    cached."""
    versions = list(_versions())
    if not {name for name, _ in versions} >= LIBRARIES:
        return None
    digest = sha256(sys.version.encode())
    for name, version in versions:
        digest.update(f"\n{name} {version}".encode("utf-8", "surrogateescape"))
    for zone in _zones():
        digest.update(f"\n{zone}".encode("utf-8", "surrogateescape"))
    try:
        for name in _sources():
            with open(os.path.join(PACKAGE, name), "rb", buffering=0) as file:
                data = file.read()
            digest.update(f"\n{name} {len(data)}\n".encode())
            digest.update(data)
        if os.environ.get("OPTIO_PRICES"):
            digest.update(Path(os.environ["OPTIO_PRICES"]).read_bytes())
    except OSError:
        return None
    return digest.digest()


def _sources() -> Iterator[str]:
    """Yield the paths of all sources in the package: not by `pathlib`, as a check that finds no change spends its time here."""
    yield from MODULES
    for package in SOURCES:
        for directory, _, names in sorted(os.walk(os.path.join(PACKAGE, package))):
            within = os.path.relpath(directory, PACKAGE)
            yield from (f"{within}/{name}" for name in sorted(names) if name.endswith(".py"))


def _versions() -> Iterator[tuple[str, str]]:
    """Yield name and version of each installed package from the names of its metadata directories. `importlib.metadata` is
    slower."""
    for place in sys.path:
        try:
            names = os.listdir(place or ".")
        except OSError:
            continue
        for entry in sorted(names):
            name, _, version = entry.partition("-")
            if version.endswith((".dist-info", ".egg-info")):
                # All of them, as any may bring a runtime.
                yield re.sub(r"[-_.]+", "_", name).lower(), version


def _zones() -> Iterator[str]:
    """Yield stamps of the system's time zone files, which `zoneinfo` prefers to those of the `tzdata` package."""
    for place in zoneinfo.TZPATH:
        for name in ("", *_ZONES):
            try:
                status = os.stat(os.path.join(place, name))
            except OSError:
                continue
            yield f"{place} {name} {status.st_mtime_ns} {status.st_size}"
