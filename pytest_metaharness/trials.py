"""Trials as pytest runs them: what YAML targets and Python targets share, from a target to its finished run."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from .backends import fake
from .core.checks.kinds import UnknownCheckError
from .core.errors import BackendError, GateFailure, MetaharnessError, TargetError
from .core.gate import judge_trial
from .core.model import Backend, Candidate, Check, CheckResult, Run, Setting, Target, Verdict
from .core.plan import Place, Plan, name_trial
from .core.processes.alarm import alarm
from .core.processes.sandbox import choose_sandbox
from .core.proposals import ProposalRequest
from .core.redaction import SECRET_LENGTH, Redactor, environment_secrets
from .core.runfolder import RUN_FILE, SCHEMA, read_run, write_json
from .core.trial import run_trial
from .options import Options, read_sandbox_mode
from .plugin import RECORD, add_hooks, get_options, get_session_name, is_worker
from .registry import check_ready, resolve_backend
from .reports import describe_failure, escape
from .session import name_item, open_session, show_path_from, start_session, treat_signals_as_interrupt


class TimeLimitError(BaseException):
    """pytest-timeout's limit for the whole item, in seconds, is over."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"the limit of pytest-timeout for this item, {limit:g} s, is over")


class TargetWarning(pytest.PytestWarning):
    """Something about a target that the user should know."""


class TimeLimit(NamedTuple):
    """The limit that pytest-timeout was to set for an item; *due* is in the time of ``time.monotonic``."""

    settings: Any
    due: float


class Planned(NamedTuple):
    """A backend's label and the number of the repetition; *name* has both, where there are several."""

    name: str
    label: str
    number: int


FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)
"""What a hook may raise; the last two are no subclasses of the first."""

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
    treat_signals_as_interrupt(config)
    if not is_worker(config):
        start_session(config, will_run=False)


class ItemTrial:
    """One trial of *target*, which *item* runs."""

    def __init__(self, item: pytest.Item, target: Target, planned: Planned) -> None:
        self._item, self._target, self._planned = item, target, planned
        self._options = get_options(item.config)
        self._backend: Backend | None = None
        self._redactor = Redactor({})

    def prepare(self) -> None:
        """Find the isolation and the backend, and see that they can be used.

        :raises MetaharnessError: one cannot.
        """
        self._sandbox = choose_sandbox(read_sandbox_mode(self._options))
        if self._planned.label == "baseline":
            return
        rootdir = self._item.config.rootpath
        self._backend = resolve_backend(self._planned.label, self._target, rootdir=rootdir, hook=self._item.ihook)
        if int(self._options.choose_budget(self._target).value or 0) > 0:
            check_ready(self._backend, target=self._target, environ=os.environ)

    def run(self) -> Run:
        """Execute the trial, within the item's limit of pytest-timeout, unless it was begun in this session before.

        :raises GateFailure: its verdict is a failure.
        :raises MetaharnessError: the target, its backend or this machine cannot be used.
        """
        open_session(self._item.config)
        self._redactor = Redactor({**environment_secrets(os.environ), **self._find_passed()})
        hooks = _ItemHooks(self._item, self._redactor)
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

    def _execute(self, hooks: _ItemHooks) -> Run:
        with _take_over_limit(self._item):
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
        run = read_run(folder, unfinished="lost", reason="an earlier attempt in this session did not end")
        if run.status != "completed":
            raise MetaharnessError(run.reason)
        judged = msgspec.structs.replace(run, gate=judge_trial(run, self._plan().gate))  # as before the item failed
        write_json(folder / RUN_FILE, {"schema": SCHEMA, **msgspec.to_builtins(judged)})
        return judged

    def read_record(self) -> str | None:
        """Give the run's record as JSON, as far as it got; ``None`` when the trial did not begin."""
        file = self._find_folder() / RUN_FILE
        return file.read_text(encoding="utf-8") if file.exists() else None

    def redact(self, report: pytest.TestReport) -> None:
        """Blot secrets out of what pytest captured of the trial, and of how it shows its failure."""
        report.sections = [(title, self._redactor.text(text)) for title, text in report.sections]
        if report.longrepr is not None and self._redactor.text(shown := str(report.longrepr)) != shown:
            report.longrepr = self._redactor.text(shown)

    def reject(self, reason: str) -> None:
        """Note in the record of a trial that passed that its item fails nevertheless: the verdict is the item's."""
        folder = self._find_folder()
        if not (folder / RUN_FILE).exists():
            return
        run = read_run(folder, unfinished="interrupted", reason="interrupted")
        if run.gate.passed:
            verdict = Verdict(passed=False, failures=(self._redactor.text(reason),))
            run = msgspec.structs.replace(run, gate=verdict)
            write_json(folder / RUN_FILE, {"schema": SCHEMA, **msgspec.to_builtins(run)})

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
        settings = {"budget": budget, "timeout": timeout, "trials": options.trials, "sandbox": options.sandbox}
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
            gate=options.choose_gate(target),
            settings=settings,
        )

    def _find_place(self) -> Place:
        session = self._options.directory / get_session_name(self._item.config)
        readable = (*self._options.sandbox_read, *(Path(path).expanduser() for path in self._target.sandbox_read))
        return Place(
            session=session,
            shown_as=show_path_from(self._item.config.rootpath, session),
            hidden=(self._options.directory, self._target.file.with_name(fake.FILE_NAME)),
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


class _ItemHooks:
    """The hooks as one item calls them: its own conftest files answer first.

    *refused* is the first warning about an observer that the user wants to be an error, once the run is over.
    """

    def __init__(self, item: pytest.Item, redactor: Redactor) -> None:
        self._item = item
        self._redactor = redactor
        self.refused: TargetWarning | None = None

    def propose(self, request: ProposalRequest) -> object:
        with _failures_as_errors("the backend"):
            return self._item.ihook.pytest_metaharness_propose(request=request)

    def check(self, check: Check, workspace: Path) -> object:
        with _failures_as_errors("it"):
            if check.call is not None:
                return check.call(workspace)
            return self._item.ihook.pytest_metaharness_check(check=check, workspace=workspace)

    def objective(self, target: Target, results: Mapping[str, CheckResult]) -> object:
        try:
            return self._item.ihook.pytest_metaharness_objective(target=target, results=results)
        except FAILURES as error:
            message = f"pytest_metaharness_objective raised {type(error).__name__}: {error}"
            raise MetaharnessError(message) from error

    def candidate(self, run: Run, candidate: Candidate) -> None:
        try:
            self._item.ihook.pytest_metaharness_candidate(run=run, candidate=candidate)
        except FAILURES as error:  # an observer must not end a paid run, nor may what is said of it
            try:
                self.warn(f"pytest_metaharness_candidate raised {type(error).__name__}: {error}")
            except TargetWarning as refused:
                self.refused = self.refused or refused

    def warn(self, message: str) -> None:
        path, line, _ = self._item.reportinfo()  # Item.warn insists on a line, and a target file has none to name
        warning = TargetWarning(escape(self._redactor.text(message)))
        warnings.warn_explicit(warning, category=None, filename=str(path), lineno=(line or 0) + 1)


@contextmanager
def _failures_as_errors(who: str) -> Iterator[None]:
    """Make what ``pytest.fail`` and ``pytest.skip`` raise, which is no ``Exception``, an answer like any other."""
    try:
        yield
    except (pytest.fail.Exception, pytest.skip.Exception) as error:
        name = "skip" if isinstance(error, pytest.skip.Exception) else "fail"
        message = f"{who} called pytest.{name}: {error}"
        raise RuntimeError(message) from error


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
