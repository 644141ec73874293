"""A snapshot as files on disk, and back again: exactly, whatever a program did to them meanwhile."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..folders import remove
from .snapshot import Snapshot
from .store import Store

PERMISSIONS = {"100644": 0o644, "100755": 0o755}

Signature = tuple[int, ...]


class Checkout:
    """The folder *folder*, which holds *snapshot* after :meth:`restore`.

    What other programs made there beside the snapshot's files stays. A file counts as untouched while its inode, mode,
    size and times are those it was written with: the change time cannot be set back by the file's owner. Where the file
    system does not stamp every write, the content must be the same too.
    """

    def __init__(self, folder: Path, snapshot: Snapshot, store: Store) -> None:
        self.folder = folder
        self._snapshot = snapshot
        self._store = store
        self._folders = sorted({parent for path in snapshot for parent in _folders_of(path)} | {""})
        self._signatures: dict[str, Signature] = {}

    def restore(self) -> None:
        """Write every file that is not exactly as in the store; replace whatever stands in its way."""
        for path in self._folders:  # parents first: nothing is ever written through a link
            _restore_folder(self.folder / path)
        reads_all = bool(self._signatures) and not _stamps_every_write(self.folder.parent)
        stale: dict[str, list[str]] = {}
        for path, entry in self._snapshot.items():
            file = self.folder / path
            signature = _read_signature(file)
            is_untouched = signature is not None and signature == self._signatures.get(path)
            if is_untouched and reads_all and entry.mode != "120000":
                is_untouched = _hash_blob(file, entry.size) == entry.blob
            if not is_untouched:
                stale.setdefault(entry.blob, []).append(path)
        for blob, content in self._store.stream(list(stale)):
            first, *others = stale[blob]
            self._write(first, content)
            for path in others:
                self._write(path, _read_chunks(self.folder / first))
        newest = 0
        for paths in stale.values():
            for path in paths:
                signature = _read_signature(self.folder / path)
                assert signature is not None
                self._signatures[path] = signature
                newest = max(newest, signature[-1])
        _wait_for_tick(newest)

    def find_changes(self) -> Iterator[str]:
        """Name what :meth:`restore` would write again, and files and links that are not of the snapshot."""
        yield from (path for path in self._snapshot if _read_signature(self.folder / path) != self._signatures[path])
        for folder, names, files in os.walk(self.folder):
            links = (name for name in names if Path(folder, name).is_symlink())
            paths = (Path(folder, name).relative_to(self.folder).as_posix() for name in (*files, *links))
            yield from (path for path in paths if path not in self._snapshot)

    def _write(self, path: str, content: Iterator[bytes]) -> None:
        file = self.folder / path
        remove(file)
        mode = self._snapshot[path].mode
        if mode == "120000":
            os.symlink(b"".join(content), os.fsencode(file))  # noqa: PTH211 - keeps the bytes of the target
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


def _restore_folder(folder: Path) -> None:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        folder.mkdir()
        return
    if not stat.S_ISDIR(status.st_mode):
        remove(folder)
        folder.mkdir()
    elif status.st_mode & 0o700 != 0o700:
        folder.chmod(0o755)


def _read_signature(file: Path) -> Signature | None:
    try:
        status = file.lstat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _stamps_every_write(folder: Path) -> bool:
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


def _hash_blob(file: Path, size: int) -> str:
    """Give the id that git has for the content of *file*, *size* bytes long (gitformat-loose(5))."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in _read_chunks(file):
        digest.update(chunk)
    return digest.hexdigest()


def _read_chunks(file: Path) -> Iterator[bytes]:
    if file.is_symlink():
        yield os.readlink(os.fsencode(file))  # noqa: PTH115 - keeps the bytes of the target
        return
    with file.open("rb") as stream:
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
