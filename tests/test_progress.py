"""What a running trial tells of itself: lines in a log, one status line on a terminal, and nothing left behind."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sessions import make_target
from terminal import Terminal

from pytest_metaharness.core.model import Candidate, Run
from pytest_metaharness.core.runfolder import JOURNAL_FILE, RunFolder
from pytest_metaharness.progress import Journal, compose_status, format_duration, name_trial
from pytest_metaharness.screen import cut

NODEID = "facts/metaharness.yaml::codex"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    """The folder of a trial that has just begun."""
    run = Run(
        nodeid=NODEID,
        target="facts",
        backend="codex",
        provider="codex",
        model=None,
        trial=1,
        budget=5,
        status="running",
    )
    folder = RunFolder(tmp_path / "trial", run)
    yield folder
    folder.finish(run)


def read_on(journal: Journal) -> tuple[list[str], float]:
    """Take in what is new, and give what a log says of it and the time of the last event."""
    events = list(journal.read())
    told = [line for event in events if (line := journal.standing.take(event))]
    return told, events[-1]["time"]


def test_a_journal_tells_what_is_done_and_what_came_of_it(folder: RunFolder) -> None:
    journal = Journal(folder.path / JOURNAL_FILE)
    standing = journal.standing
    told, now = read_on(journal)
    assert told == ["started, 5 proposals at most"]
    assert (standing.title, standing.describe(now + 3)) == ("facts::codex", "baseline")
    folder.log("check-started", candidate="c0000", check="unit", number=3, checks=9)
    _, now = read_on(journal)
    assert standing.describe(now + 4) == "baseline, check 3/9 unit 0:04"
    assert standing.describe(now + 4, briefly=True) == "baseline check 3/9 unit 0:04"
    folder.add(Candidate(id="c0000", parent=None, outcome="baseline", reason="", objective=0.5, duration_s=7.9))
    folder.log("proposal-started", candidate="c0001", parent="c0000")
    told, now = read_on(journal)
    assert told == ["c0000 baseline 0.500  0:07"]
    assert standing.describe(now + 92) == "proposal 1/5, agent at work 1:32; best 0.500"
    assert standing.describe(now + 92, briefly=True) == "1/5 agent 1:32; best 0.500"
    folder.add(Candidate(id="c0001", parent="c0000", outcome="keep", reason="better", objective=0.75, duration_s=92))
    folder.add(Candidate(id="c0002", parent="c0001", outcome="discard", reason="worse", objective=0.5, duration_s=3700))
    folder.add(
        Candidate(id="c0003", parent="c0001", outcome="crash", reason="ValueError: \x1b[31m\nnever", duration_s=1)
    )
    folder.add(Candidate(id="c0004", parent="c0001", outcome="unavailable", reason="no credentials " * 9))
    told, now = read_on(journal)
    assert told == [
        "c0001 keep 0.750 (best 0.750)  1:32",
        "c0002 discard 0.500 (best 0.750)  1:01:40",
        r"c0003 crash: ValueError: \x1b[31m (best 0.750)  0:01",
        "c0004 unavailable: no credentials no credentials no credentials no credential.. (best 0.750)  0:00",
    ]
    assert standing.describe(now) == "proposal 1/5; best 0.750"
    folder.log("end", status="completed", reason="")
    assert not standing.is_over
    read_on(journal)
    assert standing.is_over


def test_an_invalid_baseline_says_why(folder: RunFolder) -> None:
    journal = Journal(folder.path / JOURNAL_FILE)
    folder.add(Candidate(id="c0000", parent=None, outcome="baseline", reason="required files are missing: A"))
    told, now = read_on(journal)
    assert told[1:] == ["c0000 baseline: required files are missing: A  0:00"]
    assert journal.standing.describe(now) == "baseline; best invalid"


def test_a_line_that_is_being_written_waits(folder: RunFolder) -> None:
    journal = Journal(folder.path / JOURNAL_FILE)
    read_on(journal)
    file = folder.path / JOURNAL_FILE
    with file.open("ab") as stream:
        stream.write(b'{"time": 1, "event": "e')
    assert list(journal.read()) == []
    with file.open("ab") as stream:
        stream.write(b'nd"}\n{"time"')
    assert list(journal.read()) == [{"time": 1, "event": "end"}]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (79, "facts::codex  proposal 2/5, agent at work 1:32; best 0.750"),
        (58, "facts::codex  proposal 2/5, agent at work 1:32; best 0.750"),
        (57, "facts::codex  2/5 agent 1:32; best 0.750"),
        (39, "2/5 agent 1:32; best 0.750"),
        (10, "2/5 agen.."),
        (0, ""),
    ],
)
def test_a_status_line_keeps_to_its_width(width: int, expected: str) -> None:
    forms = ("proposal 2/5, agent at work 1:32; best 0.750", "2/5 agent 1:32; best 0.750")
    assert compose_status("facts::codex", forms, width) == expected


def test_names_and_times_are_short() -> None:
    yaml = "a/facts.metaharness.yaml::codex:gpt-5.2-t2"
    assert name_trial(nodeid=yaml, target="facts", backend="codex:gpt-5.2", trial=2) == "facts::codex:gpt-5.2-t2"
    python = "tests/test_a.py::test_route[small-codex]"
    assert name_trial(nodeid=python, target="route[small]", backend="codex", trial=1) == "route[small]::codex"
    assert [format_duration(seconds) for seconds in (-1, 0.99, 59, 60, 36061)] == ["0:00", "0:00", "0:59", "1:00", "10:01:01"]  # fmt: skip  # noqa: E501
    assert (cut("目標目標", 8), cut("目標目標", 7), cut("é" * 9, 9)) == ("目標目標", "目標..", "é" * 9)


# ----------------------------------------------------------------------------------------------- without a terminal

TARGET = """\
goal: Write down the facts.
budget: 2
checks:
  one: {contains: {path: a.txt, all: [one]}}
  two: {run: grep -q two a.txt}
"""
FAKE = "[{fault: raise}, {files: {a.txt: one two}}]"


@pytest.fixture
def target(pytester: pytest.Pytester) -> Path:
    """A target that the second canned proposal solves, among ordinary tests."""
    pytester.makepyfile(test_plain="def test_plain(): pass")
    return make_target(pytester.mkdir("facts"), TARGET, fake=FAKE, a_txt="one")


LINES = [
    "metaharness: facts::fake  c0000 baseline 0.500  0:00",
    "metaharness: facts::fake  c0001 crash: RuntimeError: imitated: the backend raised (best 0.500)  0:00",
    "metaharness: facts::fake  c0002 keep 1.000 (best 1.000)  0:00",
]


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (["facts"], ["facts/metaharness.yaml ", *LINES, "facts/metaharness.yaml .*[[]100%]"]),
        (["-v", "facts"], ["facts/metaharness.yaml::fake ", *LINES, "facts/metaharness.yaml::fake PASSED*[[]100%]"]),
        (["-n1", "facts"], ["metaharness: facts::fake  started, 2 proposals at most", *LINES, ".*[[]100%]"]),
    ],
    ids=["serial", "verbose", "xdist"],
)
def test_every_finished_candidate_gets_a_line(
    pytester: pytest.Pytester, target: Path, args: list[str], lines: list[str]
) -> None:
    result = pytester.runpytest_subprocess("--metaharness=fake", *args)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([re.sub(r"0:\d\d$", "0:??", line) for line in lines], consecutive=True)
    assert "\x1b" not in str(result.stdout)


@pytest.mark.parametrize(
    "args",
    [[], ["--metaharness=fake", "-q"], ["--metaharness=fake", "-p", "no:terminal"]],
    ids=["measuring", "quiet", "silent"],
)
def test_who_wants_less_gets_less(pytester: pytest.Pytester, target: Path, args: list[str]) -> None:
    result = pytester.runpytest_subprocess(*args)
    assert result.ret == 0
    assert "metaharness: " not in str(result.stdout)


# -------------------------------------------------------------------------------------------------- on a terminal

PATIENT = """\
import sys, threading, time
from pathlib import Path
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    if request.backend.provider not in ("patient", "waiting"):
        return None
    print("captured, as ever")
    deadline = time.monotonic() + 30
    while not Path("seen").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    (request.workspace / "a.txt").write_text("one two")
    return Proposal(status="completed")

def pytest_unconfigure():
    assert "metaharness-progress" not in [thread.name for thread in threading.enumerate()]
"""


@pytest.mark.parametrize(
    ("args", "columns", "status", "results"),
    [
        (
            ["--metaharness=patient"],
            80,
            [r"facts/metaharness.yaml", r"facts::patient  proposal 1/2, agent at work 0:0\d; best 0\.500"],
            ["facts/metaharness.yaml .", "test_plain.py ."],
        ),
        (
            ["--metaharness=patient,waiting", "-n2"],
            40,
            [r"2 workers \[3 items\]", r"(facts::(patient|waitin)?\.*  )?1/2 agent 0:0\d; best 0\.500"],
            ["..."],
        ),
    ],
    ids=["serial", "xdist"],
)
def test_a_terminal_has_one_status_line_and_nothing_of_it_stays(  # noqa: PLR0917
    pytester: pytest.Pytester,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    columns: int,
    status: list[str],
    results: list[str],
) -> None:
    for name in ("CI", "BUILD_NUMBER", "COLUMNS", "PY_COLORS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest(PATIENT)
    env = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1"}
    terminal = Terminal(columns)

    def shows_status() -> bool:
        rows = "\n".join(row for row in terminal.rows if row)
        return re.search("\n".join(status) + r"\Z", rows) is not None

    argv = [sys.executable, "-X", "dev", "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *args]
    with terminal.run(argv, cwd=pytester.path, env=env) as program:
        assert terminal.follow(shows_status), terminal.rows
        (pytester.path / "seen").touch()
        terminal.follow()
        assert program.wait() == 0, terminal.rows
    left = "\n".join(terminal.rows)
    assert [row.rpartition("[")[0].rstrip() for row in terminal.rows if re.search(r"\[ *\d+%\]$", row)] == results
    assert not re.search(r"agent|check \d|proposal \d|captured|Warning|Error", left), left
    assert not re.search(r"\x1b\[[0-9;]*m", terminal.raw), "NO_COLOR is respected"
