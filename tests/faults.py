"""Faults that strike a session: a search to strike, programs to look for afterwards, and what must hold in any case."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sessions import Run, Session, make_target, read_outcomes

PATIENCE_S = 60.0
TARGET = """\
goal: Say yes, please.
budget: 3
checks:
  a: {contains: {path: a.txt, all: ["yes"]}}
  b: {contains: {path: a.txt, all: ["please"]}}
"""
PROVIDER = """\
import os, signal, subprocess, sys, time
from pathlib import Path
from pytest_metaharness import Proposal

SLEEP_BESIDE_A_DAEMON = [sys.executable, "-c", '''
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execlp("sleep", "sleep", "MARKER")
    os._exit(0)
os.wait()
os.execlp("sleep", "sleep", "MARKER")
''']

def hang(request):
    with open(f"{request.target.name}.pid", "w") as file:
        file.write(str(os.getpid()))
    ended = request.run(SLEEP_BESIDE_A_DAEMON)
    if ended.returncode:
        return Proposal(status="crash", reason=f"the agent ended with {ended.returncode}")

def hang_in_python(request):
    subprocess.Popen(SLEEP_BESIDE_A_DAEMON)
    while True:
        try:
            time.sleep(1000)
        except Exception:
            pass

def break_record(request):
    record = request.log_dir.parent / "run.json"
    record.unlink()
    record.mkdir()
    signal.raise_signal(signal.SIGINT)

def finish(request):
    (request.workspace / "a.txt").write_text("yes, please")

def pytest_metaharness_propose(request):
    if request.candidate == "c0001":
        (request.workspace / "a.txt").write_text("yes")
        return Proposal(status="completed")
    return STEPS[request.target.name](request) or Proposal(status="completed")
"""
Ending = tuple[str, list[str]]
"""The status of a run, and the outcomes of its candidates."""

FOUND = ["baseline", "keep"]
"""What every search finishes before its fault strikes."""

DONE: Ending = ("completed", [*FOUND, "keep"])
FAILED: Ending = ("failed", FOUND)
UNBEGUN: Ending = ("failed", [])

_numbers = itertools.count(1)


def write_case(root: Path, marker: str = "", *, more: str = "", **steps: str) -> None:
    """Make a target per step; the first proposal of each is kept, the second one takes the step.

    *more* defines further steps. Programs that hang carry the *marker*.
    """
    table = ", ".join(f"{name!r}: {step}" for name, step in steps.items())
    (root / "conftest.py").write_text(f"{PROVIDER}\n{more}\nSTEPS = {{{table}}}\n".replace("MARKER", marker))
    for name in steps:
        make_target(root / name, TARGET, a_txt="no")


# -------------------------------------------------------------------------------------------- what is left running


@contextmanager
def marking() -> Iterator[str]:
    """Give the argument of every program that hangs in this test, and in no other; none is left after it."""
    text = f"{os.getpid()}.{next(_numbers):04}"
    yield text
    for process in find_sleepers(text):
        process.kill()


def find_sleepers(marker: str) -> list[psutil.Process]:
    """Find the programs that hang, and all that were started for them: each has the marker on its command line."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and marker in " ".join(process.info["cmdline"] or ())
    ]


def wait_until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def wait_until_all_ended(marker: str) -> None:
    wait_until(lambda: not find_sleepers(marker), f"nothing of {marker} is left running")


@contextmanager
def running(
    root: Path, marker: str, *args: str, sleepers: int, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a session and wait until that many programs hang in it; it is over at the end of the block."""
    with (root / "output").open("wb") as output:
        session = subprocess.Popen(
            [*prefix, sys.executable, "-m", "pytest", "--metaharness=mine", *args],
            cwd=root,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: sum(process.info["cmdline"] == ["sleep", marker] for process in find_sleepers(marker)) == sleepers,
            f"{sleepers} programs hang:\n{(root / 'output').read_text()}",
        )
        yield session
        session.wait(PATIENCE_S)
    finally:
        if session.poll() is None:
            os.killpg(session.pid, signal.SIGKILL)
            session.wait()


# ------------------------------------------------------------------------------------------- what holds in any case


def check_interrupted(run: Run, reason: str) -> None:
    assert (run["status"], run["gate"]["passed"]) == ("interrupted", False)
    assert reason in run["reason"]
    assert read_outcomes(run) == FOUND
    assert (run["baseline"], run["best"], run["best_candidate"]) == (0.0, 0.5, "c0001")
    assert run["changed_files"] == ["a.txt"]


def check_manners(session: Session, lines: Sequence[str]) -> None:
    """See that the session failed, said why in those *lines*, showed no traceback and left nothing behind."""
    session.result.stdout.fnmatch_lines_random(lines)
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in session.output
    assert "INTERNALERROR" not in session.output
    check_nothing_left(session.folder.parents[1])


def check_nothing_left(root: Path) -> None:
    """See that no process works below *root* any more, and that no temporary folder is left in ``tmp`` there."""
    wait_until(lambda: not list(_find_processes_in(root)), f"no process works below {root}")
    assert not list((root / "tmp").glob("metaharness-*"))


def _find_processes_in(root: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cwd", "status"]):
        is_other = process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE
        if is_other and f"{process.info['cwd'] or ''}/".startswith(f"{root}/"):
            yield process


def read_statuses(runs: Sequence[Run]) -> Mapping[str, Ending]:
    """Give how every run ended, by target."""
    return {run["target"]: (run["status"], read_outcomes(run)) for run in runs}
