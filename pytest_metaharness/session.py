"""The session as the controller sees it: reads the runs, writes the reports, prints, decides the exit status."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from .core.folders import remove_abandoned_folders
from .core.model import Run, RunStatus
from .core.processes.sandbox import choose_sandbox
from .core.runfolder import RUN_FILE, SCHEMA, read_run, write_atomically, write_json
from .options import read_sandbox_mode
from .plugin import RECORD, add_hooks, get_options, get_session_name
from .progress import start_progress
from .reports import (
    Report,
    describe_run,
    escape,
    format_summary,
    write_ledger,
    write_run_table,
)

KEPT_BASELINE_SESSIONS = 10
"""Unnamed sessions that only measured baselines are removed beyond these; searches never."""

SESSION_FILE = "session.json"
BASE_FILES = {
    ".gitignore": "*\n",
    "CACHEDIR.TAG": "Signature: 8a477f597d28d172789f06886806bc55\n# https://bford.info/cachedir/\n",
    "README.md": (
        "# Sessions of pytest-metaharness\n\n"
        "One folder per session: report.json, report.tsv and ledger.tsv, a folder per run, and store.git, in which\n"
        "every candidate is a commit: `git --git-dir store.git log --graph --branches`. Safe to delete.\n"
    ),
}

signals_key = pytest.StashKey[bool]()
noticed_key = pytest.StashKey[bool]()


def show_path_from(root: Path, path: Path) -> str:
    """Spell *path* relative to the root folder when it lies in there."""
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def name_item(item: pytest.Item) -> str:
    """Give the node id of *item*; pytest leaves the folder out of it when the file lies outside the root folder."""
    root = item.config.rootpath
    if item.path.is_relative_to(root):
        return item.nodeid
    return f"{Path(os.path.relpath(item.path, root)).as_posix()}::{item.nodeid.partition('::')[2]}"


def start_session(config: pytest.Config, *, will_run: bool) -> None:
    """Begin to report, once; with *will_run* also say at once what is not enforced."""
    add_hooks(config.pluginmanager)
    treat_signals_as_interrupt(config)
    if not config.pluginmanager.has_plugin("metaharness-controller"):
        config.pluginmanager.register(Controller(config), "metaharness-controller")
    if will_run:
        print_notice(config)
        start_progress(config)


def treat_signals_as_interrupt(config: pytest.Config) -> None:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C until the session ends; one that is ignored stays ignored."""
    if signals_key in config.stash or threading.current_thread() is not threading.main_thread():
        return
    config.stash[signals_key] = True

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP):
        previous = signal.getsignal(number)
        if previous is not signal.SIG_IGN:
            signal.signal(number, interrupt)
            config.add_cleanup(_put_back(number, previous))


def _put_back(number: signal.Signals, handler: Any) -> Callable[[], None]:
    def put_back() -> None:
        signal.signal(number, handler)

    return put_back


def print_notice(config: pytest.Config) -> None:
    """Say before the first trial what the sandbox does not enforce."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    notice = choose_sandbox(read_sandbox_mode(get_options(config))).notice
    if reporter is not None and notice and not config.getoption("collectonly") and noticed_key not in config.stash:
        config.stash[noticed_key] = True
        reporter.ensure_newline()
        reporter.write_line(f"metaharness: {escape(notice)}", yellow=True)


def open_session(config: pytest.Config) -> Path:
    """Make the session's folder where it is not there yet, and give it.

    :raises OSError: it cannot be made.
    """
    directory = get_options(config).directory
    folder = directory / get_session_name(config)
    if not (folder / SESSION_FILE).exists():
        remove_abandoned_folders()
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in BASE_FILES.items():
            if not (directory / name).exists():
                write_atomically(directory / name, text.encode())
        write_json(folder / SESSION_FILE, _describe_session(config, status="running"))
    return folder


def _describe_session(config: pytest.Config, *, status: str) -> dict[str, object]:
    options = get_options(config)
    return {
        "schema": SCHEMA,
        "session": get_session_name(config),
        "status": status,
        "named": options.name is not None,
        "backends": [name for name in options.names if name != "baseline"],
    }


class Controller:
    """Reports the runs of a session; registered where reports arrive, when there are targets."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._records: list[str] = []
        self._runs: tuple[Run, ...] = ()
        self._folder = get_options(config).directory / get_session_name(config)
        self._problems: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say what is not enforced, now that trials are known to follow in this process."""
        if any(item.get_closest_marker("metaharness") for item in session.items):
            print_notice(self._config)
            start_progress(self._config)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record that came with a report: its folder may be on another machine."""
        record = getattr(report, RECORD, None)
        if record:
            self._records.append(record)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
        """Write the reports, here rather than with the summary, which another plugin's failure may suppress."""
        is_interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
        self._runs = self._read_runs(is_interrupted=is_interrupted)
        if not self._runs and not self._problems:
            return
        self._write_reports(*self._build_report(session))
        unfinished = any(run.status != "completed" for run in self._runs)
        if (unfinished or self._problems) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        _prune_sessions(get_options(self._config).directory)

    def _read_runs(self, *, is_interrupted: bool) -> tuple[Run, ...]:
        unfinished: RunStatus = "interrupted" if is_interrupted else "lost"
        reason = "interrupted" if is_interrupted else "its worker process died"
        runs: dict[str, Run] = {}
        for record in self._records:
            raw = msgspec.json.decode(record)
            raw.pop("schema", None)
            runs[raw["nodeid"]] = msgspec.convert(raw, Run)
        for file in sorted(self._folder.glob(f"*/{RUN_FILE}")):
            try:
                run = read_run(file.parent, unfinished=unfinished, reason=reason)
            except (OSError, msgspec.MsgspecError) as error:
                self._problems.append(f"{file}: the record cannot be read: {error}")
                continue
            if run.status == unfinished:
                write_json(file, {"schema": SCHEMA, **msgspec.to_builtins(run)})
            runs[run.nodeid] = run
        return tuple(runs[nodeid] for nodeid in sorted(runs))

    def _build_report(self, session: pytest.Session) -> tuple[Report, bytes]:
        """Give the report as the plugins want it, and its document."""
        report = Report(
            session=self._folder.name,
            started=self._started.isoformat(timespec="seconds"),
            duration_s=time.monotonic() - self._clock,
            environment={
                "python": platform.python_version(),
                "platform": platform.platform(),
                "cpus": os.cpu_count(),
                "pytest": pytest.__version__,
                "pytest-metaharness": version("pytest-metaharness"),
                "sandbox": choose_sandbox(read_sandbox_mode(get_options(self._config))).mode,
            },
            runs=self._runs,
        )
        changed = msgspec.to_builtins(report)
        hook = session.gethookproxy(self._config.rootpath)  # a controller of workers loads no other conftest
        try:
            hook.pytest_metaharness_report(config=self._config, report=changed)
            accepted = msgspec.convert(changed, Report)
            return accepted, _encode(accepted)
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # noqa: BLE001 - must cost no report
            self._problems.append(f"pytest_metaharness_report: {type(error).__name__}: {error}; its changes are lost")
            return report, _encode(report)

    def _write_reports(self, report: Report, document: bytes) -> None:
        table = write_run_table(report.runs).encode()
        files = {
            self._folder / "report.json": document,
            self._folder / "report.tsv": table,
            self._folder / "ledger.tsv": write_ledger(report.runs).encode(),
            **{path: document if path.suffix == ".json" else table for path in get_options(self._config).reports},
        }
        files[self._folder / SESSION_FILE] = _encode(_describe_session(self._config, status="completed"))
        for path, content in files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
            except OSError as error:
                self._problems.append(f"{path} could not be written: {error.strerror}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print a line per run, the misses of failed runs, and where the files are."""
        if not self._runs and not self._problems:
            return
        terminalreporter.ensure_newline()
        terminalreporter.section("metaharness")
        for line in format_summary(self._runs):
            terminalreporter.write_line(line)
        wants_all = self._config.get_verbosity() > 0 or "P" in terminalreporter.reportchars  # which -rA stands for
        for run in self._runs:
            if run.gate.passed and not wants_all:
                continue
            terminalreporter.write_line("")
            terminalreporter.write_line(escape(run.nodeid), red=not run.gate.passed)
            for line in describe_run(run, all_checks=wants_all):
                terminalreporter.write_line(f"  {line}")
        terminalreporter.write_line("")
        if notice := choose_sandbox(read_sandbox_mode(get_options(self._config))).notice:
            terminalreporter.write_line(escape(notice), yellow=True)
        for problem in self._problems:
            terminalreporter.write_line(escape(problem), red=True)
        shown = show_path_from(self._config.rootpath, self._folder)
        terminalreporter.write_line(f"report: {escape(shown)}/report.json (also report.tsv, ledger.tsv)")


def _encode(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _prune_sessions(directory: Path) -> None:
    """Remove the oldest unnamed sessions that only measured baselines; a search is never removed."""
    spare: list[Path] = []
    for file in sorted(directory.glob(f"*/{SESSION_FILE}")):
        try:
            session = msgspec.json.decode(file.read_bytes())
        except (OSError, msgspec.DecodeError):
            continue
        if session.get("status") == "completed" and not session.get("named") and not session.get("backends"):
            spare.append(file.parent)
    for folder in spare[:-KEPT_BASELINE_SESSIONS]:
        shutil.rmtree(folder, ignore_errors=True)  # another session may be pruning too
