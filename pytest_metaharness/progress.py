"""What a running trial is doing, told from its journal: a line per finished candidate, on a terminal a status line."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from .core.gate import format_objective
from .core.processes.interrupts import SIGNALS
from .core.runfolder import JOURNAL_FILE, decode_object
from .plugin import RECORD, get_options, get_session_name
from .reports import escape
from .screen import Screen, cut, measure_width

NAME = "metaharness-progress"
TICK_S = 1.0
SHOW_AFTER_S = 2.0
"""Shorter trials need no status line."""
TURN_S = 3.0
"""Of several trials that run at once the status line shows one after the other, each this long."""
LONGEST_REASON = 60
"""Columns of a reason in a line; the report has the whole."""
AGENT = "agent"
LEAST_TITLE = 12
"""Columns of a trial's name that say something."""


class Standing:
    """Where one trial stands, by the events of its journal so far. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self.nodeid = self.title = ""
        self.budget = 0
        self.started = self._since = 0.0
        self._proposal = 0
        self._doing = ""
        self._best: str | None = None
        self.is_over = False

    def take(self, event: dict[str, Any]) -> str | None:
        """Take in the next event, and give what a log should say of it, if anything."""
        kind = event["event"]
        self._since = event["time"]
        if kind == "run":
            self.nodeid, self.budget, self.started = event["nodeid"], event["budget"], event["time"]
            self.title = name_trial(**{key: event[key] for key in ("nodeid", "target", "backend", "trial")})
            return f"started, {self.budget} proposal{'' if self.budget == 1 else 's'} at most"
        if kind == "proposal-started":
            self._proposal = int(event["candidate"][1:])
            self._doing = AGENT
        elif kind == "waiting":
            self._proposal = int(event["candidate"][1:])
            self._doing = f"waiting for {escape(event['backend'])}"
        elif kind == "proposal-refused":
            self._doing = "service unavailable, waiting"
        elif kind == "proposal-repeated":
            self._doing = AGENT
        elif kind == "proposal-ended":
            self._doing = ""
        elif kind == "check-started":
            self._doing = f"check {event['number']}/{event['checks']} {escape(event['check'])}"
        elif kind == "candidate":
            return self._take_candidate(event["candidate"])
        elif kind == "end":
            self.is_over = True
        return None

    def _take_candidate(self, candidate: dict[str, Any]) -> str:
        self._doing = ""
        outcome, objective = candidate["outcome"], candidate["objective"]
        if outcome in {"baseline", "keep"}:
            self._best = format_objective(objective)
        reason = cut(_first_line(candidate["reason"]), LONGEST_REASON)
        measured = f": {reason}" if objective is None else f" {format_objective(objective)}"
        standing = "" if outcome == "baseline" else f" (best {self._best})"
        return f"{candidate['id']} {outcome}{measured}{standing}  {format_duration(candidate['duration_s'])}"

    def describe(self, now: float, *, briefly: bool = False) -> str:
        """Say what the trial is doing, for how long, and how good its best candidate is."""
        number = f"{self._proposal}/{self.budget}"
        told = "baseline" if self._proposal == 0 else number if briefly else f"proposal {number}"
        if self._doing:
            at_work = " at work" if self._doing == AGENT and not briefly else ""
            told += f"{' ' if briefly else ', '}{self._doing}{at_work} {format_duration(now - self._since)}"
        return f"{told}; best {self._best}" if self._best else told


def name_trial(*, nodeid: str, target: str, backend: str, trial: int) -> str:
    """Name a trial in few letters: its target and backend, with the trial's number where its node id has it."""
    numbered = f"{backend}-t{trial}"
    return escape(f"{target}::{numbered if numbered in nodeid.rpartition('::')[2] else backend}")


def format_duration(seconds: float) -> str:
    """Spell a duration as a clock does."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _first_line(text: str) -> str:
    return escape(text.strip().partition("\n")[0])


def compose_status(title: str, forms: Sequence[str], width: int) -> str:
    """Put a status line of at most *width* columns together, in the first of *forms* that leaves *title* some room."""
    for doing in forms:
        room = width - measure_width(doing) - 2
        if room >= min(measure_width(title), LEAST_TITLE):
            return f"{cut(title, room)}  {doing}"
    return cut(forms[-1], width)


class Journal:
    """A journal that grows while it is read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = 0
        self.standing = Standing()

    def read(self) -> Iterator[dict[str, Any]]:
        """Give the events that were added since the last time; a line that is not complete waits.

        :raises OSError: the journal is gone.
        """
        with self._file.open("rb") as stream:
            stream.seek(self._offset)
            lines = stream.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            self._offset += len(line)
            if event := decode_object(line):
                yield event


# ----------------------------------------------------------------------------------------------------- the session


def start_progress(config: pytest.Config) -> None:
    """Begin to tell of running trials, once, in the process that prints; where nothing can be told, do nothing."""
    manager = config.pluginmanager
    reporter = manager.get_plugin("terminalreporter")
    if reporter is None or config.getoption("collectonly") or manager.has_plugin(NAME):
        return
    screen = Screen(reporter)
    is_search = get_options(config).names != ("baseline",)
    if screen.has_status or (is_search and config.get_verbosity() >= 0):
        manager.register(Progress(config, reporter, screen), NAME)
    else:
        screen.close()


class Progress:
    """Reads the session's journals every second, in a thread, and tells what is new.

    With a terminal a status line shows what the trials are doing. Without one every finished candidate of a search
    gets a line, and its start too where several run at once; none with ``-q``.
    """

    def __init__(self, config: pytest.Config, reporter: pytest.TerminalReporter, screen: Screen) -> None:
        self._reporter, self._screen = reporter, screen
        self._folder = get_options(config).directory / get_session_name(config)
        self._is_parallel = config.pluginmanager.has_plugin("dsession")
        self._journals: dict[Path, Journal] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they are to wake the main thread, which handles them
        while not self._stopping.wait(TICK_S):
            self._refresh()

    def stop(self) -> None:
        """End the thread, tell what is left and leave the terminal to pytest."""
        self._stopping.set()
        self._thread.join()
        self._refresh()
        self._close()

    def _close(self, *, erase: bool = True) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            self._screen.close(erase=erase)

    def _refresh(self) -> None:
        """Read what the journals have gained and show it."""
        if not self._screen.is_open:
            return
        try:
            with self._screen.lock:
                for file in sorted(self._folder.glob(f"*/{JOURNAL_FILE}")):
                    self._read(self._journals.setdefault(file, Journal(file)))
                if self._screen.has_status:
                    self._screen.show(self._compose(time.time()))
        except OSError:  # the terminal or the disk is gone, which is for pytest to say
            self._stopping.set()

    def _read(self, journal: Journal) -> None:
        standing = journal.standing
        for event in journal.read():
            try:
                told = standing.take(event)
            except (KeyError, TypeError, ValueError):  # not written by us, or damaged: it tells nothing
                continue
            is_wanted = standing.budget > 0 and (self._is_parallel or event["event"] != "run")
            if told and is_wanted and not self._screen.has_status:
                self._screen.print_line(f"metaharness: {standing.title}  {told}")

    def _compose(self, now: float) -> str:
        standings = [journal.standing for journal in self._journals.values()]
        running = [one for one in standings if not one.is_over and 0 < one.started <= now - SHOW_AFTER_S]
        if not running:
            return ""
        turn = int(now / TURN_S) % len(running)
        shown = running[turn]
        count = f"[{turn + 1}/{len(running)}] " if len(running) > 1 else ""
        forms = (count + shown.describe(now), shown.describe(now, briefly=True))
        return compose_status(shown.title, forms, self._screen.find_width())

    # ------------------------------------------------------------------------------------------------ pytest's hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell of a trial's last candidates before its result is shown."""
        if hasattr(report, RECORD):
            self._refresh()
        if report.when != "setup":  # also a trial whose worker died is over
            for journal in self._journals.values():
                if journal.standing.nodeid == report.nodeid:
                    journal.standing.is_over = True
        if self._screen.ends_with_line and not (report.passed and report.when != "call"):
            self._repeat_path(report.nodeid)

    def _repeat_path(self, nodeid: str) -> None:
        """Write again what stands before a result, now that lines of ours came between them."""
        if self._reporter.showfspath and not self._reporter.showlongtestinfo:
            self._reporter.currentfspath = None
            self._reporter.write_fspath_result(nodeid, "")

    def pytest_enter_pdb(self) -> None:
        """Leave the terminal to the debugger, for good; it has written below the status line already."""
        self._stopping.set()
        self._thread.join()
        self._close(erase=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Leave the terminal to the summary."""
        self.stop()

    def pytest_unconfigure(self) -> None:
        """End the thread also when the session broke off."""
        self.stop()
