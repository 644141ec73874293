"""Raise an exception in Python code that takes too long, and share the one timer of the process with whoever has it.

A process has one SIGALRM timer. What was set before (an alarm of ours, or for example pytest-timeout's) goes on while
an inner alarm has the timer, fires in time, and is put back with its remaining time.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .interrupts import Handler, find_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

REFIRE_S = 0.5
"""Code that swallowed the exception gets it again after this time."""

LEEWAY_S = 2.0
"""What is left after :meth:`Alarm.hold` to use the result of a program that ran until the deadline."""

_SOON_S = 1e-6  # a timer set to 0 would be off


class Expired(BaseException):
    """The time of the code inside an alarm is up. No ``Exception``, so that ``except Exception`` lets it pass."""


class Alarm:
    """One deadline; *expired* tells whether it fired."""

    def __init__(self, due: float, make: Callable[[], BaseException], outer: _Outer | None) -> None:
        self.expired = False
        self.is_over = False
        self.outer = outer
        self._due = due
        self._make = make
        self._holds = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Put firing off: the code inside has a deadline of its own.

        When the alarm became due meanwhile, it fires LEEWAY_S seconds after the end of the block. Other alarms are
        not put off.
        """
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            now = time.monotonic()
            if not self._holds and self._due <= now:
                self._due = now + LEEWAY_S
            _set_timer()

    def firings(self) -> Iterator[float]:
        """Give the times at which this alarm, and what it keeps running for somebody else, fire next."""
        if not self._holds and not self.is_over:
            yield self._due
        if self.outer is not None and self.outer.due is not None:
            yield self.outer.due

    def fire_due(self, frame: FrameType | None) -> None:
        """Fire what is due now; raises accordingly."""
        now = time.monotonic()
        if self.outer is not None and self.outer.due is not None and self.outer.due <= now:
            self.outer.fire(frame)
        if not self._holds and not self.is_over and self._due <= now:
            self.expired = True
            self._due = now + REFIRE_S
            _set_timer()
            raise self._make()


class _Outer:
    """The handler, and the timer if any, that somebody else had set when an alarm took over."""

    def __init__(self, handler: Handler, delay: float, interval: float) -> None:
        self.handler = handler
        self.due = time.monotonic() + delay if delay else None
        self.interval = interval
        self.is_back = False

    def fire(self, frame: FrameType | None) -> None:
        self.due = time.monotonic() + self.interval if self.interval else None
        _set_timer()
        if callable(self.handler):
            self.handler(signal.SIGALRM, frame)
        elif self.handler == signal.SIG_DFL:  # ends the process, as it would have without us
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGALRM)

    def put_back(self) -> None:
        if self.is_back:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.handler)
        self.is_back = True
        if self.due is not None:
            signal.setitimer(signal.ITIMER_REAL, max(self.due - time.monotonic(), _SOON_S), self.interval)


_alarms: list[Alarm] = []  # outermost first; only the main thread touches it


@contextmanager
def alarm(seconds: float, make: Callable[[], BaseException] = Expired) -> Iterator[Alarm]:
    """Raise ``make()`` in the block once it has taken *seconds*, and every REFIRE_S seconds until it is left.

    Outside the main thread, on a system without SIGALRM, and where code other than Python's handles that signal, the
    block runs without a limit: Python can be interrupted in its main thread only.
    """
    due = time.monotonic() + seconds
    if not _is_available():
        yield Alarm(due, make, None)
        return
    entered = Alarm(due, make, _take_over())
    _alarms.append(entered)
    try:
        _set_timer()
        yield entered
    finally:
        try:
            _leave(entered)
        finally:  # the alarm may have fired just before it was switched off; it will not do so twice in a row
            _leave(entered)


def _is_available() -> bool:
    return (
        threading.current_thread() is threading.main_thread()
        and hasattr(signal, "setitimer")
        and signal.getsignal(signal.SIGALRM) is not None
    )


def _take_over() -> _Outer | None:
    """Make the timer ours; gives what was there unless it is ours already."""
    if find_handler(signal.SIGALRM) is _on_alarm:
        return None
    delay, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    outer = _Outer(signal.getsignal(signal.SIGALRM), delay, interval)
    signal.signal(signal.SIGALRM, _on_alarm)
    return outer


def _leave(left: Alarm) -> None:
    left.is_over = True
    if left.outer is not None:
        left.outer.put_back()
    if left in _alarms:
        _alarms.remove(left)
    _set_timer()


def _set_timer() -> None:
    """Set the timer to what comes first, unless the timer is somebody else's."""
    if find_handler(signal.SIGALRM) is _on_alarm:
        soonest = min((due for each in _alarms for due in each.firings()), default=None)
        delay = 0.0 if soonest is None else max(soonest - time.monotonic(), _SOON_S)
        signal.setitimer(signal.ITIMER_REAL, delay)


def _on_alarm(_signum: int, frame: FrameType | None) -> None:
    for each in tuple(_alarms):  # the outermost first: it ends the inner ones too
        each.fire_due(frame)
    _set_timer()
