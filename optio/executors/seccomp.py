"""A short list of system calls that no agent needs and that reach past a sandbox, as a program for the kernel's filter.
Pure: the numbers of each architecture are data, and the supervisor installs the bytes.

A refused call gives EPERM, as in containers. So does every call of another architecture than the kernel's own, whose numbers
mean something else.

Source: https://docs.kernel.org/userspace-api/seccomp_filter.html, and the kernel's tables of system calls
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_LOAD, _EQUAL, _ABOVE, _MASKED, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001


class _Machine(NamedTuple):
    """An architecture: its number for audits, and the end of its system calls."""

    audit: int
    end: int


_MACHINES = {"x86_64": _Machine(0xC000003E, 0x40000000), "aarch64": _Machine(0xC00000B7, 0xFFFFFFFF)}
# (x86_64, aarch64)
_NUMBERS = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "open_by_handle_at": (304, 265),
    "ioctl": (16, 29),
    "prlimit64": (302, 261),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}
# TIOCSTI types into a terminal, TIOCLINUX into a console; the others move files to another quota (FS_IOC_FSSETXATTR,
# FS_IOC_SETFLAGS).
_COMMANDS = (0x5412, 0x541C, 0x401C5820, 0x40086602)
# Calls that name a process, with the argument that does: those with its own number, 0, are allowed.
_OF_OTHERS = {
    "prlimit64": 0,
    "setpriority": 1,
    "ioprio_set": 1,
    "sched_setparam": 0,
    "sched_setscheduler": 0,
    "sched_setaffinity": 0,
    "sched_setattr": 0,
}


def program(machine: str, *, others: bool) -> bytes | None:
    """Return the filter as an array of `struct sock_filter`; None for an architecture that is not in the table. With `others`
    it also refuses to change the limits and priorities of another process or thread."""
    if machine not in _MACHINES:
        return None
    return b"".join(struct.pack("=HBBI", *line) for line in _lines(machine, others=others))


def _lines(machine: str, *, others: bool) -> Iterator[tuple[int, int, int, int]]:
    audit, end = _MACHINES[machine]
    column = list(_MACHINES).index(machine)
    yield _LOAD, 0, 0, _ARCHITECTURE
    yield _EQUAL, 1, 0, audit
    yield _RETURN, 0, 0, _REFUSE
    yield _LOAD, 0, 0, _NUMBER
    yield _ABOVE, 0, 1, end
    yield _RETURN, 0, 0, _REFUSE
    for name, numbers in _NUMBERS.items():
        if name == "ioctl":
            yield _EQUAL, 0, 2 * len(_COMMANDS) + 2, numbers[column]
            yield _LOAD, 0, 0, _ARGUMENTS + 8
            for command in _COMMANDS:
                yield _EQUAL, 0, 1, command
                yield _RETURN, 0, 0, _REFUSE
            yield _RETURN, 0, 0, _ALLOW
        elif name in _OF_OTHERS:
            if others:
                # `prlimit64` without new limits only asks.
                asks = [(_LOAD, 0, 0, _ARGUMENTS + 16), (_EQUAL, 0, 3, 0), (_LOAD, 0, 0, _ARGUMENTS + 20), (_EQUAL, 0, 1, 0)]
                asks = [*asks, (_RETURN, 0, 0, _ALLOW)] if name == "prlimit64" else []
                yield _EQUAL, 0, len(asks) + 4, numbers[column]
                yield from asks
                yield _LOAD, 0, 0, _ARGUMENTS + 8 * _OF_OTHERS[name]
                yield _EQUAL, 1, 0, 0
                yield _RETURN, 0, 0, _REFUSE
                yield _RETURN, 0, 0, _ALLOW
        else:
            yield _EQUAL, 0, 1, numbers[column]
            yield _RETURN, 0, 0, _REFUSE
    yield _RETURN, 0, 0, _ALLOW
