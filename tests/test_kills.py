"""SIGKILL at random moments: what was finished stays, no agent survives, and the next session works.

The moments come from a seed that is printed. METAHARNESS_KILLS says how many rounds there are of each kind, and
METAHARNESS_SEED repeats those of an earlier run: ``METAHARNESS_KILLS=20 pytest -s tests/test_kills.py``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from faults import PATIENCE_S, check_nothing_left, marking, wait_until, wait_until_all_ended
from sessions import LEAN, make_target

ROUNDS = int(os.environ.get("METAHARNESS_KILLS", "2"))
SEED = int(os.environ.get("METAHARNESS_SEED") or random.SystemRandom().randrange(10**6))

TARGET = """\
goal: Count to four.
budget: 4
checks:
  one: {contains: {path: a.txt, all: ["one"]}}
  two: {contains: {path: a.txt, all: ["two"]}}
  three: {run: grep -q three a.txt}
  all: {run: "sleep 0.05; grep -q four a.txt"}
"""
PROVIDER = """\
import os, random, time
from pytest_metaharness import Proposal

COUNTED = {"c0001": "one", "c0002": "one two", "c0003": "one two three", "c0004": "one two three four"}
AGENTS = {
    "sleeping": "setsid sleep MARKER & sleep 0.2",
    "working": "setsid sleep MARKER & i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done",
    "daemon": "(setsid bash -c 'sleep MARKER & sleep MARKER' &) ; sleep 0.05",
}

def pytest_metaharness_propose(request):
    agent = random.Random(f"{request.backend.name} {request.candidate}").choice([*AGENTS, "here"])
    if agent == "here":
        time.sleep(0.1)
        (request.workspace / "a.txt").write_text(COUNTED[request.candidate])
    else:
        request.run(["bash", "-c", f"{AGENTS[agent]}; echo {COUNTED[request.candidate]} > a.txt"])
    return Proposal(status="completed")

def pytest_metaharness_candidate(run, candidate):
    with open("observed", "a") as file:  # in one write: it is there or not
        file.write(f"{run.nodeid} {candidate.id} {candidate.outcome}\\n")
"""
TARGETS = ("left", "middle", "right")


class Figures(NamedTuple):
    """What came of the rounds of one kind."""

    kills: int = 0
    """Rounds in which the session was still there to be struck."""
    candidates: int = 0
    """Finished before the end of the killed session."""
    unfinished: int = 0
    """Runs that did not come to their own end."""


@pytest.fixture
def marker() -> Iterator[str]:
    with marking() as text:
        yield text


@pytest.fixture
def root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, marker: str) -> Path:
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("tmp")))
    monkeypatch.setenv("PYTEST_ADDOPTS", f"{LEAN} -p no:cacheprovider")
    for name in TARGETS:
        make_target(pytester.path / name, TARGET, a_txt="zero")
    (pytester.path / "conftest.py").write_text(PROVIDER.replace("MARKER", marker))
    return pytester.path


def start(root: Path, *args: str) -> subprocess.Popen[bytes]:
    with (root / "output").open("wb") as output:
        command = [sys.executable, "-m", "pytest", "--metaharness=mine", *args]
        return subprocess.Popen(command, cwd=root, stdout=output, stderr=output, start_new_session=True)


def wait_for_trial(session: subprocess.Popen[bytes], folder: Path) -> None:
    wait_until(lambda: list(folder.glob("*/journal.jsonl")) or session.poll() is not None, "a trial begins")


def finish(root: Path, session: subprocess.Popen[bytes]) -> None:
    try:
        session.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(session.pid, signal.SIGKILL)
        pytest.fail(f"the session did not end:\n{(root / 'output').read_text()}")


def take_observed(root: Path) -> dict[str, list[str]]:
    """Give the candidates that an observer was told of, by node id, and forget them."""
    observed: dict[str, list[str]] = {}
    file = root / "observed"
    for line in file.read_text().splitlines() if file.exists() else ():
        nodeid, candidate, _ = line.rsplit(" ", 2)
        observed.setdefault(nodeid, []).append(candidate)
    file.unlink(missing_ok=True)
    return observed


def read_journals(session: Path) -> dict[str, list[dict[str, Any]]]:
    """Give the candidates that are in the folders of a session, by node id."""
    found = {}
    for journal in session.glob("*/journal.jsonl"):
        lines = [line for line in journal.read_bytes().split(b"\n") if line.endswith(b"}")]
        events = [json.loads(line) for line in lines]
        found[events[0]["nodeid"]] = [event["candidate"] for event in events if event["event"] == "candidate"]
        git = ("git", f"--git-dir={session}/store.git", "cat-file", "-e")
        for candidate in found[events[0]["nodeid"]]:
            if candidate["outcome"] in {"baseline", "keep", "discard"}:
                subprocess.run([*git, f"refs/heads/{journal.parent.name}/{candidate['id']}^{{tree}}"], check=True)
    return found


def check_next_session(root: Path) -> None:
    """See that the next session works in the same folder, and clears away what the killed one has left."""
    session = start(root, "--metaharness-budget=1", "left")
    finish(root, session)
    assert session.returncode == pytest.ExitCode.OK, (root / "output").read_text()
    check_nothing_left(root)
    take_observed(root)


def kill_worker(session: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Kill one of the processes that the controller has started; ``False`` when it is over already."""
    workers = psutil.Process(session.pid).children() if session.poll() is None else []
    if workers:
        chance.choice(sorted(workers, key=lambda process: process.pid)).kill()
    return bool(workers)


def tell(kind: str, figures: Figures, began: float) -> None:
    told = ", ".join(f"{value} {name}" for name, value in figures._asdict().items())
    sys.stdout.write(f"\n{ROUNDS} x {kind}, seed {SEED}: {told}, 0 survivors, {time.monotonic() - began:.0f} s\n")


def test_a_worker_is_killed_at_any_moment(root: Path, marker: str) -> None:
    began, figures = time.monotonic(), Figures()
    for number in range(ROUNDS):
        chance = random.Random(f"worker {SEED} {number}")
        name = f"round-{number}"
        sandbox = f"--metaharness-sandbox={chance.choice(['auto', 'off'])}"
        session = start(root, "-n4", "--metaharness-trials=2", f"--metaharness-name={name}", sandbox)
        folder = root / ".metaharness" / name
        wait_for_trial(session, folder)
        time.sleep(chance.uniform(0, 1.5))
        killed = kill_worker(session, chance)
        finish(root, session)
        output = f"round {number} of seed {SEED}:\n{(root / 'output').read_text()}"
        wait_until_all_ended(marker)
        runs = {run["nodeid"]: run for run in json.loads((folder / "report.json").read_text())["runs"]}
        unbegun = {f"{target}/metaharness.yaml::mine-t{trial}" for target in TARGETS for trial in (1, 2)} - runs.keys()
        assert len(unbegun) <= killed, output
        for nodeid in unbegun:  # struck in its set-up: there is nothing of it to report, but pytest tells
            assert f"crashed while running '{nodeid}'" in output, output
        lost = [run for run in runs.values() if run["status"] != "completed"]
        assert {run["status"] for run in lost} <= {"lost"}, output
        assert session.returncode == (pytest.ExitCode.TESTS_FAILED if lost or unbegun else pytest.ExitCode.OK), output
        assert "Traceback" not in output, output
        journals, observed = read_journals(folder), take_observed(root)
        for nodeid, candidates in observed.items():
            assert [candidate["id"] for candidate in journals[nodeid]][: len(candidates)] == candidates, output
            assert [candidate["id"] for candidate in runs[nodeid]["candidates"]][: len(candidates)] == candidates, (
                output
            )
        for run in runs.values():
            assert run["status"] == "lost" or len(run["candidates"]) == 5, output
        check_nothing_left(root)
        check_next_session(root)
        figures = Figures(
            figures.kills + killed,
            figures.candidates + sum(len(run["candidates"]) for run in runs.values()),
            figures.unfinished + len(lost),
        )
    tell("SIGKILL of a worker of four", figures, began)


def test_pytest_is_killed_at_any_moment(root: Path, marker: str) -> None:
    began, figures = time.monotonic(), Figures()
    for number in range(ROUNDS):
        chance = random.Random(f"pytest {SEED} {number}")
        name = f"round-{number}"
        sandbox = f"--metaharness-sandbox={chance.choice(['auto', 'off'])}"
        folder = root / ".metaharness" / name
        session = start(root, f"--metaharness-name={name}", sandbox)
        if chance.random() < 0.8:  # else maybe before there is a trial
            wait_for_trial(session, folder)
        time.sleep(chance.uniform(0, 2))
        session.kill()
        finish(root, session)
        wait_until_all_ended(marker)
        where = f"round {number} of seed {SEED}"
        journals, observed = read_journals(folder), take_observed(root)
        for nodeid, candidates in observed.items():
            assert [candidate["id"] for candidate in journals[nodeid]][: len(candidates)] == candidates, where
        check_next_session(root)
        figures = Figures(
            figures.kills + (session.returncode == -signal.SIGKILL),
            figures.candidates + sum(map(len, journals.values())),
            figures.unfinished + sum(len(candidates) < 5 for candidates in journals.values()),
        )
    tell("SIGKILL of pytest itself", figures, began)


# ------------------------------------------------------------------------------------- the first moments of a jail

STRUCK = """
import os, sys, time
from pathlib import Path
from pytest_metaharness.core.processes.process import run
from pytest_metaharness.core.processes.sandbox import Jail

marker, delay, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
start = os.posix_spawn

def start_and_die(program, *args, **options):
    pid = start(program, *args, **options)
    if program.endswith("bwrap"):
        time.sleep(delay)
        os.kill(os.getpid(), 9)
    return pid

os.posix_spawn = start_and_die
run(["sleep", marker], cwd=folder, env={"PATH": os.environ["PATH"]}, timeout=60, jail=Jail(writable=(folder,)))
"""


def test_a_jail_that_is_being_made_ends_too(bwrap: None, tmp_path: Path, marker: str) -> None:
    """Its first process watches over its parent only when all is mounted."""
    for delay in (0, 0.0003, 0.001, 0.002, 0.004, 0.008):
        done = subprocess.run([sys.executable, "-c", STRUCK, marker, str(delay), str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL
    wait_until_all_ended(marker)
