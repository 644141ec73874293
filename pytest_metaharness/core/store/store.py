"""The session's store: one bare git repository in which every candidate is a commit.

Git is used as a program (https://git-scm.com/docs/git-fast-import, git-cat-file): content goes in and out byte for
byte, no user or system configuration is read, no filter, hook or automatic gc runs. Writers of several workers take
turns under a lock, so that identical content is stored once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from ..errors import StoreError, explain_system_error
from ..processes.process import start_tool
from .git import BlobReader, find_git
from .snapshot import CHUNK, Entry, Snapshot, diff_snapshots, open_regular, show_path

if TYPE_CHECKING:
    import subprocess

CONFIG = """\
[core]
	bigFileThreshold = 1m
	compression = 1
	fsync = none
	protectNTFS = false
	protectHFS = false
	quotePath = true
[gc]
	auto = 0
[maintenance]
	auto = false
"""
ATTRIBUTES = {
    "attributes": "* -text -eol -crlf -ident -filter -merge -working-tree-encoding\n",
    "attributes-text": "* diff\n",
    "attributes-binary": "* -diff\n",
}
"""Files in ``info/``: what always holds, and how patches are made."""

LARGE_CHANGE = 2_000_000
"""Bytes from which on a patch holds whole files: comparing lines may take time that grows with the square of them."""

Pack = Generator[bytes, None, None]
"""Chunks of a pack (gitformat-pack(5))."""

LARGE, DENSE = 16 << 20, 0.9
"""Bytes of a file for which it matters whether it can be compressed; and what share of it then is left at least."""

MARGIN = 1 << 20
"""Bytes; a disk that has no room for so many is full."""

AUTHOR = "pytest-metaharness <metaharness@localhost>"


class Store:
    """Reads and writes snapshots in the bare repository at *folder*; made when it is not there.

    :raises StoreError: git is missing, or *folder* holds something else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._git = find_git()
        self._reader = BlobReader(lambda: self._start("cat-file", "--batch"), where=str(folder), error=StoreError)
        if not (folder / "HEAD").exists():
            self._create()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the reading process."""
        self._reader.close()

    # ------------------------------------------------------------------------------------------------ writing

    def commit(
        self,
        ref: str,
        snapshot: Snapshot,
        *,
        source: Path,
        message: str,
        parent: tuple[str, Snapshot] | None = None,
    ) -> None:
        """Store *snapshot*, whose files lie in the folder *source*, as a commit that the branch *ref* names.

        *parent* is the branch of the parent commit with its snapshot; only what differs from it is read and written.

        :raises StoreError: git refused, the disk is full, or a file of *source* is no longer what was scanned.
        """
        old: Snapshot = parent[1] if parent else {}
        changed = diff_snapshots(old, snapshot)
        with self._lock():
            written = {path: snapshot[path] for path in changed if path in snapshot}
            is_quick = parent is not None and sum(entry.size for entry in written.values()) <= CHUNK
            known = set() if is_quick else self._known({entry.blob for entry in written.values()})
            # of little it makes loose objects, as always; much it would compress once more to make these of its pack
            pack = () if is_quick else ("-c", "fastimport.unpackLimit=1", *_choose_compression(source, written, known))
            arguments = ("fast-import", "--quiet", "--force", "--done", "--date-format=now", "--depth=0")
            with self._feeding(*pack, *arguments, purpose="store a candidate") as stream:
                _write_commit(
                    stream,
                    head=(ref, message, parent[0] if parent else None),
                    deleted=[path for path in changed if path not in snapshot],
                    written=written,
                    known=known,
                    source=source,
                )

    def take_blobs(self, blobs: AbstractSet[str], pack: Callable[[Sequence[str]], Pack]) -> None:
        """Store blobs of another repository; *pack* gives those that are not known yet as one pack, in chunks.

        :raises StoreError: git refused, or the disk is full.
        """
        with self._lock():
            unknown = sorted(blobs - self._known(blobs))
            if not unknown:
                return
            feeding = self._feeding("index-pack", "--stdin", purpose="store a baseline")
            with feeding as stream, contextlib.closing(pack(unknown)) as chunks:
                for chunk in chunks:
                    stream.write(chunk)

    def write_patch(
        self, old: tuple[str, Snapshot], new: tuple[str, Snapshot], to: BinaryIO, *, folder: str = "."
    ) -> None:
        """Write what `git apply` needs to make the branch *old* into *new*, where their files lie below *folder*.

        Of each the name and the snapshot are given. The patch has lines, or whole files when the change is large.
        """
        below = "" if folder == "." else f"{folder}/"
        trees = (old[1], new[1])
        changed = (tree[path].size for path in diff_snapshots(*trees) for tree in trees if path in tree)
        kind = "binary" if sum(changed) >= LARGE_CHANGE else "text"
        process = self._start(
            "-c", f"core.attributesFile={self.folder / 'info' / f'attributes-{kind}'}",
            "diff", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color",
            f"--src-prefix=a/{below}", f"--dst-prefix=b/{below}",
            f"refs/heads/{old[0]}", f"refs/heads/{new[0]}", "--",
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdin = None
        shutil.copyfileobj(process.stdout, to, CHUNK)
        self._finish(process, "write a patch")

    def name(self, ref: str, existing: str) -> None:
        """Let the branch *ref* name the commit of the branch *existing* too."""
        self._run("update-ref", f"refs/heads/{ref}", f"refs/heads/{existing}")

    # ------------------------------------------------------------------------------------------------ reading

    def read(self, blob: str) -> bytes:
        """Give the content of one blob."""
        (content,) = [b"".join(chunks) for _, chunks in self.stream([blob])]
        return content

    def stream(self, blobs: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Give each of *blobs* with its content in chunks; what is not read of one is passed over."""
        return self._reader.stream(blobs)

    def _known(self, blobs: AbstractSet[str]) -> set[str]:
        if not blobs:
            return set()
        listing = self._run("cat-file", "--batch-check", stdin="".join(f"{blob}\n" for blob in sorted(blobs)))
        return {line.split()[0] for line in listing.splitlines() if not line.endswith(" missing")}

    # ------------------------------------------------------------------------------------------------ the program

    def _start(self, *arguments: str, folder: Path | None = None) -> subprocess.Popen[bytes]:
        at = folder or self.folder
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_DIR": str(at),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "HOME": str(at),
            "XDG_CONFIG_HOME": str(at),
            "LC_ALL": "C",
        }
        return start_tool((self._git, *arguments), cwd=at, env=environment)

    @contextlib.contextmanager
    def _feeding(self, *arguments: str, purpose: str) -> Iterator[IO[bytes]]:
        """Give what git reads; when the block raises, git is ended before it has stored anything."""
        process = self._start(*arguments)
        assert process.stdin is not None
        try:
            yield process.stdin
        except BrokenPipeError:
            pass  # git says why below
        except BaseException:
            process.kill()
            process.communicate()
            raise
        self._finish(process, purpose)

    def _run(self, *arguments: str, stdin: str = "", folder: Path | None = None) -> str:
        process = self._start(*arguments, folder=folder)
        output, errors = process.communicate(stdin.encode("ascii"))
        self._check(process.returncode, errors, " ".join(arguments[:1]))
        return output.decode("ascii", "replace")

    def _finish(self, process: subprocess.Popen[bytes], purpose: str) -> None:
        _, errors = process.communicate()
        self._check(process.returncode, errors, purpose)

    def _check(self, returncode: int, errors: bytes, purpose: str) -> None:
        if returncode:
            self._check_space()
            lines = errors.decode("utf-8", "replace").strip().splitlines() or [f"exit code {returncode}"]
            message = f"{self.folder}: git could not {purpose}: {lines[0]}"
            raise StoreError(message)

    def _check_space(self) -> None:
        """See whether the disk is what git failed for: it does not always say so.

        :raises StoreError: it is.
        """
        try:
            with tempfile.TemporaryFile(dir=self.folder.parent) as file:  # there is no folder yet when it is made
                file.write(bytes(MARGIN))
        except OSError as error:
            error.filename = str(self.folder)
            raise StoreError(explain_system_error(error, self.folder)) from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / "metaharness.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _create(self) -> None:
        """Make the repository under a temporary name, then rename it: several workers start at once."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".store-", dir=self.folder.parent))
        try:
            self._run("init", "--bare", "--quiet", "--template=", "--initial-branch=main", folder=made)
            with (made / "config").open("a", encoding="ascii") as file:
                file.write(CONFIG)
            (made / "info").mkdir()
            for name, text in ATTRIBUTES.items():
                (made / "info" / name).write_text(text, encoding="ascii")
            made.chmod(0o755)
            try:
                made.rename(self.folder)
            except OSError:
                if not os.path.lexists(self.folder):  # else another worker was quicker
                    raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
        if not (self.folder / "HEAD").exists():
            message = f"{self.folder} is there, but is no session store"
            raise StoreError(message)


def _choose_compression(source: Path, written: Mapping[str, Entry], known: set[str]) -> tuple[str, ...]:
    """Switch compression off where the largest file is large and cannot be compressed: that would take most time."""
    new = ((entry.size, path) for path, entry in written.items() if entry.blob not in known and entry.mode != "120000")
    size, path = max(new, default=(0, ""))
    if size < LARGE:
        return ()
    sample = next(_read_source(source / path, written[path], path))
    is_dense = len(zlib.compress(sample, 1)) > DENSE * len(sample)
    return ("-c", "pack.compression=0") if is_dense else ()


def _write_commit(
    stream: IO[bytes],
    *,
    head: tuple[str, str, str | None],
    deleted: Sequence[str],
    written: Mapping[str, Entry],
    known: set[str],
    source: Path,
) -> None:
    write = stream.write
    ref, message, parent = head
    text = message.encode("utf-8", "replace")
    write(f"commit refs/heads/{ref}\ncommitter {AUTHOR} now\ndata {len(text)}\n".encode())
    write(text + b"\n")
    if parent is not None:
        write(f"from refs/heads/{parent}^0\n".encode())
    for path in deleted:  # first, so that a folder may become a file and a file a folder
        write(b"D %b\n" % _quote(path))
    for path, entry in written.items():
        if entry.blob in known:
            write(b"M %b %b %b\n" % (entry.mode.encode(), entry.blob.encode(), _quote(path)))
            continue
        write(b"M %b inline %b\ndata %d\n" % (entry.mode.encode(), _quote(path), entry.size))
        for chunk in _read_source(source / path, entry, path):
            write(chunk)
        write(b"\n")
    write(b"done\n")


def _read_source(file: Path, entry: Entry, path: str) -> Iterator[bytes]:
    left = entry.size
    try:
        if entry.mode == "120000":
            content = os.fsencode(os.readlink(file))  # noqa: PTH115 - keeps the bytes of the target
            left -= len(content)
            yield content
        else:
            with open_regular(file) as stream:
                while left > 0 and (chunk := stream.read(min(CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
    except OSError as error:
        message = f"{show_path(path)} cannot be read: {error.strerror}"
        raise StoreError(message) from error
    if left:
        message = f"{show_path(path)} changed while it was stored"
        raise StoreError(message)


def _quote(path: str) -> bytes:
    raw = os.fsencode(path)
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
