"""Temporary folders: private, removed for certain, and cleared away when their process was killed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil


def remove(path: Path) -> None:
    """Remove what is at *path*, a whole folder too, also where permissions forbid it to its owner."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
    except FileNotFoundError:
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        path.chmod(0o700)
        for folder, names, _ in os.walk(path):
            for name in names:
                if not (inner := Path(folder, name)).is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(path)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Give a private folder (mode 700) in the temporary folder; it is removed at the end, whatever became of it."""
    folder = Path(tempfile.mkdtemp(prefix=f"metaharness-{prefix}-{_find_pid_space()}-{os.getpid()}-")).resolve()
    try:
        yield folder
    finally:
        remove(folder)


def remove_abandoned_folders() -> None:
    """Remove the temporary folders of processes of this user that were killed: agents keep their state there."""
    pattern = re.compile(rf"metaharness-[a-z]+-{_find_pid_space()}-(\d+)-\w+")
    for folder in Path(tempfile.gettempdir()).iterdir():
        found = pattern.fullmatch(folder.name)
        if found and not psutil.pid_exists(int(found[1])):
            with contextlib.suppress(OSError):  # another user's, or another session is removing it too
                remove(folder)


def _find_pid_space() -> int:
    """Number the space in which process ids are unique: containers may share a temporary folder."""
    space = Path("/proc/self/ns/pid")
    return space.stat().st_ino if space.exists() else 0
