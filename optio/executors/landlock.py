"""Landlock, the kernel's own sandbox: which version this kernel has, and rulesets in the form that the supervisor applies.

It needs no privilege, costs nothing while a program runs, and holds for a process and everything that it starts. Each version
of the interface can refuse more; the version of the kernel is queried, not guessed.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import struct
from collections.abc import Iterable
from typing import Any

_SYS_CREATE_RULESET = 444
_CREATE_RULESET_VERSION = 1

# LANDLOCK_ACCESS_FS_*
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
# Without devices: no program needs to make any.
_REMOVE_AND_MAKE = sum(1 << bit for bit in (4, 5, 7, 8, 9, 10, 12))
_MAKE_DEVICES = 1 << 6 | 1 << 11
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_CONNECT_TCP = 1 << 1
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1

# Pairs of a path and the access to all below it.
Rules = tuple[tuple[str, int], ...]

# The version of the interface that brought each of these, and Linux with it.
NETWORK_SINCE, SCOPES_SINCE = 4, 6
LINUX_OF = {NETWORK_SINCE: "6.7", SCOPES_SINCE: "6.12"}


def version() -> int:
    """Return the version of the interface; 0 if the kernel has none, or has it switched off."""
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    return max(0, found)


def rules(
    abi: int,
    *,
    read: Iterable[str] = (),
    write: Iterable[str] = (),
    append: Iterable[str] = (),
    devices: Iterable[str] = (),
) -> Rules:
    """Return each path with the access to all below it. `read` are directories and files that may be read and executed, `write`
    also written, `append` files that may be written and not read, `devices` read and written."""
    every, truncate = _write(abi), _truncate(abi)
    return (
        *((path, _EXECUTE | _READ_FILE | _READ_DIR) for path in read),
        *((path, every) for path in write),
        *((path, _WRITE_FILE | truncate) for path in append),
        *((path, _WRITE_FILE | _READ_FILE | truncate) for path in devices),
    )


def ruleset(abi: int, paths: Rules | None, ports: Iterable[int] | None = None) -> dict[str, Any]:
    """Return what the supervisor takes as `sandbox`. Without `paths` nothing is said about files. `ports` are TCP ports that
    may be connected to, None for all."""
    connect = _CONNECT_TCP if abi >= NETWORK_SINCE and ports is not None else 0
    scopes = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if abi >= SCOPES_SINCE else 0
    # A kernel takes the fields that it knows, and refuses others that are not zero.
    fields = (0 if paths is None else _write(abi) | _MAKE_DEVICES, connect, scopes)
    known = 1 + (abi >= NETWORK_SINCE) + (abi >= SCOPES_SINCE)
    return {
        "attr": struct.pack(f"={known}Q", *fields[:known]),
        "paths": paths or (),
        "connect": connect,
        "ports": tuple(ports or ()) if connect else (),
    }


def _truncate(abi: int) -> int:
    return _TRUNCATE if abi >= 3 else 0


def _write(abi: int) -> int:
    """Return the rights for everything that one may do with files and directories."""
    every = _EXECUTE | _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_AND_MAKE
    return every | (_REFER if abi >= 2 else 0) | _truncate(abi)
