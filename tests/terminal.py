"""A terminal for tests: programs run in it, and it knows what is to be read on its screen."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

PATIENCE_S = 60.0
_PIECES = re.compile(r"\x1b\[(?P<number>[0-9;]*)(?P<command>[A-Za-z])|(?P<control>[\r\n])|(?P<text>[^\x1b\r\n]+)")


class Terminal:
    """A terminal of *columns* columns that scrolls without end; it knows what pytest and we use, and no more."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.raw = ""
        self._rows: list[list[str]] = [[]]
        self._x = self._y = 0
        self._seen = 0
        self._screen, self._end = os.openpty()
        termios.tcsetwinsize(self._end, (50, columns))

    @property
    def rows(self) -> list[str]:
        """What is to be read, row by row."""
        return ["".join(row).rstrip() for row in self._rows]

    @contextlib.contextmanager
    def run(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program here; the block has to :meth:`follow` it to its end."""
        with subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=self._end, stdout=self._end, stderr=self._end, start_new_session=True
        ) as program:
            os.close(self._end)  # the program's is the last: when it ends, so does its output
            try:
                yield program
            finally:
                program.kill()
                os.close(self._screen)

    def follow(self, until: Callable[[], object] = lambda: False) -> bool:
        """Read what the program writes until *until* is true of the screen; ``False`` when it ended before."""
        deadline = time.monotonic() + PATIENCE_S
        while not until():
            ready, _, _ = select.select([self._screen], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"nothing happens any more on this screen: {self.rows}"
            try:
                self.raw += os.read(self._screen, 65536).decode()
            except OSError:  # Linux: nobody has the other end open
                return False
            self._draw()
        return True

    def _draw(self) -> None:
        complete = self.raw.rfind("\x1b", self._seen)
        end = len(self.raw) if complete < 0 or _PIECES.match(self.raw, complete) else complete
        while self._seen < end:
            piece = _PIECES.match(self.raw, self._seen)
            assert piece, f"unknown to this terminal: {self.raw[self._seen :][:20]!r}"
            self._seen = piece.end()
            if piece["control"]:
                self._x = 0 if piece["control"] == "\r" else self._x
                self._y += piece["control"] == "\n"
            elif piece["command"]:
                self._obey(piece["command"], piece["number"])
            for char in piece["text"] or "":
                self._put(char)

    def _obey(self, command: str, number: str) -> None:
        if command == "A":
            self._y = max(0, self._y - int(number or 1))
        elif command == "C":
            self._x = min(self.columns - 1, self._x + int(number or 1))
        elif command == "K":
            assert number == ""
            del self._row()[self._x :]
        else:
            assert command == "m", f"unknown to this terminal: {command!r}"

    def _put(self, char: str) -> None:
        if self._x == self.columns:  # a full line wraps with the next letter
            self._x, self._y = 0, self._y + 1
        row = self._row()
        row += " " * (self._x + 1 - len(row))
        row[self._x] = char
        self._x += 1

    def _row(self) -> list[str]:
        self._rows += ([] for _ in range(self._y + 1 - len(self._rows)))
        return self._rows[self._y]
