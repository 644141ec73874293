"""Pytest's terminal, shared: lines between its own, and a status line below, from any thread, even while capturing."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import unicodedata
from typing import TextIO

import pytest

UP = "\x1b[A"
RIGHT = "\x1b[{}C"
CLEAR = "\x1b[K"
"""Clears from the cursor to the end of the line."""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """What pytest writes through its reporter takes the status line away first; other output is not seen here.

    Until :meth:`close` the reporter's writer is ours. Hold *lock* to write several things as one. Methods that write
    raise ``OSError`` when the terminal is gone.
    """

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self.lock = threading.RLock()
        self._reporter = reporter
        self._writer = reporter.config.get_terminal_writer()
        self._write_raw = self._writer.write_raw
        capture = reporter.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            reporter.flush()
            self._real = _duplicate(sys.stdout)
        self.is_open = True
        self._is_ours = False
        self._status = ""
        self._column = max(0, self._writer.width_of_current_line)
        self.ends_with_line = False
        """Whether a line of ours is the last thing written: pytest then continues in a new line."""
        self.has_status = self._real is not None and self._can_rewrite(self._real)
        """Whether a status line can be shown at all."""
        self._writer.write_raw = self._write  # type: ignore[method-assign]  # all that the reporter writes goes there

    def _can_rewrite(self, stream: TextIO) -> bool:
        """Tell whether the terminal understands rewriting, and whether nothing but the reporter writes to it."""
        return (
            stream.isatty()
            and os.environ.get("TERM", "dumb") != "dumb"
            and not (os.environ.get("CI") or os.environ.get("BUILD_NUMBER"))  # as pytest knows CI
            and self._reporter.config.getoption("capture") not in {"no", "tee-sys"}
            and type(self._reporter) is pytest.TerminalReporter  # another one may move the cursor too
        )

    def close(self, *, erase: bool = True) -> None:
        """Give the writer back; with *erase* take the status line away, which needs the cursor to be at it."""
        with self.lock:
            try:
                if erase:
                    self._erase()
            finally:
                vars(self._writer).pop("write_raw", None)
                self.is_open = self.has_status = self.ends_with_line = False
                self._status = ""
                real, self._real = self._real, None
                if real is not None:
                    real.close()

    # -------------------------------------------------------------------------------------------------- whole lines

    def print_line(self, text: str) -> None:
        """Write a line between those of pytest."""
        with self.lock:
            self._is_ours = True
            try:
                self._reporter.ensure_newline()
                if self._column:
                    self._writer.line()
                self._writer.line(text)
            finally:
                self._is_ours = False

    def _write(self, msg: str, *, flush: bool = False) -> None:  # noqa: ARG002 - we may write at any time: always flush
        with self.lock:
            self._erase()
            if self._is_ours:
                self._emit(msg)
            elif msg != "\n" or not self.ends_with_line:  # else it would end the line that ours ended already
                self._write_raw(msg, flush=True)
            self.ends_with_line = self._is_ours and msg.endswith("\n")
            self._follow(msg)

    def _follow(self, text: str) -> None:
        """Keep track of the cursor; the writer's own count knows no carriage return."""
        plain = COLOUR.sub("", text)
        line = re.split(r"[\r\n]", plain)[-1]
        self._column = measure_width(line) + (self._column if line == plain else 0)

    def _emit(self, text: str) -> None:
        """Write past the capturing of the test that runs."""
        if self._real is None:
            self._write_raw(text, flush=True)
        else:
            self._real.write(text)
            self._real.flush()

    # -------------------------------------------------------------------------------------------------- status line

    def find_width(self) -> int:
        """Give the columns that a status line may have; it must not reach the last, where terminals wrap."""
        wanted = os.environ.get("COLUMNS", "")
        limit = int(wanted) if wanted.isdecimal() and int(wanted) else sys.maxsize
        return min(self._measure_terminal(), limit) - 1

    def _measure_terminal(self) -> int:
        assert self._real is not None
        return os.get_terminal_size(self._real.fileno()).columns or 80

    def show(self, text: str) -> None:
        """Show *text* as the status line, in place of the one before; nothing takes it away."""
        with self.lock:
            if not self.has_status or text == self._status:
                return
            if not text:
                self._erase()
                return
            start = "\r" if self._status else "\n" if self._column else ""
            self._emit(f"{start}{cut(self._spell(text), self.find_width())}{CLEAR}")
            self._status = text

    def _spell(self, text: str) -> str:
        """Give *text* in the letters that the terminal has."""
        assert self._real is not None
        return text.encode(self._real.encoding, "backslashreplace").decode(self._real.encoding)

    def _erase(self) -> None:
        """Take the status line away and put the cursor where pytest left it."""
        if not self._status:
            return
        self._status = ""
        back = f"\r{CLEAR}"
        if self._column:
            column = self._column % self._measure_terminal()
            back += UP + (RIGHT.format(column) if column else "")
        self._emit(back)


def _duplicate(stream: TextIO) -> TextIO | None:
    """Give *stream* a second way to where it leads now; ``None`` when that is no file."""
    try:
        descriptor = os.dup(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    return os.fdopen(descriptor, "w", encoding=stream.encoding, errors="backslashreplace", newline="")


def cut(text: str, width: int) -> str:
    """Shorten *text* to *width* columns, with dots where something is missing."""
    if measure_width(text) <= width:
        return text
    while text and measure_width(text) > width - 2:
        text = text[:-1]
    return f"{text}.."[: max(width, 0)]


def measure_width(text: str) -> int:
    """Give the columns that printable *text* takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(char) in "FW" for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in {"Mn", "Me", "Cf"} for char in text)
