"""Trials as pytest runs them: what YAML targets and Python targets share, from a target to its finished run."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from .backends import fake
from .core.checks.kinds import UnknownCheckError
from .core.credentials import CredentialFile, list_credential_files, read_credentials, read_inherited
from .core.errors import (
    BackendError,
    GateFailure,
    MetaharnessError,
    StoreError,
    TargetError,
    explain_system_error,
)
from .core.gate import judge_trial
from .core.model import Backend, Candidate, Run, Setting, Target, Verdict
from .core.plan import Place, Plan, name_trial
from .core.processes.alarm import alarm
from .core.processes.sandbox import choose_sandbox
from .core.redaction import SECRET_LENGTH, Redactor, environment_secrets
from .core.runfolder import (
    RUN_FILE,
    RecordError,
    describe_progress,
    encode_run,
    end_run,
    read_run,
    restore_run,
    summarize,
    write_run,
)
from .core.trial import run_trial
from .interruption import handle_interrupts
from .itemhooks import ItemHooks, TargetWarning
from .options import Options, read_sandbox_mode
from .plugin import RECORD, add_hooks, get_options, get_session_name, is_worker
from .preflight import probe_once
from .registry import check_ready, resolve_backend
from .reports import describe_failure, escape
from .session import name_item, show_path_from, start_session
from .sessionfolder import open_session


class TimeLimitError(BaseException):
    """pytest-timeout's limit for the whole item, in seconds, is over."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"the limit of pytest-timeout for this item, {limit:g} s, is over")


class TimeLimit(NamedTuple):
    """The limit that pytest-timeout was to set for an item; *due* is in the time of ``time.monotonic``."""

    settings: Any
    due: float


class Planned(NamedTuple):
    """A backend's label and the number of the repetition; *name* has both, where there are several."""

    name: str
    label: str
    number: int


trial_key = pytest.StashKey["ItemTrial"]()
limit_key = pytest.StashKey[TimeLimit]()


def list_trials(options: Options) -> Iterator[Planned]:
    """Give the trials of each target: every requested backend, every repetition."""
    trials = int(options.trials.value or 1)
    for label in options.names:
        for number in range(1, trials + 1):
            yield Planned(f"{label}-t{number}" if trials > 1 else label, label, number)


def expect_trials(config: pytest.Config) -> None:
    """Make the session ready for trials, when the first is collected."""
    add_hooks(config.pluginmanager)
    if not config.pluginmanager.has_plugin("metaharness-trials"):
        config.pluginmanager.register(TrialHooks(), "metaharness-trials")
    handle_interrupts(config)
    if not is_worker(config):
        start_session(config, will_run=False)


class ItemTrial:
    """One trial of *target*, which *item* runs."""

    def __init__(self, item: pytest.Item, target: Target, planned: Planned) -> None:
        self._item, self._target, self._planned = item, target, planned
        self._options = get_options(item.config)
        self._backend: Backend | None = None
        self._redactor = Redactor({})
        self._logins: tuple[CredentialFile, ...] = ()
        self._is_begun = False
        self._broken: BaseException | None = None
        self._seen: Run | None = None

    def prepare(self) -> None:
        """Find the isolation and the backend, and see that they can be used.

        :raises MetaharnessError: one cannot.
        """
        if getattr(self._item.config, "workerinput", {}).get("metaharness_each"):
            raise MetaharnessError(
                "--dist=each would run one and the same trial in every worker; leave it out, and repeat a search with "
                "--metaharness-trials=N"
            )
        self._sandbox = choose_sandbox(read_sandbox_mode(self._options))
        if self._planned.label == "baseline":
            return
        rootdir = self._item.config.rootpath
        self._backend = resolve_backend(self._planned.label, self._target, rootdir=rootdir, hook=self._item.ihook)
        if int(self._options.choose_budget(self._target).value or 0) > 0:
            check_ready(self._backend, target=self._target, environ=os.environ)
            if problem := probe_once(self._item.config, self._backend, self._sandbox).problem:
                raise BackendError(problem)

    def run(self) -> Run:
        """Execute the trial, within the item's limit of pytest-timeout, unless it was begun in this session before.

        :raises GateFailure: its verdict is a failure.
        :raises MetaharnessError: the target, its backend or this machine cannot be used.
        """
        self._logins = list_credential_files(os.environ, self._target.file.parent)
        inherited, logins = read_inherited(os.environ), read_credentials(self._logins)
        self._redactor = Redactor({**environment_secrets(os.environ), **self._find_passed(), **inherited, **logins})
        hooks = ItemHooks(self._item, self._redactor, see=self._see)
        with handle_interrupts(self._item.config).covering(), self._failures_of_storage():
            open_session(self._item.config)
            run = self._recall() or self._execute(hooks)
        properties = {
            "baseline": run.baseline_objective,
            "best": run.best_objective,
            "gain": run.gain,
            "cost_usd": run.cost_usd,
        }
        known = dict(self._item.user_properties)  # a repeated attempt has told them already
        known |= {f"metaharness.{name}": "" if value is None else str(value) for name, value in properties.items()}
        self._item.user_properties[:] = known.items()
        if not run.gate.passed:
            raise GateFailure(describe_failure(run))
        if hooks.refused is not None:
            raise hooks.refused
        return run

    def _execute(self, hooks: ItemHooks) -> Run:
        with _take_over_limit(self._item):
            self._is_begun = True
            return run_trial(
                self._plan(), self._find_place(), sandbox=self._sandbox, redactor=self._redactor, hooks=hooks
            )

    def _recall(self) -> Run | None:
        """Give the run of an earlier attempt at this item: pytest-rerunfailures must not make anybody pay twice.

        :raises MetaharnessError: that one did not end well, with its reason.
        """
        folder = self._find_folder()
        if not (folder / RUN_FILE).exists():
            return None
        run = read_run(folder)
        if run.status == "running":
            reason = f"an earlier attempt in this session did not end {describe_progress(run)}"
            run = end_run(run, "lost", reason)
        if run.status != "completed":
            raise MetaharnessError(run.reason)
        judged = msgspec.structs.replace(run, gate=judge_trial(run, self._plan().gate))  # as before the item failed
        write_run(folder, judged)
        return judged

    @contextmanager
    def _failures_of_storage(self) -> Iterator[None]:
        """Note what ended the trial, and say in one line what the system did not let us do."""
        try:
            yield
        except OSError as error:
            self._broken = StoreError(self._redactor.text(explain_system_error(error, self._options.directory)))
            raise self._broken from error
        except BaseException as error:
            self._broken = error
            raise

    def read_record(self) -> str | None:
        """Give the run's record as JSON, as far as it got; ``None`` when the trial did not begin here."""
        run = self._read()
        if run is not None and run.status == "running":  # what ended it kept its record from being written, too
            if not self._is_begun:
                return None
            reason = self._redactor.text(str(self._broken or "it broke off"))
            run = end_run(run, "failed" if isinstance(self._broken, Exception) else "interrupted", reason)
        return None if run is None else encode_run(run).decode()

    def _read(self) -> Run | None:
        """Read the record; where it is damaged or gone, which the controller tells, give what else is known."""
        folder = self._find_folder()
        try:
            return read_run(folder)
        except (OSError, RecordError):
            return restore_run(folder) or self._seen

    def _see(self, run: Run, candidate: Candidate) -> None:
        """Remember what was found, in case somebody takes the folder away."""
        known = (*(self._seen.candidates if self._seen else ()), candidate)
        changed = {path for each in known if each.outcome == "keep" for path in each.changed_files}
        self._seen = summarize(run, known, changed_files=sorted(changed))

    def redact(self, report: pytest.TestReport) -> None:
        """Blot secrets out of what pytest captured of the trial, and of how it shows its failure."""
        report.sections = [(title, self._redactor.text(text)) for title, text in report.sections]
        if report.longrepr is not None and self._redactor.text(shown := str(report.longrepr)) != shown:
            report.longrepr = self._redactor.text(shown)

    def reject(self, reason: str) -> None:
        """Note in the record of a trial that passed that its item fails nevertheless: the verdict is the item's."""
        run = self._read()
        if run is not None and run.gate.passed:
            verdict = Verdict(passed=False, failures=(self._redactor.text(reason),))
            with suppress(OSError):  # the item fails nevertheless
                write_run(self._find_folder(), msgspec.structs.replace(run, gate=verdict))

    def _find_passed(self) -> dict[str, str]:
        """Give the variables that the target names for its backend and its checks, as far as they may be secrets."""
        names = {name for check in self._target.checks for name in check.env}
        if self._backend is not None:
            names |= {name for name, value in self._backend.env.items() if value is None}
            names.add(self._backend.api_key or "")
        return {name: os.environ[name] for name in names if len(os.environ.get(name, "")) >= SECRET_LENGTH}

    def _plan(self) -> Plan:
        options, target = self._options, self._target
        budget = options.choose_budget(target)
        timeout = options.choose_timeout(target, self._backend)
        settings = {
            "budget": budget,
            "timeout": timeout,
            "retries": options.retries,
            "trials": options.trials,
            "sandbox": options.sandbox,
        }
        if options.fail_under is not None:
            settings["fail_under"] = Setting(value=options.fail_under, origin="--metaharness-fail-under")
        return Plan(
            nodeid=name_item(self._item),
            target=target,
            backend=self._backend,
            label=self._planned.label,
            trial=self._planned.number,
            budget=int(budget.value or 0),
            timeout=float(timeout.value or 0),
            retries=int(options.retries.value or 0),
            gate=options.choose_gate(target),
            settings=settings,
        )

    def _find_place(self) -> Place:
        session = self._options.directory / get_session_name(self._item.config)
        readable = (*self._options.sandbox_read, *(Path(path).expanduser() for path in self._target.sandbox_read))
        return Place(
            session=session,
            shown_as=show_path_from(self._item.config.rootpath, session),
            hidden=(
                self._options.directory,
                self._target.file.with_name(fake.FILE_NAME),
                *(login.path for login in self._logins if not login.is_private),  # homes are hidden anyway
            ),
            readable=tuple(self._target.file.parent / path for path in readable),
        )

    def _find_folder(self) -> Path:
        return self._find_place().session / name_trial(self._plan())


@contextmanager
def _take_over_limit(item: pytest.Item) -> Iterator[None]:
    """Let pytest-timeout's limit unwind a trial cleanly, whatever its method: "thread" would end the process.

    The limit of a test function goes on after the trial; it has code of its own.
    """
    limit = item.stash.get(limit_key, None)
    if limit is None:
        yield
        return
    is_shared = not _is_whole(item)
    if is_shared:
        item.ihook.pytest_timeout_cancel_timer(item=item)
    clock = None
    try:
        left = max(limit.due - time.monotonic(), 0.001)
        with alarm(left, lambda: TimeLimitError(limit.settings.timeout)) as clock:
            yield
    finally:
        if is_shared and clock is not None and not clock.expired:
            left = round(max(limit.due - time.monotonic(), 0.001), 3)  # which its message then says
            item.ihook.pytest_timeout_set_timer(item=item, settings=limit.settings._replace(timeout=left))


def describe_error(error: BaseException) -> str | None:
    """Give what the user has to know of what is no defect of ours, and ``None`` of anything else."""
    if isinstance(error, GateFailure | MetaharnessError | TargetWarning):
        return "\n".join(map(escape, str(error).splitlines()))
    return f"interrupted: {error}" if isinstance(error, TimeLimitError) else None


class TrialHooks:
    """What trials need of pytest; registered with the first target."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show a failure without a traceback, and put the record on the report.

        The record is one string: it may have to travel from another machine. An empty one tells a controller of
        workers, before a trial begins, that there are trials.
        """
        report = yield
        if call.when == "teardown" or item.get_closest_marker("metaharness") is None:
            return report
        if report.failed and call.excinfo and (text := describe_error(call.excinfo.value)):
            report.longrepr = text
            if isinstance(call.excinfo.value, BackendError | TargetError | UnknownCheckError):
                report.when = "setup"  # only a call can tell; pytest says "error", not "failed", of what cannot be used
        trial = item.stash.get(trial_key, None)
        if trial is not None and report.failed:
            trial.reject(_tell_failure(report, call))
        if trial is not None:
            trial.redact(report)
        vars(report)[RECORD] = (trial.read_record() if trial is not None else None) or ""
        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """Note an item's limit; that of a whole trial is ours alone, so that both methods unwind it cleanly."""
        item.stash[limit_key] = TimeLimit(settings, time.monotonic() + settings.timeout)
        return _is_whole(item) or None

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool | None:
        """Forget an item's limit."""
        if limit_key in item.stash:
            del item.stash[limit_key]
        return _is_whole(item) or None


def _is_whole(item: pytest.Item) -> bool:
    """Tell whether *item* is a trial and nothing else, rather than a test function that runs one."""
    return trial_key in item.stash and not isinstance(item, pytest.Function)


def _tell_failure(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    if call.excinfo is None:  # it passed, and was expected to fail
        text = str(report.longrepr)
    elif isinstance(call.excinfo.value, AssertionError | MetaharnessError):
        text = str(call.excinfo.value)
    else:
        text = f"{call.excinfo.typename}: {call.excinfo.value}"
    return f"the test failed: {text.strip().partition(chr(10))[0]}"
