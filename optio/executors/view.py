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
    from collections.abc import Callable
    from typing import Any

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_SIGCHLD = 17
# The same on every architecture, but for the first two.
_MACHINE = os.uname().machine
_SYS_CLONE, _SYS_PIVOT_ROOT = (220, 41) if _MACHINE in ("aarch64", "riscv64") else (56, 155)
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_FSCONFIG_CMD_CREATE = 6
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


def check(result: int) -> int:
    """Return what a function of the C library has returned. Raises OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def system_call(number: int, *types: Any) -> Callable[..., int]:
    """Return a system call as a function that raises OSError. With the types of its arguments known, and made once before all
    forks, it takes a third of the time."""
    function = _libc["syscall"]
    function.argtypes = (_LONG, *types)
    return lambda *arguments: check(function(number, *arguments))


_LONG, _TEXT = ctypes.c_long, ctypes.c_char_p
_clone = system_call(_SYS_CLONE, _LONG, _LONG, _LONG, _LONG, _LONG)
_pivot_root = system_call(_SYS_PIVOT_ROOT, _TEXT, _TEXT)
_open_tree = system_call(_SYS_OPEN_TREE, _LONG, _TEXT, _LONG)
_move_mount = system_call(_SYS_MOVE_MOUNT, _LONG, _TEXT, _LONG, _TEXT, _LONG)
_fsopen = system_call(_SYS_FSOPEN, _TEXT, _LONG)
_fsconfig = system_call(_SYS_FSCONFIG, _LONG, _LONG, _LONG, _LONG, _LONG)
_fsmount = system_call(_SYS_FSMOUNT, _LONG, _LONG, _LONG)
_mount_setattr = system_call(_SYS_MOUNT_SETATTR, _LONG, _TEXT, _LONG, _TEXT, _LONG)
_unshare, _setns, _mount_file_system = _libc.unshare, _libc.setns, _libc.mount
_mount_file_system.argtypes = (_TEXT, _TEXT, _TEXT, ctypes.c_ulong, _TEXT)


def start_namespaces() -> None:
    """Enter a user namespace with all rights over mounts, if this process is not root's. Raises OSError."""
    if os.geteuid() != 0:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones. In a new user namespace users have the numbers that they had. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    check(_unshare(flags))
    if flags & CLONE_NEWUSER:
        for name, text in (("setgroups", "deny"), ("gid_map", f"{group} {group} 1"), ("uid_map", f"{user} {user} 1")):
            with open(f"/proc/self/{name}", "wb", buffering=0) as file:
                file.write(text.encode())


def enter_user_namespace(pid: int) -> None:
    """Enter the user namespace of a process, with all rights if it belongs to this user. Raises OSError."""
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    check(_setns(namespace, CLONE_NEWUSER))


def clone() -> int:
    """Fork into new namespaces of processes, IPC and names, whose first process the child is. Raises OSError."""
    return _clone(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | _SIGCHLD, 0, 0, 0, 0)


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
    check(_unshare(CLONE_NEWNS))
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
    _pivot_root(b".", b".")
    check(_libc.umount2(b".", _MNT_DETACH))
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
    context = _fsopen(b"proc", 1)
    _fsconfig(context, _FSCONFIG_CMD_CREATE, 0, 0, 0)
    proc = _fsmount(context, 1, _NOSUID | _NODEV | _NOEXEC)
    trees = [(_tree(source, flags), target) for source, target, flags in plan["binds"]]
    check(_setns(namespace, CLONE_NEWNS))
    check(_unshare(CLONE_NEWNS | (CLONE_NEWNET if plan["offline"] else 0)))
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
    connection = check(_libc.socket(2, 2 | _CLOEXEC, 0))
    check(_libc.ioctl(connection, _SIOCSIFFLAGS, struct.pack("=16sh14x", b"lo", _IFF_UP)))
    os.close(connection)


def _tree(path: str, flags: int) -> int | None:
    """Return a copy of what is mounted at a path, as a descriptor; None for a path that this user does not reach."""
    try:
        tree = _open_tree(_AT_FDCWD, path.encode(), _OPEN_TREE_CLONE | _CLOEXEC | _AT_RECURSIVE | _AT_SYMLINK_NOFOLLOW)
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return None
    if flags:
        _set(tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, flags)
    return tree


def _attach(tree: int, path: str, top: str = "") -> None:
    """Mount a tree at a path below `top`, which is made if it is not there. Raises OSError."""
    target = top + path
    try:
        _move_mount(tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    except FileNotFoundError:
        if os.stat(tree).st_mode & 0o170000 == 0o040000:
            _make_directory(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        _move_mount(tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)


def _make_directory(path: str) -> None:
    try:
        os.mkdir(path)  # the usual case: `makedirs` takes several times as long
    except FileNotFoundError:
        os.makedirs(path)


def _set(place: int, path: bytes, how: int, flags: int) -> None:
    """Set attributes of mounts (`struct mount_attr`)."""
    _mount_setattr(place, path, how, struct.pack("=4Q", flags, 0, 0, 0), 32)


def _mount(source: bytes | None, target: str, kind: bytes | None, flags: int, options: bytes | None) -> None:
    check(_mount_file_system(source, target.encode(), kind, flags, options))
