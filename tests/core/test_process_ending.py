from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pytest_metaharness.core.processes.alarm import Expired, alarm
from pytest_metaharness.core.processes.process import Completed, host_environment, run, tracking
from pytest_metaharness.core.processes.sandbox import Jail

Start = Callable[..., Completed]

# Sleeps as a child, in a session of its own, and as a daemon that has lost its parents and its session.
FAMILY = """
import os, sys
for daemon in (False, True):
    if os.fork() == 0:
        os.setsid()
        if daemon and os.fork() > 0:
            os._exit(0)
        os.execvp("sleep", ["sleep", sys.argv[1]])
print("up", flush=True)
os.execvp(*(("sleep", ["sleep", sys.argv[1]]) if sys.argv[2] == "stay" else ("true", ["true"])))
"""

# What a process does that shall be killed, or interrupted, in the middle of run().
RUNNER = """
import sys
from pathlib import Path
from pytest_metaharness.core.processes.process import run, host_environment
from pytest_metaharness.core.processes.sandbox import Jail

folder = Path(sys.argv[1])
jail = Jail(writable=(folder,)) if sys.argv[2] == "jail" else None
argv = [sys.executable, "-c", sys.argv[3], sys.argv[4], "stay"]
announce = lambda line: print(line.decode(), flush=True)
try:
    run(argv, cwd=folder, env=host_environment(folder, folder), timeout=100, jail=jail, on_line=announce)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def number() -> Iterator[str]:
    """Give how long a test's processes sleep, by which they are known; none may be left."""
    number = f"1000.{random.getrandbits(40)}"
    yield number
    assert find_sleepers(number) == []


def find_sleepers(number: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == ["sleep", number] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def wait_until(reached: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def family(number: str, then: str) -> tuple[str, ...]:
    return (sys.executable, "-c", FAMILY, number, then)


def test_timeout_ends_the_whole_tree(start: Start, number: str) -> None:
    completed = start(*family(number, "stay"), timeout=0.7)
    assert (completed.returncode, completed.timed_out) == (None, True)
    assert completed.stdout.text() == "up\n"
    assert completed.duration_s > 0.5
    assert find_sleepers(number) == []


def test_what_a_program_leaves_behind_is_ended_and_does_not_delay(start: Start, number: str) -> None:
    completed = start(*family(number, "go"))
    assert (completed.returncode, completed.timed_out) == (0, False)
    assert completed.stdout.text() == "up\n"
    assert completed.duration_s < 5
    assert find_sleepers(number) == []


def test_grace_reaches_programs_with_sessions_of_their_own(start: Start) -> None:
    inner = "trap 'echo inner; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    outer = "trap 'wait; exit 5' TERM; setsid bash -c \"$0\" & while :; do sleep 0.01; done"
    completed = start("bash", "-c", outer, inner, timeout=0.3, grace=10)
    assert (completed.returncode, completed.timed_out) == (5, True)
    assert completed.stdout.text() == "up\ninner\n"


def test_who_ignores_the_grace_is_killed(start: Start, number: str) -> None:
    completed = start("bash", "-c", f"trap '' TERM; sleep {number}", timeout=0.3, grace=0.2)
    assert (completed.returncode, completed.timed_out) == (None, True)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_death_of_the_caller_ends_the_tree(jail: Jail | None, number: str, tmp_path: Path, how: str) -> None:
    argv = [sys.executable, "-c", RUNNER, str(tmp_path), "jail" if jail else "guardian", FAMILY, number]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "up\n"
        wait_until(lambda: len(find_sleepers(number)) == 3)
        caller.send_signal(signal.Signals[how])
        caller.wait(10)
    wait_until(lambda: not find_sleepers(number))


def test_ctrl_c_again_and_again_cannot_keep_the_tree_alive(jail: Jail | None, number: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", RUNNER, str(tmp_path), "jail" if jail else "guardian", FAMILY, number]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "up\n"
        wait_until(lambda: len(find_sleepers(number)) == 3)
        sleepers = find_sleepers(number)
        while any(psutil.pid_exists(pid) for pid in sleepers) and caller.poll() is None:
            caller.send_signal(signal.SIGINT)
            time.sleep(0.0005)
        assert find_sleepers(number) == []
        output, errors = caller.communicate(timeout=10)
    assert output == "interrupted\n" or "KeyboardInterrupt" in errors


def test_alarm_ends_the_tree_before_it_is_raised(start: Start, number: str) -> None:
    with pytest.raises(Expired), alarm(0.3, Expired):
        start("sleep", number)
    assert find_sleepers(number) == []


def test_held_alarm_leaves_the_program_its_own_time(start: Start) -> None:
    with alarm(0.1, Expired) as clock:
        with clock.hold():
            assert start("bash", "-c", "sleep 0.3; echo done").stdout.text() == "done\n"
        assert not clock.expired


def test_handler_that_does_not_raise_does_not_end_the_program(start: Start) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda signum, _: seen.append(signum))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        assert start("bash", "-c", "sleep 0.3; echo done").stdout.text() == "done\n"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) > 2


def test_time_is_up_in_another_thread_too(start: Start, number: str) -> None:
    results: list[Completed] = []
    thread = threading.Thread(target=lambda: results.append(start(*family(number, "stay"), timeout=0.4)))
    thread.start()
    thread.join(10)
    assert results[0].timed_out
    assert find_sleepers(number) == []


def test_program_that_kills_its_guardian_gains_nothing(number: str, tmp_path: Path) -> None:
    script = f"setsid sleep {number} & sleep {number} & kill -KILL $PPID; sleep {number}"
    completed = run(("bash", "-c", script), cwd=tmp_path, env=host_environment(tmp_path, tmp_path), timeout=20)
    assert (completed.returncode, completed.timed_out) == (-signal.SIGKILL, False)
    assert find_sleepers(number) == []


def test_program_that_stops_its_guardian_gains_nothing(number: str, tmp_path: Path) -> None:
    script = f"setsid sleep {number} & kill -STOP $PPID; sleep {number}"
    environment = host_environment(tmp_path, tmp_path)
    assert run(("bash", "-c", script), cwd=tmp_path, env=environment, timeout=0.3).timed_out
    assert find_sleepers(number) == []


def test_processes_that_fork_without_end_are_ended(start: Start, tmp_path: Path) -> None:
    marker = f"{random.getrandbits(40)}"
    chain = "import os\nprint('up', flush=True)\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setpgid(0, 0)"
    completed = start(sys.executable, "-c", chain, marker, timeout=0.5)
    assert completed.returncode in {0, None}
    assert not [each for each in psutil.process_iter(["cmdline"]) if marker in (each.info["cmdline"] or ())]


# --------------------------------------------------------------------------------------------------------- tracking


def test_tracking_ends_what_python_code_has_started(number: str) -> None:
    with tracking():
        child = subprocess.Popen(family(number, "stay"), stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        wait_until(lambda: len(find_sleepers(number)) == 3)
    assert find_sleepers(number) == []
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert psutil.Process().children(recursive=True) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to an ancestor")
def test_tracking_ends_a_daemon_with_an_environment_of_its_own(number: str) -> None:
    with tracking():
        subprocess.run(["env", "-i", "bash", "-c", f"setsid sleep {number} & exit 0"], check=True)
        wait_until(lambda: find_sleepers(number))
    assert find_sleepers(number) == []


def test_tracking_ends_processes_when_its_block_raises(number: str) -> None:
    with pytest.raises(Expired), tracking(), alarm(0.3, Expired):
        subprocess.run(["setsid", "--fork", "--wait", "sleep", number], check=False)
    assert find_sleepers(number) == []


def test_tracking_leaves_alone_what_was_there_before(number: str) -> None:
    with subprocess.Popen(["bash", "-c", f"read line; sleep {number}"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        with tracking():
            child.stdin.write(b"\n")
            child.stdin.flush()
            wait_until(lambda: find_sleepers(number))
        assert len(find_sleepers(number)) == 1
        psutil.Process(find_sleepers(number)[0]).kill()


def test_tracking_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAHARNESS_TREE", "outer")
    with tracking():
        assert os.environ["METAHARNESS_TREE"] != "outer"
        with tracking():
            pass
    assert os.environ["METAHARNESS_TREE"] == "outer"


def test_runs_inside_tracking_leave_no_zombies(start: Start) -> None:
    with tracking():
        for _ in range(5):
            start("true")
        assert psutil.Process().children() == []
