"""Temporary folders: private, removed for certain, and cleared away when their process was killed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import stat
import struct
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from .processes.guardian import IS_LINUX, read_state
from .processes.interrupts import postponed_interrupts

_MOUNTS = Path("/proc/self/mountinfo")
_DETACH, _NOFOLLOW = 2, 8  # umount2(2)
_GET_FLAGS, _SET_FLAGS = (  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS of <linux/fs.h>
    way << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | number for way, number in ((2, 1), (1, 2))
)
_UNCHANGEABLE = 0x30  # FS_IMMUTABLE_FL, FS_APPEND_FL


def remove(path: Path) -> None:
    """Remove what is at *path*, a whole folder too: however deep, and whatever its permissions and attributes forbid.

    What is mounted there is detached, never emptied.

    :raises OSError: it cannot be removed.
    """
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if is_folder:
        detach_mounts(path)
        _empty(path)
    try:
        _insist(os.rmdir if is_folder else os.unlink, str(path))
    except OSError as error:
        if is_folder or error.errno != errno.EBUSY:
            raise
        detach_mounts(path)
        path.unlink()


def _empty(folder: Path) -> None:
    """Remove what is in *folder*.

    Folders two levels down are lifted one up first: so no depth is too much for a path, the stack or the descriptors.
    """
    lifted = 0
    unique = uuid.uuid4().hex

    def lift(name: str, *, dir_fd: int) -> None:
        nonlocal lifted
        os.rename(name, f"{unique}-{lifted}", src_dir_fd=dir_fd, dst_dir_fd=top)
        lifted += 1

    with _opened(str(folder)) as top:
        while entries := _list(top):
            for name, is_folder in entries:
                if is_folder:
                    with _opened(name, top) as inner:
                        for inner_name, is_inner_folder in _list(inner):
                            if is_inner_folder:
                                _permit(inner_name, inner)
                            _insist(lift if is_inner_folder else os.unlink, inner_name, inner)
                _insist(os.rmdir if is_folder else os.unlink, name, top)


def _list(folder: int) -> list[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


@contextlib.contextmanager
def _opened(name: str, below: int | None = None) -> Iterator[int]:
    _permit(name, below)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=below)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _permit(name: str, below: int | None) -> None:
    """Let its owner list, change and move the folder *name*."""
    if os.stat(name, dir_fd=below, follow_symlinks=False).st_mode & 0o700 != 0o700:
        _insist(lambda name, *, dir_fd: os.chmod(name, 0o700, dir_fd=dir_fd), name, below)


def _insist(act: Callable[..., None], name: str, below: int | None = None) -> None:
    """Call *act* for an entry of the folder *below*, again without the attributes that forbid it where it has such."""
    try:
        act(name, dir_fd=below)
    except PermissionError:
        for place in (name, str(Path(name).parent)):
            _allow_changes(place, below)
        act(name, dir_fd=below)


def read_flags(folder: str) -> int:
    """Read the attributes of chattr(1) of a folder, where only root could have changed them and there are any; else 0.

    They are no part of what stat(2) and the extended attributes tell.
    """
    if not IS_LINUX or os.geteuid() != 0:
        return 0
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)), sys.byteorder) & _UNCHANGEABLE
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def _allow_changes(name: str, below: int | None) -> None:
    """Take off the attributes that forbid changes even to root (chattr(1)), if this user may."""
    with contextlib.suppress(OSError):
        if not IS_LINUX or not _is_plain(os.stat(name, dir_fd=below, follow_symlinks=False).st_mode):
            return
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=below)
        try:
            flags = int.from_bytes(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)), sys.byteorder)
            fcntl.ioctl(descriptor, _SET_FLAGS, (flags & ~_UNCHANGEABLE).to_bytes(8, sys.byteorder))
        finally:
            os.close(descriptor)


def _is_plain(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def detach_mounts(path: Path) -> None:
    """Detach what is mounted at *path* and below.

    :raises OSError: this user may not.
    """
    try:
        table = _MOUNTS.read_bytes()
    except FileNotFoundError:  # not Linux
        return
    top = os.fsencode(path.parent.resolve() / path.name)
    places = [re.sub(rb"\\([0-7]{3})", _unescape, line.split(b" ")[4]) for line in table.splitlines()]
    for place in reversed(places):  # later ones cover earlier ones
        if place == top or place.startswith(top + b"/"):
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.umount2(place, _DETACH | _NOFOLLOW):
                number = ctypes.get_errno()
                raise OSError(number, f"is mounted and cannot be detached: {os.strerror(number)}", os.fsdecode(place))


def _unescape(octal: re.Match[bytes]) -> bytes:
    return bytes((int(octal[1], 8),))


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Give a private folder (mode 700) in the temporary folder; it is removed at the end, whatever became of it.

    A second Ctrl-C does not disturb that.
    """
    folder: Path | None = None
    try:
        with postponed_interrupts():
            folder = Path(tempfile.mkdtemp(prefix=name_temporary(prefix, os.getpid()))).resolve()
        yield folder
    finally:
        if folder is not None:
            with postponed_interrupts():
                remove(folder)


def name_temporary(kind: str, owner: int) -> str:
    """Give how the names of temporary folders begin that belong to the process *owner*, and may go with it."""
    return f"metaharness-{kind}-{_find_pid_space()}-{owner}-{_find_start(owner)}-"


def remove_abandoned_folders() -> None:
    """Remove the temporary folders of processes of this user that were killed: agents keep their state there."""
    pattern = re.compile(rf"metaharness-[a-z]+-{_find_pid_space()}-(\d+)-(\d+)-\w+")
    for folder in Path(tempfile.gettempdir()).iterdir():
        found = pattern.fullmatch(folder.name)
        if found and not (psutil.pid_exists(pid := int(found[1])) and _find_start(pid) == int(found[2])):
            with contextlib.suppress(OSError):  # another user's, or another session is removing it too
                remove(folder)


def _find_start(pid: int) -> int:
    """Tell when the process *pid* began, by no wall clock: in containers numbers come back soon. 0 where unknown."""
    return read_state(pid)[1] if IS_LINUX else 0


def _find_pid_space() -> int:
    """Number the space in which process ids are unique: containers may share a temporary folder."""
    space = Path("/proc/self/ns/pid")
    return space.stat().st_ino if space.exists() else 0
