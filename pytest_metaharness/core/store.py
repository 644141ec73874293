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
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO

from .errors import StoreError
from .process import start_tool
from .snapshot import CHUNK, Entry, Snapshot, diff_snapshots, open_regular, show_path

CONFIG = """\
[core]
	bigFileThreshold = 1m
	compression = 1
	protectNTFS = false
	protectHFS = false
	quotePath = true
[gc]
	auto = 0
[maintenance]
	auto = false
"""
ATTRIBUTES = "* -text -eol -crlf -ident -filter -diff=default -merge -working-tree-encoding\n* diff\n"
BATCH = 200
"""Objects asked for before their answers are read: 200 requests of 41 bytes fit any pipe (pipe(7): 4096 or more)."""

AUTHOR = "pytest-metaharness <metaharness@localhost>"


class Store:
    """Reads and writes snapshots in the bare repository at *folder*; made when it is not there.

    :raises StoreError: git is missing, or *folder* holds something else.
    """

    def __init__(self, folder: Path) -> None:
        git = shutil.which("git")
        if git is None:
            raise StoreError("git was not found on PATH: install it; candidates are stored as git commits")
        self.folder = folder
        self._git = git
        self._reader: subprocess.Popen[bytes] | None = None
        if not (folder / "HEAD").exists():
            self._create()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the reading process."""
        if self._reader is not None:
            self._reader.kill()
            self._reader.communicate()
            self._reader = None

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
            known = self._known({snapshot[path].blob for path in changed if path in snapshot})
            importer = self._start("fast-import", "--quiet", "--force", "--done", "--date-format=now")
            assert importer.stdin is not None
            try:
                _write_commit(
                    importer.stdin,
                    head=(ref, message, parent[0] if parent else None),
                    deleted=[path for path in changed if path not in snapshot],
                    written={path: snapshot[path] for path in changed if path in snapshot},
                    known=known,
                    source=source,
                )
            except BrokenPipeError:
                pass  # git says why below
            except BaseException:
                importer.kill()
                importer.communicate()
                raise
            self._finish(importer, "store a candidate")

    def write_patch(self, old: str, new: str, to: BinaryIO) -> None:
        """Write what `git apply` needs to make the branch *old* into the branch *new*."""
        process = self._start(
            "diff", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color",
            f"refs/heads/{old}", f"refs/heads/{new}", "--",
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
        """Give each of *blobs* with its content in chunks; a content must be used up before the next is asked for."""
        reader = self._open_reader()
        assert reader.stdin is not None
        assert reader.stdout is not None
        is_done = False
        try:
            for start in range(0, len(blobs), BATCH):
                batch = blobs[start : start + BATCH]
                reader.stdin.write("".join(f"{blob}\n" for blob in batch).encode("ascii"))
                reader.stdin.flush()
                for blob in batch:
                    header = reader.stdout.readline().split()
                    if len(header) != 3 or header[1] != b"blob":
                        message = f"{self.folder}: object {blob} is missing or damaged"
                        raise StoreError(message)
                    yield blob, _read_exactly(reader.stdout, int(header[2]))
                    reader.stdout.read(1)  # the newline after each content
            is_done = True
        finally:
            if not is_done:  # answers are left in the pipe
                self.close()

    def _open_reader(self) -> subprocess.Popen[bytes]:
        if self._reader is None or self._reader.poll() is not None:
            self._reader = self._start("cat-file", "--batch")
        return self._reader

    def _known(self, blobs: set[str]) -> set[str]:
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
            lines = errors.decode("utf-8", "replace").strip().splitlines() or [f"exit code {returncode}"]
            message = f"{self.folder}: git could not {purpose}: {lines[0]}"
            raise StoreError(message)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / "metaharness.lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _create(self) -> None:
        """Make the repository under a temporary name, then rename it: several workers start at once."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".store-", dir=self.folder.parent))
        self._run("init", "--bare", "--quiet", "--template=", "--initial-branch=main", folder=made)
        with (made / "config").open("a", encoding="ascii") as file:
            file.write(CONFIG)
        (made / "info").mkdir()
        (made / "info/attributes").write_text(ATTRIBUTES, encoding="ascii")
        made.chmod(0o755)
        try:
            made.rename(self.folder)
        except OSError as error:
            shutil.rmtree(made)
            if not (self.folder / "HEAD").exists():
                message = f"{self.folder} is there, but is no session store"
                raise StoreError(message) from error


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


def _read_exactly(stream: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = stream.read(min(CHUNK, left))
        if not chunk:
            raise StoreError("git ended in the middle of an object")
        left -= len(chunk)
        yield chunk
