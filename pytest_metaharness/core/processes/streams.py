"""The standard streams of a program: fed and read at the same time, kept in bounded memory."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from functools import partial

import msgspec

from .descriptors import lift, open_pipe

Listener = Callable[[bytes], bool | None]
"""Takes a line, without its newline; gives ``True`` when that is enough of the program."""

LONGEST_LINE = 1 << 20
"""Longer lines are not given to ``on_line``, in bytes."""

_CHUNK = 1 << 16  # what a pipe holds


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning and the end of one stream; *dropped* is the number of bytes left out between them."""

    head: bytes
    tail: bytes
    dropped: int

    @property
    def total(self) -> int:
        """Count the bytes that the program wrote."""
        return len(self.head) + self.dropped + len(self.tail)

    def text(self) -> str:
        """Decode what was kept, with a line between its parts that says how much is missing."""
        if not self.dropped:
            return (self.head + self.tail).decode("utf-8", "replace")
        head, tail = (part.decode("utf-8", "replace") for part in (self.head, self.tail))
        return f"{head}\n[... {self.dropped} bytes left out ...]\n{tail}"


class _Kept:
    """Collects the beginning and the end of a stream in bounded memory."""

    def __init__(self, keep_bytes: int) -> None:
        self._half = keep_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > self._half + 4 * _CHUNK:
            self._trim()

    def give(self) -> Captured:
        self._trim()
        return Captured(head=bytes(self._head), tail=bytes(self._tail), dropped=self._dropped)

    def _trim(self) -> None:
        excess = max(0, len(self._tail) - self._half)
        del self._tail[:excess]
        self._dropped += excess


class _Lines:
    """Cuts a stream into lines; *is_enough* tells that its listener needs no more of the program."""

    def __init__(self, on_line: Listener) -> None:
        self.is_enough = False
        self._on_line = on_line
        self._line = bytearray()
        self._is_too_long = False

    def add(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._append(part)
            self._give()
        self._append(rest)

    def finish(self) -> None:
        if self._line:
            self._give()

    def _append(self, part: bytes) -> None:
        self._is_too_long = self._is_too_long or len(self._line) + len(part) > LONGEST_LINE
        if self._is_too_long:
            self._line.clear()
        else:
            self._line += part

    def _give(self) -> None:
        line, is_given = bytes(self._line), not self._is_too_long
        self._line.clear()
        self._is_too_long = False
        if is_given and self._on_line(line):
            self.is_enough = True


class Streams:
    """The pipes of one program and what came through them; *selector* calls what a ready one needs."""

    def __init__(
        self,
        *,
        stdin: bytes,
        merge_stderr: bool,
        keep_bytes: int,
        on_line: Listener | None = None,
        on_stderr_line: Listener | None = None,
    ) -> None:
        self.selector = selectors.DefaultSelector()
        self.kept = (_Kept(keep_bytes), _Kept(keep_bytes))
        self._lines = tuple(_Lines(listener) if listener else None for listener in (on_line, on_stderr_line))
        self._unsent = memoryview(stdin)
        stdout, stdout_given = open_pipe()
        self._ours = {stdout: 0}
        if merge_stderr:
            stderr_given = stdout_given
        else:
            stderr, stderr_given = open_pipe()
            self._ours[stderr] = 1
        self._stdin: int | None = None
        if stdin:
            stdin_given, self._stdin = open_pipe()
            os.set_blocking(self._stdin, False)
        else:
            stdin_given = lift(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        self.given = (stdin_given, stdout_given, stderr_given)
        self._unused = set(self.given)

    @property
    def is_enough(self) -> bool:
        """Whether a listener needs no more of the program."""
        return any(lines is not None and lines.is_enough for lines in self._lines)

    def listen(self) -> None:
        """Begin, now that the program has its ends."""
        self._close_given()
        for descriptor, number in self._ours.items():
            self.selector.register(descriptor, selectors.EVENT_READ, partial(self._read, descriptor, number))
        if self._stdin is not None:
            self.selector.register(self._stdin, selectors.EVENT_WRITE, self._write)

    def drain(self, deadline: float) -> None:
        """Read what is left, at most until *deadline*."""
        self._close_stdin()
        while self._ours and (left := deadline - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                key.data()
        for lines in self._lines:
            if lines:
                lines.finish()

    def close(self) -> None:
        """Close every pipe that is still open."""
        self.selector.close()
        self._close_given()
        for descriptor in (*self._ours, *([] if self._stdin is None else [self._stdin])):
            os.close(descriptor)

    def _read(self, descriptor: int, number: int) -> None:
        data = os.read(descriptor, _CHUNK)
        if not data:
            self.selector.unregister(descriptor)
            del self._ours[descriptor]
            os.close(descriptor)
        self.kept[number].add(data)
        if lines := self._lines[number]:
            lines.add(data)

    def _write(self) -> None:
        assert self._stdin is not None
        try:
            sent = os.write(self._stdin, self._unsent[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to read
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if not self._unsent:
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            self.selector.unregister(self._stdin)
            os.close(self._stdin)
            self._stdin = None

    def _close_given(self) -> None:
        for descriptor in self._unused:
            os.close(descriptor)
        self._unused.clear()
