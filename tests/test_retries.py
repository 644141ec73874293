"""What happens when a service cannot be used: it is tried again within its time; and how many may call it at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sessions import make_target, run_session

TARGET = """
goal: x
budget: 1
checks: {good: {contains: {path: a.txt, all: [good]}}}
backends:
  flaky: {provider: flaky}
  seated: {provider: seated, parallel: 1}
  pairs: {provider: seated, parallel: 2}
"""

FLAKY = """
from pathlib import Path
import pytest_metaharness.core.asking as asking
from pytest_metaharness import Proposal, Tokens

asking.FIRST_PAUSE_S = 0.01
CALLS = Path(__file__).with_name("calls")

def pytest_metaharness_propose(request):
    if request.backend.provider != "flaky":
        return None
    calls = len(CALLS.read_text()) if CALLS.exists() else 0
    CALLS.write_text("x" * (calls + 1))
    files = sorted(path.name for path in request.workspace.iterdir())
    assert files == [".metaharness", "a.txt"], files
    assert not list(request.state.iterdir())
    assert (request.workspace / "a.txt").read_text() == "bad"
    assert (request.workspace / ".metaharness/BRIEF.md").exists()
    (request.workspace / "left").write_text("over")
    (request.workspace / "a.txt").write_text("half")
    (request.state / "session").write_text("old")
    used = {"tokens": Tokens(input=10, cached=1, output=2), "cost_usd": 0.5, "tool_calls": 3}
    if calls < %d:
        return Proposal(status="unavailable", reason=f"rate limit {calls + 1}", **used)
    (request.workspace / "left").unlink()
    (request.workspace / "a.txt").write_text("good")
    return Proposal(status="completed", **used)
"""


def events(trial: Path, kind: str) -> list[dict[str, object]]:
    lines = (trial / "journal.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_an_unavailable_service_is_tried_again_from_the_same_files(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(FLAKY % 2)
    make_target(pytester.path / "words", TARGET, a_txt="bad")
    session = run_session(pytester, "--metaharness=flaky")
    session.result.assert_outcomes(passed=1)
    candidate = session.candidate(1)
    assert (candidate["outcome"], candidate["reason"]) == ("keep", "0.000 -> 1.000")
    assert candidate["tokens"] == {"input": 30, "cached": 3, "output": 6}
    assert (candidate["cost_usd"], candidate["tool_calls"]) == (1.5, 9)
    assert [event["reason"] for event in events(session.trial, "proposal-refused")] == ["rate limit 1", "rate limit 2"]
    assert session.run["settings"]["retries"] == {"value": 2, "from": "default"}


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--metaharness-retries=2", "rate limit 3 (tried 3 times)"),
        ("--metaharness-retries=1", "rate limit 2 (tried 2 times)"),
        ("--metaharness-retries=0", "rate limit 1"),
    ],
)
def test_the_reason_says_how_often_it_was_tried(pytester: pytest.Pytester, option: str, reason: str) -> None:
    pytester.makeconftest(FLAKY % 9)
    make_target(pytester.path / "words", TARGET, a_txt="bad")
    session = run_session(pytester, "--metaharness=flaky", option)
    session.result.assert_outcomes(failed=1)
    assert (session.candidate(1)["outcome"], session.candidate(1)["reason"]) == ("unavailable", reason)


def test_it_is_not_tried_again_when_no_time_is_left(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((FLAKY % 9).replace("FIRST_PAUSE_S = 0.01", "FIRST_PAUSE_S = 40"))
    make_target(pytester.path / "words", TARGET, a_txt="bad")
    session = run_session(pytester, "--metaharness=flaky", "--metaharness-timeout=20")
    assert session.candidate(1)["reason"] == "rate limit 1"


@pytest.mark.parametrize("given", ["-1", "two", "1.5"])
def test_a_malformed_number_of_retries_is_a_usage_error(pytester: pytest.Pytester, given: str) -> None:
    result = pytester.runpytest_subprocess("--metaharness=fake", f"--metaharness-retries={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--metaharness-retries must be a whole number >= 0, got {given}"])


SEATED = """
import os, time
from pathlib import Path
from pytest_metaharness import Proposal

LOG = Path(__file__).with_name("log")

def note(word):
    with LOG.open("a") as log:  # one write each, so that lines of several workers do not mix
        log.write(f"{time.monotonic()} {word}\\n")

def pytest_metaharness_propose(request):
    if request.backend.provider != "seated":
        return None
    note("+1")
    time.sleep(0.3)
    (request.workspace / "a.txt").write_text("good")
    note("-1")
    return Proposal(status="completed")
"""


@pytest.mark.parametrize(("backend", "most"), [("seated", 1), ("pairs", 2)])
def test_no_more_proposals_run_at_once_than_a_backend_allows(
    pytester: pytest.Pytester, backend: str, most: int
) -> None:
    pytester.makeconftest(SEATED)
    for name in ("one", "two", "three"):
        make_target(pytester.path / name, TARGET, a_txt="bad")
    session = run_session(pytester, f"--metaharness={backend}", "--metaharness-trials=2", "-n3")
    session.result.assert_outcomes(passed=6)
    lines = sorted((pytester.path / "log").read_text().splitlines(), key=lambda line: float(line.split()[0]))
    running = [sum(int(line.split()[1]) for line in lines[: count + 1]) for count in range(len(lines))]
    assert (len(lines), max(running)) == (12, most)


def test_parallel_must_be_a_whole_number(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "words", TARGET.replace("parallel: 1", "parallel: 0"), a_txt="bad")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*metaharness.yaml:7: backends.seated.parallel: must be > 0, got 0"])
