"""The hooks of pytest-metaharness, its only extension mechanism.

All but the last are called in the process that runs the trial (with ``-n`` a worker), through the item's own hooks: a
``conftest.py`` beside a target answers for that target alone. Import the types from ``pytest_metaharness``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .core.model import Candidate, Check, CheckResult, Proposal, Run, Target
    from .core.proposals import ProposalRequest


@pytest.hookspec(firstresult=True)
def pytest_metaharness_propose(request: ProposalRequest) -> Proposal | None:
    """Make one proposal: edit the files in ``request.workspace``. Called in the main thread of the trial's process.

    What changed is read from the files afterwards. An exception, or a result that is no :class:`Proposal`, is outcome
    ``crash``; when ``request.timeout`` (seconds) is over, a ``BaseException`` is raised in it and all it started is
    ended. Code stuck in C cannot be interrupted; ``request.run`` starts programs with all guarantees.

    :param request: the workspace, the prompt, the backend with its options, and ``run()``.
    :return: ``None`` when the provider is not yours.

    .. code-block:: python

        def pytest_metaharness_propose(request):
            if request.backend.provider != "my-agent":
                return None
            done = request.run(["my-agent", "--yes"], stdin=request.prompt.encode())
            return Proposal(status="completed" if done.returncode == 0 else "crash")
    """


@pytest.hookspec(firstresult=True)
def pytest_metaharness_check(check: Check, workspace: Path) -> CheckResult | None:
    """Measure one check of kind ``use``, in the clean-room checkout. An exception is value 0 with its message.

    :param check: its keys are attributes; ``check.use`` is the name asked for, ``check.with_`` its arguments.
    :param workspace: the checkout, with sealed files laid over it.
    :return: ``None`` when the name is not yours; when nobody answers, the item is an error.

    .. code-block:: python

        def pytest_metaharness_check(check, workspace):
            if check.use == "short":
                words = len((workspace / check.with_["path"]).read_text().split())
                return CheckResult(value=1.0 if words <= 500 else 0.0, feedback=f"{words} words, at most 500")
    """


@pytest.hookspec(firstresult=True)
def pytest_metaharness_objective(target: Target, results: Mapping[str, CheckResult]) -> float | None:
    """Combine the results of a candidate's checks to its objective, 0 to 1, higher is better.

    :param results: by check id, in declared order.
    :return: ``None`` for the default, the mean of the values weighted by ``weight``.

    .. code-block:: python

        def pytest_metaharness_objective(target, results):
            return min(result.value for result in results.values())
    """


@pytest.hookspec
def pytest_metaharness_candidate(run: Run, candidate: Candidate) -> None:
    """Observe each finished candidate, ``c0000`` (the baseline) included. What it raises becomes a warning.

    :param run: the trial's record as it was at the start.

    .. code-block:: python

        def pytest_metaharness_candidate(run, candidate):
            print(run.nodeid, candidate.id, candidate.outcome, candidate.objective)
    """


@pytest.hookspec
def pytest_metaharness_report(config: pytest.Config, report: dict[str, Any]) -> None:
    """Change the report before it is written. Called once, in the controller, for plugins and the root conftest only.

    :param report: the content of ``report.json``; what no longer fits its schema is refused with a message.

    .. code-block:: python

        def pytest_metaharness_report(config, report):
            report["environment"]["team"] = "platform"
    """
