"""The hooks of pytest-metaharness as one item calls them, and what becomes of the mistakes of those who answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from .core.errors import MetaharnessError
from .core.model import Candidate, Check, CheckResult, Run, Target
from .core.proposals import ProposalRequest
from .core.redaction import Redactor
from .reports import escape

FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)
"""What a hook may raise; the last two are no subclasses of the first."""


class TargetWarning(pytest.PytestWarning):
    """Something about a target that the user should know."""


class ItemHooks:
    """The hooks as one item calls them: its own conftest files answer first.

    *refused* is the first warning about an observer that the user wants to be an error, once the run is over.
    """

    def __init__(self, item: pytest.Item, redactor: Redactor, *, see: Callable[[Run, Candidate], None]) -> None:
        self._item = item
        self._redactor = redactor
        self._see = see
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
        self._see(run, candidate)
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
