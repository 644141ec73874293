"""Ctrl-C, SIGTERM and SIGHUP: all three unwind a session in order, also when they come more than once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

REPEAT_S = 3.0
"""Whoever presses Ctrl-C twice means it once; whoever is still there after this time means it anew."""

interruption_key = pytest.StashKey["Interruption"]()


class Interruption:
    """The handler of these signals until the session ends: it raises ``KeyboardInterrupt``.

    Once that has struck a trial, whose record is then being closed, the signals of the next REPEAT_S seconds say
    nothing new. Tests that are no trials get every one.
    """

    def __init__(self) -> None:
        self.is_ending = False
        self._depth = 0
        self._struck = 0.0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        __tracebackhide__ = True  # pytest names the line that was interrupted
        now = time.monotonic()
        if self.is_ending and now - self._struck < REPEAT_S:
            return
        self._struck = now
        self.is_ending = self.is_ending or self._depth > 0
        name = () if number == signal.SIGINT else (signal.Signals(number).name,)
        raise KeyboardInterrupt(*name)

    def cover(self) -> None:
        """Take whatever strikes from now on as the end of the session."""
        self._depth += 1

    @contextlib.contextmanager
    def covering(self) -> Iterator[None]:
        """Take what strikes the block as the end of the session."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


def handle_interrupts(config: pytest.Config) -> Interruption:
    """Let all three signals unwind like Ctrl-C until the session ends; one that is ignored stays ignored."""
    if interruption_key in config.stash:
        return config.stash[interruption_key]
    handler = config.stash[interruption_key] = Interruption()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            previous = signal.getsignal(number)
            is_taken = number == signal.SIGINT and previous is not signal.default_int_handler  # somebody else's way
            if previous is not signal.SIG_IGN and not is_taken:
                signal.signal(number, handler)
                config.add_cleanup(_put_back(number, previous, handler))
    return handler


def _put_back(number: signal.Signals, previous: Any, handler: Interruption) -> Callable[[], None]:
    def put_back() -> None:
        if number != signal.SIGINT or not handler.is_ending:  # else a late Ctrl-C finds pytest on its way out
            signal.signal(number, previous)

    return put_back
