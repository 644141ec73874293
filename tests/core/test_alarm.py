from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType

import pytest

from pytest_metaharness.core.processes import alarm as alarm_module
from pytest_metaharness.core.processes.alarm import Alarm, Expired, alarm
from pytest_metaharness.core.processes.interrupts import postponed_interrupts


class Outer(BaseException):
    pass


class Inner(BaseException):
    pass


class Foreign(BaseException):
    pass


@pytest.fixture(autouse=True)
def timer_is_as_before() -> Iterator[None]:
    handler, (delay, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    yield
    assert signal.getsignal(signal.SIGALRM) is handler
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) is (delay > 0)


@pytest.fixture
def foreign() -> Iterator[Callable[..., None]]:
    """Set a timer as other code does, by its own handler, which raises Foreign."""

    def raise_foreign(signum: int, frame: FrameType | None) -> None:
        raise Foreign

    before = signal.signal(signal.SIGALRM, raise_foreign)
    delay, interval = signal.setitimer(signal.ITIMER_REAL, 0)

    def set_timer(delay: float, interval: float = 0.0) -> None:
        signal.setitimer(signal.ITIMER_REAL, delay, interval)

    yield set_timer
    assert signal.getsignal(signal.SIGALRM) is raise_foreign
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    if delay:
        signal.setitimer(signal.ITIMER_REAL, delay, interval)


def spin(seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)


def keep_busy(seconds: float) -> None:
    """Spin without a sleep; a function, since in Python 3.13 what a handler raises escapes from loops in a ``with``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass


def test_code_that_takes_too_long_is_interrupted() -> None:
    began = time.monotonic()
    with pytest.raises(Expired), alarm(0.1, Expired) as clock:
        spin()
    assert clock.expired
    assert time.monotonic() - began >= 0.1


def test_code_that_is_fast_enough_is_not() -> None:
    with alarm(0.1, Expired) as clock:
        pass
    spin(0.2)
    assert not clock.expired


def test_code_that_swallows_the_exception_gets_it_again() -> None:
    def swallow() -> None:
        with suppress(Expired):
            spin()
        spin()

    with pytest.raises(Expired), alarm(0.05, Expired):
        swallow()


def test_no_time_at_all_expires_at_once() -> None:
    with pytest.raises(Expired), alarm(0, Expired):
        spin()


def test_outer_alarm_fires_in_time_inside_an_inner_one() -> None:
    with pytest.raises(Outer), alarm(0.1, Outer) as outer, alarm(5, Inner) as inner:
        spin()
    assert (outer.expired, inner.expired) == (True, False)


def test_inner_alarm_fires_first_and_the_outer_one_goes_on() -> None:
    steps = []

    def work(outer: Alarm) -> None:
        with pytest.raises(Inner), alarm(0.05, Inner):
            spin()
        steps.append(outer.expired)
        spin()

    with pytest.raises(Outer), alarm(0.2, Outer) as outer:
        work(outer)
    assert steps == [False]
    assert outer.expired


def test_held_alarm_fires_after_a_leeway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm_module, "LEEWAY_S", 0.3)
    released = []

    def work(clock: Alarm) -> None:
        with clock.hold(), clock.hold():
            spin(0.15)
        released.append(time.monotonic())
        spin()

    with pytest.raises(Expired), alarm(0.05, Expired) as clock:
        work(clock)
    assert time.monotonic() - released[0] >= 0.3


def test_held_alarm_that_is_not_due_yet_keeps_its_time() -> None:
    began = time.monotonic()

    def work(clock: Alarm) -> None:
        with clock.hold():
            spin(0.05)
        spin()

    with pytest.raises(Expired), alarm(0.2, Expired) as clock:
        work(clock)
    assert time.monotonic() - began >= 0.2


def test_holding_an_inner_alarm_does_not_hold_the_outer_one() -> None:
    with pytest.raises(Outer), alarm(0.1, Outer), alarm(0.05, Inner) as inner, inner.hold():
        spin()


def test_foreign_timer_is_put_back_with_its_remaining_time(foreign: Callable[..., None]) -> None:
    foreign(0.4)
    began = time.monotonic()
    with pytest.raises(Expired), alarm(0.1, Expired):
        spin()
    assert 0.1 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.3
    with pytest.raises(Foreign):
        spin()
    assert time.monotonic() - began >= 0.4


def test_foreign_timer_fires_in_time_inside_an_alarm_and_only_once(foreign: Callable[..., None]) -> None:
    foreign(0.1)
    with pytest.raises(Foreign), alarm(5, Expired) as clock, clock.hold():
        spin()
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert not clock.expired


def test_foreign_timer_set_between_two_alarms_fires_in_time(foreign: Callable[..., None]) -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with alarm(5, Outer):
        ours = signal.signal(signal.SIGALRM, handler)
        foreign(0.1)
        with pytest.raises(Foreign), alarm(5, Inner):
            spin()
        assert signal.getsignal(signal.SIGALRM) is handler
        signal.signal(signal.SIGALRM, ours)


def test_periodic_foreign_timer_goes_on() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda signum, _: seen.append(signum))
    outer = signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with pytest.raises(Expired), alarm(0.3, Expired):
            spin()
        inside = len(seen)
        spin(0.2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)
        signal.signal(signal.SIGALRM, before)
    assert inside >= 3
    assert len(seen) > inside


def test_alarm_that_strikes_at_the_very_end_leaves_nothing_behind(foreign: Callable[..., None]) -> None:
    for attempt in range(200):
        foreign(60)
        try:
            with alarm(0.0005 + attempt * 1e-6, Expired):
                keep_busy(0.0005 + attempt * 1e-6)
        except Expired:
            pass
        assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60


def test_outside_the_main_thread_nothing_fires() -> None:
    results: list[bool] = []

    def work() -> None:
        with alarm(0.01, Expired) as clock, clock.hold():
            spin(0.1)
        results.append(clock.expired)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [False]


def test_postponed_alarm_is_raised_at_the_end_of_the_block() -> None:
    steps = []

    def work() -> None:
        with postponed_interrupts() as interrupts:
            spin(0.15)
            steps.append(type(interrupts.pending))
        steps.append(type(None))

    with pytest.raises(Expired), alarm(0.05, Expired):
        work()
    assert steps == [Expired]


def test_postponed_alarm_replaces_an_error_of_the_block() -> None:
    def work() -> None:
        with postponed_interrupts():
            spin(0.15)
            raise ValueError

    with pytest.raises(Expired) as caught, alarm(0.05, Expired):
        work()
    assert isinstance(caught.value.__context__, ValueError)


def test_second_interrupt_does_not_disturb_the_first() -> None:
    steps = []

    def work() -> None:
        with postponed_interrupts():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            steps.append("unharmed")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["unharmed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_alarm_inside_a_postponed_block_still_fires_at_its_end() -> None:
    def work() -> None:
        with postponed_interrupts(), alarm(0.05, Expired) as clock:
            spin(0.15)
            assert clock.expired

    with pytest.raises(Expired):
        work()
