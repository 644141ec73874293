"""A snapshot as files on disk, and back again: exactly, whatever a program did to them meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..folders import detach_mounts, read_flags, remove
from .snapshot import Entry, Snapshot
from .store import Store

PERMISSIONS = {"100644": 0o644, "100755": 0o755}

Signature = tuple[int, ...]


class _Written(NamedTuple):
    """What was written at a path, and the signature of the file then."""

    entry: Entry
    signature: Signature


class _Folder(NamedTuple):
    """What distinguishes a folder that we made from any other, and from itself after its attributes were changed."""

    device: int
    inode: int
    mode: int
    owner: int
    group: int
    flags: int
    attributes: tuple[tuple[str, bytes], ...]


class Checkout:
    """The folder *folder*, which holds one snapshot after the other: :meth:`turn_to` a snapshot, then :meth:`restore`.

    Only what differs is written. A file counts as untouched while its inode, mode, size and times are those it was
    written with: the change time cannot be set back by the file's owner. Where the file system does not stamp every
    write, the content must be the same too. The folders *always* are there whatever the snapshot is.
    """

    def __init__(self, folder: Path, store: Store, *, always: Sequence[str] = ()) -> None:
        self._store = store
        self._place = str(folder)
        self._always = frozenset({"", *always})
        self._snapshot: Snapshot = {}
        self._beside: dict[str, bytes] = {}
        self._folders = self._always
        self._written: dict[str, _Written] = {}
        self._made: dict[str, _Folder] = {}
        self._stamps: bool | None = None

    @property
    def folder(self) -> Path:
        """Where it is."""
        return Path(self._place)

    def move(self, folder: Path) -> None:
        """Have it at *folder*, on the same file system, from now on."""
        if self._made:
            os.rename(self._place, folder)
        self._place = str(folder)

    def turn_to(self, snapshot: Snapshot, beside: Mapping[str, bytes] | None = None) -> None:
        """Have *snapshot* here from the next :meth:`restore` on, and :meth:`sweep`.

        *beside* are further files, which are not in the store, with their content.
        """
        entries: dict[str, Entry] = {}
        self._beside = {}
        for path, content in (beside or {}).items():
            entries[path] = Entry("100644", _hash(len(content), [content]), len(content))
            self._beside[entries[path].blob] = content
        self._snapshot = {**snapshot, **entries}
        self._folders = self._always.union(*map(_folders_of, self._snapshot))
        self.sweep()
        self._written = {path: written for path, written in self._written.items() if path in self._snapshot}

    def sweep(self) -> None:
        """Remove at once what is no part of what is to be here.

        A folder whose attributes were changed goes with all that is in it.
        """
        try:
            self._made = self._remove_foreign()
        except OSError:  # mounted read-only, for one
            self.clear()

    def clear(self) -> None:
        """Remove all that is here."""
        remove(Path(self._place))
        self._made = {}
        self._written = {}

    def _remove_foreign(self) -> dict[str, _Folder]:
        """Do it; gives the folders that can stay."""
        kept: dict[str, _Folder] = {}
        pending = [""]
        while pending:
            folder = pending.pop()
            place = self._locate(folder)
            made = self._made.get(folder)
            if made is None or made != _read_folder(place):
                remove(Path(place))
                continue
            kept[folder] = made
            with os.scandir(place) as items:
                for item in list(items):
                    path = f"{folder}/{item.name}" if folder else item.name
                    if path in self._folders and item.is_dir(follow_symlinks=False):
                        pending.append(path)
                    elif path not in self._snapshot or item.is_dir(follow_symlinks=False):
                        remove(Path(item.path))
        return kept

    def restore(self) -> None:
        """Write every file that is not exactly as in the store; replace whatever stands in its way, leave the rest."""
        detach_mounts(self.folder)  # a program of root's without a jail can leave some: nothing is written into them
        for path in sorted(self._folders):  # parents first: nothing is ever written through a link
            self._restore_folder(path)
        stale: dict[str, list[str]] = {}
        for path, entry in self._snapshot.items():
            if not self._is_untouched(path, entry):
                stale.setdefault(entry.blob, []).append(path)
        if not stale:
            return
        for blob, content in self._read(stale):
            first, *others = stale[blob]
            self._write(first, content)
            for path in others:
                self._write(path, _read_chunks(self._locate(first)))
        newest = 0
        for path in (path for paths in stale.values() for path in paths):
            signature = _sign(os.lstat(self._locate(path)))
            self._written[path] = _Written(self._snapshot[path], signature)
            newest = max(newest, signature[-1])
        _wait_for_tick(newest)

    def _read(self, blobs: Iterable[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        stored = []
        for blob in blobs:
            if blob in self._beside:
                yield blob, iter([self._beside[blob]])
            else:
                stored.append(blob)
        yield from self._store.stream(stored)

    def recall(self, path: str, status: os.stat_result) -> Entry | None:
        """Give what was written at *path* if a file there with *status* must still be that."""
        written = self._written.get(path)
        is_same = written is not None and written.signature == _sign(status) and self._is_stamped()
        return written.entry if written is not None and is_same else None

    def find_changes(self) -> Iterator[str]:
        """Name what :meth:`restore` would write again, and files and links that are not of the snapshot."""
        yield from (path for path, entry in self._snapshot.items() if not self._is_untouched(path, entry))
        for folder, names, files in os.walk(self._place):
            links = (name for name in names if os.path.islink(f"{folder}/{name}"))
            paths = (os.path.relpath(f"{folder}/{name}", self._place) for name in (*files, *links))
            yield from (path for path in paths if path not in self._snapshot)

    def _locate(self, path: str) -> str:
        return f"{self._place}/{path}" if path else self._place

    def _is_untouched(self, path: str, entry: Entry) -> bool:
        written = self._written.get(path)
        if written is None or written.entry != entry:
            return False
        file = self._locate(path)
        try:
            if _sign(os.lstat(file)) != written.signature:
                return False
        except OSError:
            return False
        return entry.mode == "120000" or self._is_stamped() or _hash(entry.size, _read_chunks(file)) == entry.blob

    def _is_stamped(self) -> bool:
        if self._stamps is None:
            self._stamps = _stamps_every_write(os.path.dirname(self._place))
        return self._stamps

    def _restore_folder(self, folder: str) -> None:
        place = self._locate(folder)
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISDIR(status.st_mode):
                if status.st_mode & 0o700 != 0o700:
                    os.chmod(place, 0o755)
                return
            remove(Path(place))
        os.mkdir(place)
        made = _read_folder(place)
        assert made is not None
        self._made[folder] = made

    def _write(self, path: str, content: Iterator[bytes]) -> None:
        file = self._locate(path)
        remove(Path(file))
        mode = self._snapshot[path].mode
        if mode == "120000":
            os.symlink(b"".join(content), os.fsencode(file))
            return
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            for chunk in content:
                stream.write(chunk)
            os.fchmod(descriptor, PERMISSIONS[mode])


def _folders_of(path: str) -> Iterator[str]:
    end = path.find("/")
    while end > 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _sign(status: os.stat_result) -> Signature:
    return (status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read_folder(place: str) -> _Folder | None:
    """Read what tells the folder at *place* from others; ``None`` when there is none."""
    try:
        status = os.lstat(place)
    except OSError:
        return None
    return _Folder(
        device=status.st_dev,
        inode=status.st_ino,
        mode=status.st_mode,
        owner=status.st_uid,
        group=status.st_gid,
        flags=read_flags(place),
        attributes=tuple(_read_attributes(place)),
    )


def _read_attributes(place: str) -> Iterator[tuple[str, bytes]]:
    """Read the extended attributes; default access rights for new files are one."""
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # a file system without them
            for name in sorted(os.listxattr(place, follow_symlinks=False)):
                yield name, os.getxattr(place, name, follow_symlinks=False)


def _stamps_every_write(folder: str) -> bool:
    """Try whether the file system of *folder* stamps a file that is written through a mapping of it.

    That of memory, which /tmp often is, does not when the page had been read before.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"0")
        file.flush()
        os.utime(file.fileno(), ns=(0, 0))
        with mmap.mmap(file.fileno(), 1) as mapped:
            mapped[0] += 1
        return os.fstat(file.fileno()).st_mtime_ns != 0


def _hash(size: int, content: Iterable[bytes]) -> str:
    """Give the id that git has for *content*, *size* bytes in chunks (gitformat-loose(5))."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in content:
        digest.update(chunk)
    return digest.hexdigest()


def _read_chunks(file: str) -> Iterator[bytes]:
    if os.path.islink(file):
        yield os.readlink(os.fsencode(file))
        return
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk


def _wait_for_tick(newest: int) -> None:
    """Wait until the clock that stamps files has passed *newest* (ns), so that a later change gets a later stamp.

    The kernel stamps with its coarse clock, 1 to 10 ms a tick (clock_getres(2)).
    """
    if hasattr(time, "CLOCK_REALTIME_COARSE"):
        limit = time.monotonic() + 0.1
        while time.clock_gettime_ns(time.CLOCK_REALTIME_COARSE) <= newest and time.monotonic() < limit:
            time.sleep(0.001)
