"""YAML targets as pytest items: a file of trials, each one planned search."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .core.alarm import alarm
from .core.errors import MetaharnessError, TargetError
from .core.model import Backend, Candidate, Check, CheckResult, Run, Setting, Target
from .core.proposals import ProposalRequest, read_passed_variables
from .core.redaction import Redactor, environment_secrets
from .core.runfolder import RUN_FILE
from .core.sandbox import Sandbox, choose_sandbox
from .core.targets import load_target
from .core.trial import Place, Plan, name_trial, run_trial
from .options import read_sandbox_mode
from .plugin import add_hooks, get_options, get_session_name, is_worker
from .registry import check_ready, get_schemas, resolve_backend
from .reports import describe_failure
from .session import RECORD, open_session, show_path_from, start_session, treat_signals_as_interrupt

targets_key = pytest.StashKey[dict[Path, Target | TargetError]]()


class GateFailure(Exception):
    """A trial's verdict is a failure; the message is what the user reads."""


class TimeLimitError(BaseException):
    """pytest-timeout's limit for the whole item is over."""


class TargetWarning(pytest.PytestWarning):
    """Something about a target that the user should know."""


def read_target(config: pytest.Config, file: Path) -> Target:
    """Read a target file, once per session.

    :raises TargetError: it is not valid.
    """
    known = config.stash.setdefault(targets_key, {})
    if file not in known:
        try:
            known[file] = load_target(file, providers=get_schemas(), shown_as=show_path_from(config.rootpath, file))
        except TargetError as error:
            known[file] = error
    target = known[file]
    if isinstance(target, TargetError):
        raise target
    return target


def find_own_folders(config: pytest.Config, file: Path) -> Iterator[str]:
    """Name the folders of a target that hold no tests of the project: its baseline and its sealed files."""
    try:
        target = read_target(config, file)
    except TargetError:  # its folders are no more the project's tests for that: take them as they seem to be meant
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        for folder in ("baseline", *re.findall(r"^(?:baseline|sealed): *([^\s#'\"]+)", text, re.MULTILINE)):
            yield os.path.normpath(file.parent / folder)
        return
    yield str(target.baseline_folder)
    if target.sealed_folder:
        yield str(target.sealed_folder)


def collect_target_file(file: Path, parent: pytest.Collector) -> TargetFile | None:
    """Make the collector of a target file, unless targets are off."""
    if not get_options(parent.config).names:
        return None
    add_hooks(parent.config.pluginmanager)
    if not parent.config.pluginmanager.has_plugin("metaharness-trials"):
        parent.config.pluginmanager.register(TrialHooks(), "metaharness-trials")
    treat_signals_as_interrupt(parent.config)
    if not is_worker(parent.config):
        start_session(parent.config, will_run=False)
    return TargetFile.from_parent(parent, path=file)


class TargetFile(pytest.File):
    """Collects the trials of one target: every requested backend, every repetition."""

    def collect(self) -> Iterator[Trial]:
        """Read the target and give its trials.

        :raises TargetError: the file is not valid.
        """
        target = read_target(self.config, self.path)
        for mark in target.marks:
            try:
                getattr(pytest.mark, mark)
            except pytest.fail.Exception as error:  # --strict-markers
                shown = show_path_from(self.config.rootpath, self.path)
                raise TargetError((f"{shown}: marks: {error}",)) from error
        options = get_options(self.config)
        trials = int(options.trials.value or 1)
        for label in options.names:
            for number in range(1, trials + 1):
                name = f"{label}-t{number}" if trials > 1 else label
                yield Trial.from_parent(self, name=name, target=target, label=label, number=number)

    def repr_failure(  # type: ignore[override]  # as pytest.Collector has it
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Any:
        """Show a broken target file as its problems, without a traceback."""
        if isinstance(excinfo.value, TargetError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class Trial(pytest.Item):
    """One planned search: target x backend x repetition."""

    def __init__(self, *, target: Target, label: str, number: int, **node: Any) -> None:
        super().__init__(**node)
        self.target, self.label, self.number = target, label, number
        self.backend: Backend | None = None
        self.deadline: float | None = None
        self.add_marker(pytest.mark.metaharness)
        for mark in target.marks:
            self.add_marker(mark)

    def setup(self) -> None:
        """Find the backend and see that it can be used.

        :raises MetaharnessError: it cannot; the item is an error.
        """
        options = get_options(self.config)
        self.sandbox: Sandbox = choose_sandbox(read_sandbox_mode(options))
        if self.label == "baseline":
            return
        self.backend = resolve_backend(self.label, self.target, rootdir=self.config.rootpath, hook=self.ihook)
        if int(options.choose_budget(self.target).value or 0) > 0:
            check_ready(self.backend, target=self.target, environ=os.environ)

    def runtest(self) -> None:
        """Run the trial.

        :raises GateFailure: its verdict is a failure.
        """
        open_session(self.config)
        limit = None if self.deadline is None else self.deadline - time.monotonic()
        if limit is None:
            run = self._run()
        else:
            with alarm(max(limit, 0.001), TimeLimitError):
                run = self._run()
        self.user_properties += [
            (f"metaharness.{name}", "" if value is None else str(value))
            for name, value in (
                ("baseline", run.baseline),
                ("best", run.best),
                ("gain", run.gain),
                ("cost_usd", run.cost_usd),
            )
        ]
        if not run.gate.passed:
            raise GateFailure(describe_failure(run))

    def _run(self) -> Run:
        place = self._find_place()
        passed = read_passed_variables(self.backend) if self.backend else {}
        redactor = Redactor({**environment_secrets(os.environ), **environment_secrets(passed)})
        return run_trial(self._plan(), place, sandbox=self.sandbox, redactor=redactor, hooks=_ItemHooks(self))

    def _plan(self) -> Plan:
        options = get_options(self.config)
        budget = options.choose_budget(self.target)
        timeout = options.choose_timeout(self.target, self.backend)
        settings = {"budget": budget, "timeout": timeout, "trials": options.trials, "sandbox": options.sandbox}
        if options.fail_under is not None:
            settings["fail_under"] = Setting(value=options.fail_under, origin="--metaharness-fail-under")
        return Plan(
            nodeid=self.nodeid,
            target=self.target,
            backend=self.backend,
            label=self.label,
            trial=self.number,
            budget=int(budget.value or 0),
            timeout=float(timeout.value or 0),
            gate=options.choose_gate(self.target),
            settings=settings,
        )

    def _find_place(self) -> Place:
        options = get_options(self.config)
        session = options.directory / get_session_name(self.config)
        readable = (*options.sandbox_read, *(Path(path).expanduser() for path in self.target.sandbox_read))
        return Place(
            session=session,
            shown_as=show_path_from(self.config.rootpath, session),
            hidden=(options.directory,),
            readable=tuple(self.path.parent / path for path in readable),
        )

    def read_record(self) -> str | None:
        """Give the run's record as JSON, as far as it got; ``None`` when the trial did not begin."""
        file = self._find_place().session / name_trial(self._plan()) / RUN_FILE
        return file.read_text(encoding="utf-8") if file.exists() else None

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what the user has to know: no traceback for what is no defect of ours."""
        if isinstance(excinfo.value, GateFailure | MetaharnessError):
            return str(excinfo.value)
        if isinstance(excinfo.value, TimeLimitError):
            return "interrupted: the time limit of pytest-timeout for this item is over"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Locate the item for pytest's own reports."""
        return self.path, None, f"{self.target.name}::{self.name}"


class _ItemHooks:
    """The hooks as one item calls them: its own conftest files answer first."""

    def __init__(self, item: Trial) -> None:
        self._item = item

    def propose(self, request: ProposalRequest) -> object:
        try:
            return self._item.ihook.pytest_metaharness_propose(request=request)
        except (pytest.fail.Exception, pytest.skip.Exception) as error:  # no subclasses of Exception
            message = f"the backend called pytest.{type(error).__name__.lower()}: {error}"
            raise RuntimeError(message) from error

    def check(self, check: Check, workspace: Path) -> object:
        return self._item.ihook.pytest_metaharness_check(check=check, workspace=workspace)

    def objective(self, target: Target, results: Mapping[str, CheckResult]) -> object:
        return self._item.ihook.pytest_metaharness_objective(target=target, results=results)

    def candidate(self, run: Run, candidate: Candidate) -> None:
        try:
            self._item.ihook.pytest_metaharness_candidate(run=run, candidate=candidate)
        except Exception as error:  # noqa: BLE001 - an observer must not end a paid run
            self.warn(f"pytest_metaharness_candidate raised {type(error).__name__}: {error}")

    def warn(self, message: str) -> None:
        self._item.warn(TargetWarning(message))


class TrialHooks:
    """What trials need of pytest; registered with the first target."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the record on the report, as one string: it may have to travel from another machine."""
        report = yield
        if isinstance(item, Trial) and call.when == "call":
            vars(report)[RECORD] = item.read_record()
        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool | None:
        """Time a trial ourselves, so that both of pytest-timeout's methods unwind it cleanly."""
        if not isinstance(item, Trial):
            return None
        item.deadline = time.monotonic() + settings.timeout
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool | None:
        """Forget the limit of a trial."""
        if not isinstance(item, Trial):
            return None
        item.deadline = None
        return True
