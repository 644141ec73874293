"""Let a stretch of code finish what must not be left half done when Ctrl-C, SIGTERM or an alarm strikes.

Blocking the signals would not do: another thread may receive them, and Python runs their handlers in the main thread
all the same. So the handlers themselves are wrapped.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)

Handler = Callable[[int, FrameType | None], Any] | int | None
_Callable = Callable[[int, FrameType | None], Any]


class Interrupts:
    """What struck meanwhile. *pending* is the first exception that a handler raised; *fileno* then is readable."""

    def __init__(self) -> None:
        self.pending: BaseException | None = None
        self.active = True
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """Give the descriptor to wait for, so that a wait ends at once."""
        return self._reading

    def note(self, struck: BaseException) -> None:
        """Keep the first exception: a second Ctrl-C says nothing new."""
        if self.pending is None:
            self.pending = struck
            os.write(self._writing, b"\0")

    def close(self) -> None:
        """From now on handlers do as they like."""
        self.active = False
        os.close(self._reading)
        os.close(self._writing)


class _Postponing:
    """Run a handler when its signal comes; keep what it raises for the end of the block."""

    def __init__(self, handler: _Callable, interrupts: Interrupts) -> None:
        self.handler = handler
        self.interrupts = interrupts

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if not self.interrupts.active:  # left in place by an exception that came while handlers were put back
            self.handler(signum, frame)
            return
        try:
            self.handler(signum, frame)
        except BaseException as struck:  # noqa: BLE001 - raised again at the end of the block
            self.interrupts.note(struck)


@contextmanager
def postponed_interrupts() -> Iterator[Interrupts]:
    """Postpone what the handlers of SIGNALS raise to the end of the block, where the first of it is raised.

    Handlers still run when their signal comes, so those that only take a note work as ever. Signals that are ignored,
    or that end the process, stay as they are. In other threads than the main one, which no signal interrupts, nothing
    is ever pending.
    """
    interrupts = Interrupts()
    wrapped: dict[signal.Signals, tuple[_Callable, _Postponing]] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                handler = signal.getsignal(signum)
                if callable(handler):
                    wrapped[signum] = handler, _Postponing(handler, interrupts)
                    signal.signal(signum, wrapped[signum][1])
        yield interrupts
    finally:
        interrupts.close()
        for signum, (handler, postponing) in wrapped.items():
            if signal.getsignal(signum) is postponing:
                signal.signal(signum, handler)
        if interrupts.pending is not None:
            raise interrupts.pending


def find_handler(signum: int) -> Handler:
    """Give the handler of *signum* as it was set, also while it is postponed."""
    handler = signal.getsignal(signum)
    while isinstance(handler, _Postponing):
        handler = handler.handler
    return handler
