"""Agents without a model, for the sessions of the benchmarks: a provider plugin, put beside their targets as conftest.

``line`` appends a line to ``NOTES.md``, in this process; ``wait`` is a program that sleeps for ``seconds`` and then
does the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from pytest_metaharness import CheckResult, Proposal, ProposalRequest, Target

_measured = itertools.count(1)


def pytest_metaharness_propose(request: ProposalRequest) -> Proposal | None:
    """Change one file, at once or after a while."""
    backend, notes = request.backend, request.workspace / "NOTES.md"
    if backend.provider == "line":
        with notes.open("a", encoding="utf-8") as file:
            file.write(f"line {request.candidate}\n")
        return Proposal(status="completed", reason="one line")
    if backend.provider == "wait":
        seconds = str(backend.options["seconds"])
        done = request.run(["sh", "-c", 'sleep "$1" && echo "line" >> NOTES.md', "sh", seconds])
        return Proposal(status="timeout" if done.timed_out else "completed", reason="one line")
    return None


def pytest_metaharness_objective(target: Target, results: Mapping[str, CheckResult]) -> float:  # noqa: ARG001
    """Give more each time: every proposal improves and is kept, and the next one starts from it."""
    return 1 - 1 / (1 + next(_measured))
