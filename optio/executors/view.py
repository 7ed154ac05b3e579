"""The view of an isolated attempt: a mount namespace that holds only what the sandbox lists, and namespaces of processes, IPC
and names. Standard library only: the fork server loads this module, and the sandbox describes views to it.

What all attempts share is mounted once, in a namespace that stays without a process: a copy of it costs little. An attempt
enters it, copies it, and adds its own directories, which it brings along as descriptors: the data directory has no path in
there, and never had one.

Who is not root does this in a user namespace, in which the fork server lives. The agent then gets one below that, in which its
first process, which may mount, is somebody else.
"""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_SIGCHLD = 17
# The same on every architecture, but for the first two.
_MACHINE = os.uname().machine
_SYS_CLONE, _SYS_PIVOT_ROOT = (220, 41) if _MACHINE in ("aarch64", "riscv64") else (56, 155)
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE, _AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x8000, 0x100
_OPEN_TREE_CLONE, _CLOEXEC = 1, 0o2000000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
READ_ONLY = _RDONLY | _NOSUID | _NODEV
_MS_REC_PRIVATE, _MNT_DETACH = 0x4000 | 0x40000, 2
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
# Of what is in memory an agent gets little: a cgroup counts it, but not every machine has one.
_MEMORY = b"mode=1777,size=64m,nr_inodes=16384"
_POINTS = b"mode=0755,size=1m,nr_inodes=4096"
# Holding the lock of the interpreter: a process that `clone` makes has no other thread that could have it.
_libc = ctypes.PyDLL(None, use_errno=True)


def start_namespaces() -> None:
    """Enter a user namespace with all rights over mounts, if this process is not root's. Raises OSError."""
    if os.geteuid() != 0:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones. In a new user namespace users have the numbers that they had. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(flags))
    if flags & CLONE_NEWUSER:
        for name, text in (("setgroups", "deny"), ("gid_map", f"{group} {group} 1"), ("uid_map", f"{user} {user} 1")):
            with open(f"/proc/self/{name}", "wb", buffering=0) as file:
                file.write(text.encode())


def enter_user_namespace(pid: int) -> None:
    """Enter the user namespace of a process, with all rights if it belongs to this user. Raises OSError."""
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    _check(_libc.setns(namespace, CLONE_NEWUSER))


def clone() -> int:
    """Fork into new namespaces of processes, IPC and names, whose first process the child is. Raises OSError."""
    return _call(_SYS_CLONE, CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | _SIGCHLD, 0, 0, 0, 0)


def make_view(view: dict[str, Any]) -> int:
    """Return a descriptor of a mount namespace that holds `view`. Raises OSError."""
    reader, writer = os.pipe()
    done, finish = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.close(finish)
        try:
            _mount_view(view)
        except OSError as failure:
            os.write(writer, str(failure.errno or 5).encode())
            os._exit(1)
        os.write(writer, b"0")
        os.read(done, 1)
        os._exit(0)
    os.close(writer)
    os.close(done)
    try:
        number = int(os.read(reader, 16) or b"5")
        if number:
            raise OSError(number, os.strerror(number))
        return os.open(f"/proc/{child}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.close(finish)
        os.waitpid(child, 0)


def _mount_view(view: dict[str, Any]) -> None:
    os.umask(0o022)
    top = view["place"]
    _check(_libc.unshare(CLONE_NEWNS))
    _mount(None, "/", None, _MS_REC_PRIVATE, None)
    sources = [(_tree(path, flags), path) for path, flags in view["binds"]]
    _mount(b"tmpfs", top, b"tmpfs", _NOSUID | _NODEV, _POINTS)
    for point in view["points"]:
        os.makedirs(top + point, exist_ok=True)
    for tree, path in sources:
        if tree is not None:
            _attach(tree, path, top)
    if view["users"] is not None:
        _name_users(top, *view["users"])
    # Last, and never followed here: outside of the view they may lead anywhere.
    for path, text in view["links"]:
        if not os.path.lexists(top + path) and os.path.isdir(os.path.dirname(top + path)):
            os.symlink(text, top + path)
    os.chdir(top)
    _call(_SYS_PIVOT_ROOT, b".", b".")
    _check(_libc.umount2(b".", _MNT_DETACH))
    os.chdir("/")
    _set(_AT_FDCWD, b"/", 0, _RDONLY)


def _name_users(top: str, first: int, last: int) -> None:
    """Let the users of the pool have names: programs ask for that of their own."""
    try:
        with open("/etc/passwd", "rb") as file:
            names = file.read().rstrip(b"\n")
    except OSError:
        return
    for user in range(first, last + 1):
        names += b"\noptio-%d:x:%d:%d::/tmp:/bin/sh" % (user, user, user)
    with open(f"{top}/.passwd", "wb") as file:
        file.write(names + b"\n")
    tree = _tree(f"{top}/.passwd", _RDONLY)
    if tree is not None and os.path.exists(f"{top}/etc/passwd"):
        _attach(tree, "/etc/passwd", top)


def enter_view(namespace: int, plan: dict[str, Any]) -> None:
    """Enter a copy of a view, and add what is the attempt's own. Raises OSError."""
    os.umask(0o022)
    # Here, where the machine's own is to be seen: the kernel gives a new one only to who sees all of that.
    context = _call(_SYS_FSOPEN, b"proc", 1)
    _call(_SYS_FSCONFIG, context, 6, 0, 0, 0)
    proc = _call(_SYS_FSMOUNT, context, 1, _NOSUID | _NODEV | _NOEXEC)
    trees = [(_tree(source, flags), target) for source, target, flags in plan["binds"]]
    _check(_libc.setns(namespace, CLONE_NEWNS))
    _check(_libc.unshare(CLONE_NEWNS | (CLONE_NEWNET if plan["offline"] else 0)))
    _attach(proc, "/proc")
    _mount(b"devpts", "/dev/pts", b"devpts", _NOSUID | _NOEXEC, b"newinstance,ptmxmode=0666,mode=0620")
    for path in plan["memory"]:
        _mount(b"tmpfs", path, b"tmpfs", _NOSUID | _NODEV, _MEMORY)
    for path in plan["points"]:
        _mount(b"tmpfs", path, b"tmpfs", _NOSUID | _NODEV, _POINTS)
    for tree, target in trees:
        if tree is not None:
            _attach(tree, target)
    for path in plan["points"]:
        _set(_AT_FDCWD, path.encode(), 0, _RDONLY)
    if plan["offline"]:
        _start_loopback()


def _start_loopback() -> None:
    connection = _check(_libc.socket(2, 2 | _CLOEXEC, 0))
    _check(_libc.ioctl(connection, _SIOCSIFFLAGS, struct.pack("=16sh14x", b"lo", _IFF_UP)))
    os.close(connection)


def _tree(path: str, flags: int) -> int | None:
    """Return a copy of what is mounted at a path, as a descriptor; None for a path that this user does not reach."""
    try:
        tree = _call(
            _SYS_OPEN_TREE, _AT_FDCWD, path.encode(), _OPEN_TREE_CLONE | _CLOEXEC | _AT_RECURSIVE | _AT_SYMLINK_NOFOLLOW
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return None
    if flags:
        _set(tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, flags)
    return tree


def _attach(tree: int, path: str, top: str = "") -> None:
    target = top + path
    if not os.path.lexists(target):
        if os.stat(tree).st_mode & 0o170000 == 0o040000:
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    _call(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)


def _set(place: int, path: bytes, how: int, flags: int) -> None:
    """Set attributes of mounts (`struct mount_attr`)."""
    _call(_SYS_MOUNT_SETATTR, place, path, how, struct.pack("=4Q", flags, 0, 0, 0), 32)


def _mount(source: bytes | None, target: str, kind: bytes | None, flags: int, options: bytes | None) -> None:
    _check(_libc.mount(source, target.encode(), kind, ctypes.c_ulong(flags), options))


def _call(*arguments: Any) -> int:
    return _check(_libc.syscall(*[ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
