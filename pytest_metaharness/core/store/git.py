"""Git as a program: where it is, and a reader of one repository's blobs (git-cat-file(1))."""

from __future__ import annotations

import shutil
from typing import IO, TYPE_CHECKING

from ..errors import MetaharnessError, StoreError
from .snapshot import CHUNK

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence

BATCH = 200
"""Objects asked for before their answers are read: 200 requests of 41 bytes fit any pipe (pipe(7): 4096 or more)."""


def find_git() -> str:
    """Give the path of the program.

    :raises StoreError: there is none.
    """
    git = shutil.which("git")
    if git is None:
        raise StoreError("git was not found on PATH: install it; candidates are stored as git commits")
    return git


class BlobReader:
    """Reads blobs through one ``git cat-file --batch``, which *start* starts when the first is asked for.

    *where* is the repository as an *error* names it.
    """

    def __init__(
        self, start: Callable[[], subprocess.Popen[bytes]], *, where: str, error: type[MetaharnessError]
    ) -> None:
        self._start = start
        self._where = where
        self._error = error
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the program."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def stream(self, blobs: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Give each of *blobs* with its content in chunks; what is not read of one is passed over.

        :raises MetaharnessError: one is missing or damaged.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        is_done = False
        try:
            for start in range(0, len(blobs), BATCH):
                batch = blobs[start : start + BATCH]
                self._ask(stdin, batch)
                for blob in batch:
                    header = stdout.readline().split()
                    if len(header) != 3 or header[1] != b"blob":
                        message = f"{self._where}: object {blob} is missing or damaged"
                        raise self._error(message)
                    content = self._read_exactly(stdout, int(header[2]))
                    yield blob, content
                    for _ in content:
                        pass
                    stdout.read(1)  # the newline after each content
            is_done = True
        finally:
            if not is_done:  # answers are left in the pipe
                self.close()

    def _ask(self, stdin: IO[bytes], blobs: Sequence[str]) -> None:
        try:
            stdin.write("".join(f"{blob}\n" for blob in blobs).encode("ascii"))
            stdin.flush()
        except BrokenPipeError as error:
            message = f"{self._where}: git ended before it gave an object"
            raise self._error(message) from error

    def _read_exactly(self, stream: IO[bytes], size: int) -> Iterator[bytes]:
        left = size
        while left:
            chunk = stream.read(min(CHUNK, left))
            if not chunk:
                message = f"{self._where}: git ended in the middle of an object"
                raise self._error(message)
            left -= len(chunk)
            yield chunk
