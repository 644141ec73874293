"""The search through the front door, with providers written in a conftest."""

from __future__ import annotations

from pathlib import Path

import pytest
from sessions import read_outcomes, run_session, serial_and_xdist, write_files

TARGET = """\
goal: Write down the five facts.
budget: 12
editable: [FACTS.md, scripts/]
required: [FACTS.md]
checks:
  one: {contains: {path: FACTS.md, all: [one]}}
  two: {contains: {path: FACTS.md, all: [two]}}
  run: {run: bash scripts/run.sh, weight: 2}
"""


@pytest.fixture
def target(pytester: pytest.Pytester) -> Path:
    return write_files(
        pytester.mkdir("facts"),
        {
            "metaharness.yaml": TARGET,
            "baseline/FACTS.md": "zero\n",
            "baseline/other.txt": "not yours\n",
            "baseline/scripts/run.sh": "exit 1\n",
        },
    )


@serial_and_xdist
def test_every_misbehaviour_has_its_outcome_and_the_search_goes_on(
    pytester: pytest.Pytester, target: Path, workers: tuple[str, ...]
) -> None:
    (target / "conftest.py").write_text(
        """
import subprocess, time
from pytest_metaharness import Proposal, Tokens

def improve(w):
    (w / "FACTS.md").write_text("one\\n")
def nothing(w):
    pass
def worsen(w):
    (w / "FACTS.md").write_text("three\\n")
def leave_scope(w):
    (w / "other.txt").write_text("mine\\n")
def delete_required(w):
    (w / "FACTS.md").unlink()
def fail(w):
    raise ValueError("lost my way")
def nonsense(w):
    return {"status": "completed"}
def sleep(w):
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(1000)
def rename(w):
    (w / "other.txt").rename(w / "scripts" / "other.txt")
def link_out(w):
    (w / "scripts" / "away").symlink_to("../../../etc")
def finish(w):
    (w / "FACTS.md").write_text("one two\\n")
    (w / "scripts" / "run.sh").write_text("exit 0\\n")
    return Proposal(status="completed", summary="all", tokens=Tokens(input=5, cached=2, output=1), cost_usd=0.5)

STEPS = [improve, nothing, worsen, leave_scope, delete_required, fail, nonsense, sleep, rename, link_out, finish]

def pytest_metaharness_propose(request):
    if request.backend.provider != "mine":
        return None
    given = STEPS[int(request.candidate[1:]) - 1](request.workspace)
    return given if given is not None else Proposal(status="completed")
"""
    )
    session = run_session(pytester, "--metaharness=mine", "--metaharness-timeout=1", *workers, "facts")
    session.result.assert_outcomes(passed=1)
    run = session.run
    assert read_outcomes(run) == [
        "baseline",
        "keep",
        "no-change",
        "discard",
        "scope-violation",
        "invalid",
        "crash",
        "crash",
        "timeout",
        "scope-violation",
        "scope-violation",
        "keep",
    ]
    reasons = [candidate["reason"] for candidate in run["candidates"]]
    assert reasons[1:] == [
        "0.000 -> 0.250",
        "the backend changed no file",
        "0.000 is not better than 0.250 (c0001)",
        "changed other.txt; only FACTS.md, scripts/ may be changed",
        "required files are missing: FACTS.md",
        "ValueError: lost my way",
        "the backend gave {'status': 'completed'} instead of a Proposal",
        "no answer within 1 s",
        "deleted other.txt; only FACTS.md, scripts/ may be changed",
        "links that lead out of the workspace: scripts/away",
        "0.250 -> 1.000",
    ]
    assert (run["baseline"], run["best"], run["gain"], run["best_candidate"]) == (0.0, 1.0, 1.0, "c0011")
    assert run["proposals"] == 11
    assert run["tokens"] == {"input": 5, "cached": 2, "output": 1}
    assert run["cost_usd"] == 0.5
    assert run["changed_files"] == ["FACTS.md", "scripts/run.sh"]
    assert run["outcomes"] == {
        "crash": 2,
        "discard": 1,
        "invalid": 1,
        "keep": 2,
        "no-change": 1,
        "scope-violation": 3,
        "timeout": 1,
    }
