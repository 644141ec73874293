"""The session as the controller sees it: reads the runs, writes the reports, prints, decides the exit status."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import psutil
import pytest

from .core.errors import SandboxError
from .core.folders import remove, remove_abandoned_folders
from .core.model import Run, RunStatus
from .core.processes.interrupts import postponed_interrupts
from .core.processes.sandbox import Sandbox, choose_sandbox
from .core.runfolder import (
    JOURNAL_FILE,
    RUN_FILE,
    RecordError,
    decode_run,
    describe_progress,
    end_run,
    find_process,
    free_space,
    read_run,
    restore_run,
    write_atomically,
    write_run,
)
from .interruption import handle_interrupts
from .options import read_sandbox_mode
from .plugin import RECORD, add_hooks, get_options, get_session_name
from .preflight import find_shared
from .progress import start_progress
from .reports import (
    Report,
    describe_run,
    escape,
    format_summary,
    write_ledger,
    write_run_table,
)
from .sessionfolder import SESSION_FILE, describe_session, prune_sessions

ORDERLY = frozenset(pytest.ExitCode) - {pytest.ExitCode.INTERNAL_ERROR}
"""The exit codes with which pytest prints a summary."""

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
    interruption = handle_interrupts(config)
    if config.pluginmanager.has_plugin("dsession"):  # nothing but the workers' trials is there to be interrupted
        interruption.cover()
    if not config.pluginmanager.has_plugin("metaharness-controller"):
        config.add_cleanup(lambda: remove(find_shared(config)))
        config.pluginmanager.register(Controller(config), "metaharness-controller")
    if will_run:
        print_notice(config)
        start_progress(config)


def find_sandbox(config: pytest.Config) -> Sandbox:
    """Give the isolation of this session's trials; none where the one asked for cannot be used, which they say."""
    try:
        return choose_sandbox(read_sandbox_mode(get_options(config)))
    except SandboxError:
        return Sandbox(mode="none")


def print_notice(config: pytest.Config) -> None:
    """Say before the first trial what the sandbox does not enforce."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    notice = find_sandbox(config).notice
    if reporter is not None and notice and not config.getoption("collectonly") and noticed_key not in config.stash:
        config.stash[noticed_key] = True
        reporter.ensure_newline()
        reporter.write_line(f"metaharness: {escape(notice)}", yellow=True)


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
        self._is_finished = self._is_written = False
        self._has_workers = config.pluginmanager.has_plugin("dsession")
        config.add_cleanup(self._finish_late)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say what is not enforced, now that trials are known to follow in this process."""
        if any(item.get_closest_marker("metaharness") for item in session.items):
            print_notice(self._config)
            start_progress(self._config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record that came with a report: its folder may be on another machine."""
        record = getattr(report, RECORD, None)
        if record:
            self._records.append(record)

    @pytest.hookimpl(wrapper=True, trylast=True)  # around what others do at the end, within what prints the summary
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int | pytest.ExitCode
    ) -> Generator[None, object, object]:
        """Write the reports, whatever becomes of other plugins; a failure of theirs may suppress the summary."""
        try:
            self._interrupt_workers()
            return (yield)
        except KeyboardInterrupt:
            session.exitstatus = pytest.ExitCode.INTERRUPTED  # the end cannot come sooner than that
            return None
        finally:
            self._finish(session, exitstatus)

    def _interrupt_workers(self) -> None:
        """Interrupt the trials that workers still run when the session breaks off: pytest-xdist would wait for them."""
        if self._has_workers:
            workers = {process.pid for process in psutil.Process().children()}
            for file in self._folder.glob(f"*/{JOURNAL_FILE}"):
                if (pid := find_process(file.parent)) in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)

    def _finish(self, session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
        """Write the reports, set the exit code; print the summary where pytest will not ask for it."""
        self._is_finished = True
        try:
            self._report(exitstatus, session)
        except KeyboardInterrupt:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            with contextlib.suppress(KeyboardInterrupt), postponed_interrupts():
                self._report(exitstatus, None)
        unfinished = any(run.status != "completed" for run in self._runs)
        if (unfinished or self._problems) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and exitstatus not in ORDERLY:
            self.pytest_terminal_summary(reporter)

    def _finish_late(self) -> None:
        """Write the reports after all, when another plugin has broken the end of the session."""
        if not self._is_finished:
            self._report(pytest.ExitCode.INTERNAL_ERROR, None)

    def _report(self, exitstatus: int | pytest.ExitCode, session: pytest.Session | None) -> None:
        """Write the reports; without a *session* no plugin is asked to change them."""
        self._problems = []
        self._runs = self._read_runs(exitstatus)
        if self._runs or self._problems:
            self._write_reports(*self._build_report(session))
            with contextlib.suppress(OSError):
                remove_abandoned_folders()  # of workers that died
            prune_sessions(self._folder)

    def _read_runs(self, exitstatus: int | pytest.ExitCode) -> tuple[Run, ...]:
        runs: dict[str, Run] = {}
        for record in self._records:
            run = decode_run(record.encode())
            runs[run.nodeid] = run
        arrived = frozenset(runs)
        is_complete = exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
        if is_complete:
            ending: tuple[RunStatus, str] = "lost", "its worker process died"
        elif exitstatus == pytest.ExitCode.INTERNAL_ERROR:
            ending = "interrupted", "the session broke off"
        else:
            ending = "interrupted", "interrupted"
        files = (file for name in (RUN_FILE, JOURNAL_FILE) for file in self._folder.glob(f"*/{name}"))
        for folder in sorted({file.parent for file in files}):
            if found := self._read_run(folder, runs, ending):
                runs[found.nodeid] = found
                if is_complete and found.status == "completed" and found.nodeid not in arrived:
                    self._problems.append(f"{found.nodeid}: pytest never got its result, its worker failed before")
        return tuple(runs[nodeid] for nodeid in sorted(runs))

    def _read_run(self, folder: Path, arrived: Mapping[str, Run], ending: tuple[RunStatus, str]) -> Run | None:
        """Read the run in *folder*, unless that knows less than what *arrived* with a report."""
        file = folder / RUN_FILE
        try:
            run = read_run(folder)
        except (OSError, RecordError) as error:
            self._problems.append(f"{file}: the record cannot be read: {error}")
            restored = restore_run(folder)
            if restored is None:
                return None
            reason = f"its record was damaged {describe_progress(restored)}"
            return arrived.get(restored.nodeid) or end_run(restored, "lost", reason)
        if run.status != "running":
            return run
        status, reason = ending
        run = arrived.get(run.nodeid) or end_run(run, status, f"{reason} {describe_progress(run)}")
        free_space(folder)
        try:
            write_run(folder, run)
        except OSError as error:
            self._problems.append(f"{file} could not be written: {error.strerror}")
        return run

    def _build_report(self, session: pytest.Session | None) -> tuple[Report, bytes]:
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
                "sandbox": find_sandbox(self._config).mode,
            },
            runs=self._runs,
        )
        if session is None:
            return report, _encode(report)
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
        files[self._folder / SESSION_FILE] = _encode(describe_session(self._config, status="completed"))
        free_space(self._folder)
        failed = set()
        for path, content in files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
            except OSError as error:
                failed.add(path)
                self._problems.append(f"{path} could not be written: {error.strerror}")
        self._is_written = self._folder / "report.json" not in failed

    @pytest.hookimpl(tryfirst=True)  # before another plugin's may fail
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
        if notice := find_sandbox(self._config).notice:
            terminalreporter.write_line(escape(notice), yellow=True)
        for problem in self._problems:
            terminalreporter.write_line(escape(problem), red=True)
        if self._is_written:
            shown = show_path_from(self._config.rootpath, self._folder)
            terminalreporter.write_line(f"report: {escape(shown)}/report.json (also report.tsv, ledger.tsv)")


def _encode(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
