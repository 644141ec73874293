"""What a folder holds, as values: the files of a workspace by path, and how two of them differ.

Paths are POSIX, relative, and ``str`` with surrogate escapes (PEP 383), so that names that are not UTF-8 survive.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import pathspec

from ..errors import MetaharnessError
from ..model import Limits

Mode = Literal["100644", "100755", "120000"]

CHUNK = 1 << 20
"""Bytes read from a file at once."""

BRIEF_FOLDER = ".metaharness"
"""The folder in a workspace that holds the brief; it is never part of a snapshot."""

MEGABYTE = 1_000_000
FILE_MB, TOTAL_MB, FILES = 50, 500, 20_000
"""The limits where a target sets none, and its baseline does not reach them."""

ROOM = 1.1
"""By what factor a candidate may have more than a baseline that reaches a default limit."""

TRANSIENT_FOLDERS = frozenset(
    {".venv", "venv", "__pycache__", "node_modules", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".tox"}
)
TRANSIENT_SUFFIXES = (".pyc",)
LONGEST_PATH = 1000
"""Bytes that a path may have where the baseline has no longer one: below any folder it must fit into PATH_MAX, 4096."""

LINK_LIMIT = 40
"""Links followed in one path before it counts as leading out; the kernel's own limit (path_resolution(7))."""


class Entry(NamedTuple):
    """One file of a snapshot: git's mode and blob id, and the size in bytes."""

    mode: Mode
    blob: str
    size: int


Snapshot = Mapping[str, Entry]
"""A workspace's files by path, sorted."""


class WorkspaceError(MetaharnessError):
    """A folder of which no snapshot can be made: a file cannot be read, or a limit is passed; the message names it."""


class Bounds(NamedTuple):
    """What a snapshot may have at most."""

    file_bytes: float = math.inf
    total_bytes: float = math.inf
    files: float = math.inf
    path_bytes: float = math.inf


UNBOUNDED = Bounds()


class Scan(NamedTuple):
    """What is in a folder: its snapshot, the targets of its links, and the paths that no snapshot can hold."""

    snapshot: Snapshot
    links: Mapping[str, str]
    left_out: tuple[str, ...]


def show_path(path: str) -> str:
    """Spell *path* in printable UTF-8: control characters and stray bytes become escapes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def match_transient(patterns: Iterable[str] = ()) -> Callable[[str, bool], bool]:
    """Give a test of (path, is folder) for what is never part of a snapshot; *patterns* are as in ``.gitignore``."""
    lines = tuple(patterns)
    spec = pathspec.GitIgnoreSpec.from_lines(lines) if lines else None

    def is_transient(path: str, is_folder: bool) -> bool:
        name = posixpath.basename(path)
        if name == ".git" or path == BRIEF_FOLDER:
            return True
        if is_folder and name in TRANSIENT_FOLDERS:
            return True
        if not is_folder and name.endswith(TRANSIENT_SUFFIXES):
            return True
        return spec is not None and spec.match_file(path + "/" if is_folder else path)

    return is_transient


def match_scope(patterns: Iterable[str] | None) -> Callable[[str], bool]:
    """Give a test of paths for a write scope: files, ``folders/``, globs from the workspace's root. ``None``: all."""
    if patterns is None:
        return lambda _path: True
    spec = pathspec.GitIgnoreSpec.from_lines("/" + pattern.removeprefix("./").lstrip("/") for pattern in patterns)
    return spec.match_file


def set_bounds(limits: Limits, baseline: Snapshot) -> Bounds:
    """Give what *limits* allow; where they are silent the default, or a little more than *baseline* has already."""
    sizes = [entry.size for entry in baseline.values()]

    def choose(given: float | None, default: float, already: float) -> float:
        return max(default, round(already * ROOM, 6)) if given is None else given

    return Bounds(
        file_bytes=choose(limits.file_mb, FILE_MB, max(sizes, default=0) / MEGABYTE) * MEGABYTE,
        total_bytes=choose(limits.total_mb, TOTAL_MB, sum(sizes) / MEGABYTE) * MEGABYTE,
        files=choose(limits.files, FILES, len(sizes)),
        path_bytes=max([LONGEST_PATH, *(len(os.fsencode(path)) for path in baseline)]),
    )


def check_bounds(snapshot: Snapshot, bounds: Bounds) -> None:
    """Return if *snapshot* keeps to *bounds*.

    :raises WorkspaceError: it does not.
    """
    for path, entry in snapshot.items():
        _check_file(path, entry.size, bounds.file_bytes)
    _check_whole(len(snapshot), sum(entry.size for entry in snapshot.values()), bounds)


def scan_folder(
    folder: Path,
    *,
    is_transient: Callable[[str, bool], bool],
    bounds: Bounds = UNBOUNDED,
    recall: Callable[[str, os.stat_result], Entry | None] = lambda _path, _status: None,
) -> Scan:
    """Read what *folder* holds, without following a link and without blocking on a FIFO.

    Files without read permission are given it, unless they have another name. Empty folders, FIFOs, sockets and devices
    are no part of a snapshot. A file need not be read where *recall* knows, by its path and status, what is in it.

    :raises WorkspaceError: a file or folder cannot be read, or the whole passes *bounds*.
    """
    total = 0
    found: dict[str, Entry] = {}
    links: dict[str, str] = {}
    left_out: list[str] = []
    folders = [""]
    while folders:
        prefix = folders.pop()
        for item in _list_folder(folder, prefix):
            path = prefix + item.name
            _check_path(path, bounds.path_bytes)
            is_folder = item.is_dir(follow_symlinks=False)
            if is_transient(path, is_folder):
                left_out.append(path + "/" * is_folder)
            elif is_folder:
                folders.append(path + "/")
            elif item.is_symlink():
                links[path] = target = os.readlink(item.path)  # noqa: PTH115 - keeps the bytes of the target
                _check_path(target, bounds.path_bytes)
                content = os.fsencode(target)
                found[path] = Entry("120000", _start_blob(len(content), content).hexdigest(), len(content))
            elif item.is_file(follow_symlinks=False):
                known = recall(path, item.stat(follow_symlinks=False))
                found[path] = known or _read_entry(folder / path, path, bounds.file_bytes)
            else:
                left_out.append(path)
            total += found[path].size if path in found else 0
            _check_whole(len(found), total, bounds)
    return Scan(dict(sorted(found.items())), links, tuple(sorted(left_out)))


def _check_path(path: str, most: float) -> None:
    if (size := len(os.fsencode(path))) > most:
        message = f"the path {show_path(path[:40])}... has {size} bytes, more than the {most:g} allowed"
        raise WorkspaceError(message)


def _check_file(path: str, size: int, most: float) -> None:
    if size > most:
        text = f"{show_path(path)} has {size / MEGABYTE:.4g} MB"
        message = f"{text}, more than the {most / MEGABYTE:g} allowed (limits.file_mb)"
        raise WorkspaceError(message)


def _check_whole(files: int, total: int, bounds: Bounds) -> None:
    if files > bounds.files:
        message = f"it has more than {bounds.files:g} files (limits.files)"
        raise WorkspaceError(message)
    if total > bounds.total_bytes:
        message = f"its files have more than {bounds.total_bytes / MEGABYTE:g} MB together (limits.total_mb)"
        raise WorkspaceError(message)


def _list_folder(folder: Path, prefix: str) -> list[os.DirEntry[str]]:
    where = folder / prefix
    try:
        mode = where.lstat().st_mode
        if not stat.S_ISDIR(mode):  # never follow a link, not even one in the place of the whole
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if mode & 0o500 != 0o500:
            where.chmod(0o700)
        with os.scandir(where) as items:
            return list(items)
    except OSError as error:
        message = f"{show_path(prefix) or '.'} cannot be read: {error.strerror}"
        raise WorkspaceError(message) from error


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading: never a link, never waiting for a FIFO's writer.

    :raises OSError: it is something else, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "is no regular file", str(path))
    return os.fdopen(descriptor, "rb", buffering=0)


def _start_blob(size: int, content: bytes = b"") -> hashlib._Hash:
    # git names a blob by SHA-1 of "blob <size>\0<content>" (gitformat-loose(5)); it guards nothing here
    return hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False)


def _read_entry(file: Path, path: str, most: float) -> Entry:
    try:
        try:
            stream = open_regular(file)
        except PermissionError:
            status = file.lstat()
            if status.st_nlink > 1:  # it may be a file of somebody else's, elsewhere
                raise
            file.chmod(status.st_mode | stat.S_IRUSR)
            stream = open_regular(file)
        with stream:
            status = os.fstat(stream.fileno())
            _check_file(path, status.st_size, most)
            digest = _start_blob(status.st_size)
            read = 0
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                read += len(chunk)
    except OSError as error:
        message = f"{show_path(path)} cannot be read: {error.strerror}"
        raise WorkspaceError(message) from error
    if read != status.st_size:
        message = f"{show_path(path)} changed while it was read"
        raise WorkspaceError(message)
    return Entry("100755" if status.st_mode & stat.S_IXUSR else "100644", digest.hexdigest(), read)


def diff_snapshots(old: Snapshot, new: Snapshot) -> tuple[str, ...]:
    """List the paths whose content, mode or presence differs, sorted; a rename shows as both of its paths."""
    return tuple(sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path)))


def find_links_out(links: Mapping[str, str]) -> frozenset[str]:
    """Name the links among *links* (path -> target) that lead out of the workspace, through other links too."""
    folders = frozenset(parent for path in links for parent in _parents(path))
    return frozenset(path for path in links if _leads_out(path, links, folders))


def _leads_out(path: str, links: Mapping[str, str], folders: AbstractSet[str]) -> bool:
    """Tell whether *path* does; *folders* are those with links somewhere below them."""
    at: list[str] = []
    beyond = 0  # folders below the last of *at*: with no link there, it is enough to count them
    ahead = _parts(path)
    followed = 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            if beyond:
                beyond -= 1
            elif at:
                at.pop()
            else:
                return True
            continue
        place = f"{at[-1]}/{part}" if at else part
        if beyond or (place not in links and place not in folders):
            beyond += 1
        elif place not in links:
            at.append(place)
        else:
            followed += 1
            if links[place].startswith("/") or followed > LINK_LIMIT:
                return True
            ahead.extend(_parts(links[place]))
    return False


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in {"", "."}]


def overlay(below: Snapshot, above: Snapshot) -> Snapshot:
    """Lay *above* over *below*: where a path of one is a folder of the other, *above* wins."""
    folders = {parent for path in above for parent in _parents(path)}
    kept = {
        path: entry
        for path, entry in below.items()
        if path not in folders and not any(parent in above for parent in _parents(path))
    }
    return dict(sorted({**kept, **above}.items()))


def _parents(path: str) -> Iterator[str]:
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)
