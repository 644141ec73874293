"""Whatever ends a session early: what it found is reported, and nothing is left running."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from faults import (
    TARGET,
    check_interrupted,
    check_nothing_left,
    find_sleepers,
    marking,
    running,
    wait_until,
    wait_until_all_ended,
    write_case,
)
from sessions import find_session, make_target, read_outcomes, read_report, run_session

from pytest_metaharness.interruption import REPEAT_S, Interruption


@pytest.fixture
def marker() -> Iterator[str]:
    with marking() as text:
        yield text


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    """A killed session leaves its temporary folders behind: here, not on the machine."""
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("tmp")))


# -------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("number", "reason", "sandbox"),
    [
        (signal.SIGINT, "KeyboardInterrupt", "auto"),
        (signal.SIGTERM, "SIGTERM", "off"),
        (signal.SIGHUP, "SIGHUP", "auto"),
    ],
    ids=["SIGINT", "SIGTERM-unjailed", "SIGHUP"],
)
def test_a_signal_ends_a_session(
    pytester: pytest.Pytester, marker: str, number: signal.Signals, reason: str, sandbox: str
) -> None:
    root = pytester.path
    write_case(root, marker, first="hang", second="hang")
    with running(root, marker, f"--metaharness-sandbox={sandbox}", sleepers=2) as session:
        session.send_signal(number)
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert not find_sleepers(marker)
    (run,) = read_report(root)["runs"]
    check_interrupted(run, f"interrupted: {reason}")
    assert json.loads((root / run["directory"] / "run.json").read_text())["status"] == "interrupted"
    assert (root / run["patch"]).read_text().endswith("+yes\n\\ No newline at end of file\n")
    assert "first/metaharness.yaml::mine     0.000  0.500  +0.500" in (root / "output").read_text()
    assert not list((root / "tmp").glob("metaharness-*"))


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGINT, os.killpg), (signal.SIGHUP, os.killpg), (signal.SIGTERM, os.kill)],
    ids=["SIGINT", "SIGHUP", "SIGTERM-controller"],
)
def test_a_signal_ends_a_session_with_workers(
    pytester: pytest.Pytester, marker: str, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    root = pytester.path
    write_case(root, marker, first="hang", second="hang")
    with running(root, marker, "-n2", sleepers=4) as session:
        send(session.pid, number)
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert not find_sleepers(marker)
    runs = read_report(root)["runs"]
    assert [run["target"] for run in runs] == ["first", "second"]
    for run in runs:
        check_interrupted(run, "interrupted")
    assert (find_session(root) / "report.tsv").exists()


@pytest.mark.parametrize(
    ("args", "sleepers", "step"),
    [
        ((), 2, "hang"),
        (("--metaharness-sandbox=off",), 2, "hang_in_python"),
        (("-n2",), 4, "hang"),
    ],
    ids=["serial", "serial-unjailed", "xdist"],
)
def test_a_second_signal_says_nothing_new(
    pytester: pytest.Pytester, marker: str, args: tuple[str, ...], sleepers: int, step: str
) -> None:
    root = pytester.path
    write_case(root, marker, first=step, second="hang")
    with running(root, marker, *args, sleepers=sleepers) as session:
        os.killpg(session.pid, signal.SIGINT)
        wait_until(lambda: len(find_sleepers(marker)) < sleepers, "the first is being obeyed")
        os.killpg(session.pid, signal.SIGINT)
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert not find_sleepers(marker)
    runs = read_report(root)["runs"]
    assert len(runs) == (2 if "-n2" in args else 1)
    for run in runs:
        check_interrupted(run, "interrupted: ")
        assert json.loads((root / run["directory"] / "run.json").read_text())["status"] == "interrupted"
    output = (root / "output").read_text()
    assert "Traceback" not in output
    assert "first/metaharness.yaml::mine     0.000  0.500  +0.500" in output.replace("mine      ", "mine     ")
    check_nothing_left(root)


def test_who_insists_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that swallowed the first Ctrl-C gets the next one too, a while later; other tests get every one."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    handler = Interruption()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            handler(signal.SIGINT, None)
    with handler.covering():
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            handler(signal.SIGTERM, None)
        now += REPEAT_S / 2
        handler(signal.SIGINT, None)
        now += REPEAT_S / 2
        with pytest.raises(KeyboardInterrupt):
            handler(signal.SIGINT, None)
    handler(signal.SIGINT, None)


def test_a_check_is_interrupted_too(pytester: pytest.Pytester, marker: str) -> None:
    root = pytester.path
    text = TARGET.replace("checks:", f"checks:\n  c: {{run: sleep {marker}, timeout: 3600}}")
    for name in ("first", "second"):
        make_target(root / name, text, a_txt="no", fake="[]")
    with running(root, marker, "--metaharness=fake", sleepers=1) as session:
        session.send_signal(signal.SIGINT)
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert not find_sleepers(marker)
    (run,) = read_report(root)["runs"]
    assert (run["status"], run["candidates"]) == ("interrupted", [])
    assert (run["baseline"], run["best"], run["gain"], run["best_candidate"]) == (None, None, None, None)
    assert "first/metaharness.yaml::fake         -     -     -        0/3" in (root / "output").read_text()


def test_an_interrupt_ends_the_session_even_when_the_record_cannot_be_written(
    pytester: pytest.Pytester, marker: str
) -> None:
    write_case(pytester.path, marker, first="break_record", second="break_record")
    result = pytester.runpytest_subprocess("--metaharness=mine")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert not list(find_session(pytester.path).glob("second-*"))
    result.stdout.fnmatch_lines(["*run.json: the record cannot be read: *"])


@pytest.mark.parametrize(
    ("sandbox", "workers"),
    [("auto", ()), ("off", ()), ("auto", ("-n2",))],
    ids=["serial", "serial-unjailed", "xdist"],
)
def test_nothing_outlives_a_killed_session(
    pytester: pytest.Pytester, marker: str, sandbox: str, workers: tuple[str, ...]
) -> None:
    root = pytester.path
    write_case(root, marker, first="hang", second="finish")
    with running(root, marker, f"--metaharness-sandbox={sandbox}", *workers, sleepers=2) as session:
        session.kill()
    wait_until_all_ended(marker)
    folder = find_session(root)
    assert not (folder / "report.json").exists()
    (journal,) = folder.glob("first-*/journal.jsonl")
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    found = [event["candidate"] for event in events if event["event"] == "candidate"]
    assert [(candidate["id"], candidate["objective"]) for candidate in found] == [("c0000", 0.0), ("c0001", 0.5)]
    assert (journal.parent / "best.patch").exists()


# ----------------------------------------------------------------------------------- workers, time limits, plugins


def test_a_killed_worker_loses_its_run_not_what_it_found(pytester: pytest.Pytester, marker: str) -> None:
    root = pytester.path
    write_case(root, marker, first="hang", second="finish", third="finish")
    with running(root, marker, "-n2", sleepers=2) as session:
        os.kill(int((root / "first.pid").read_text()), signal.SIGKILL)
    assert session.returncode == pytest.ExitCode.TESTS_FAILED
    wait_until_all_ended(marker)
    output = (root / "output").read_text()
    assert "crashed while running 'first/metaharness.yaml::mine'" in output
    runs = {run["target"]: run for run in read_report(root)["runs"]}
    assert {name: run["status"] for name, run in runs.items()} == {
        "first": "lost",
        "second": "completed",
        "third": "completed",
    }
    lost = runs["first"]
    assert lost["reason"] == "its worker process died after c0001 was finished"
    assert lost["gate"] == {"passed": False, "failures": [lost["reason"]]}
    assert read_outcomes(lost) == ["baseline", "keep"]
    assert (lost["best"], lost["changed_files"]) == (0.5, ["a.txt"])
    assert json.loads((root / lost["directory"] / "run.json").read_text())["status"] == "lost"
    assert f"first/metaharness.yaml::mine\n  {lost['reason']}\n" in output


@pytest.mark.parametrize(
    ("method", "step", "workers"),
    [("signal", "hang_in_python", ()), ("thread", "hang", ("-n2",))],
    ids=["signal", "thread-xdist"],
)
def test_pytest_timeout_ends_a_trial_and_the_session_goes_on(
    pytester: pytest.Pytester, marker: str, method: str, step: str, workers: tuple[str, ...]
) -> None:
    write_case(pytester.path, marker, first=step, second="finish")
    args = ("--metaharness=mine", "--timeout=2", f"--timeout-method={method}", *workers)
    session = run_session(pytester, *args)
    assert not find_sleepers(marker)
    session.result.assert_outcomes(failed=1, passed=1)
    first, second = session.runs
    reason = "interrupted: the limit of pytest-timeout for this item, 2 s, is over"
    check_interrupted(first, reason)
    assert second["status"] == "completed"
    session.result.stdout.fnmatch_lines([reason])


def test_other_plugins_may_be_absent(pytester: pytest.Pytester, marker: str) -> None:
    write_case(pytester.path, marker, first="finish")
    absent = ("timeout", "xdist", "cacheprovider", "junitxml", "terminal")
    args = itertools.chain.from_iterable(("-p", f"no:{plugin}") for plugin in absent)
    session = run_session(pytester, "--metaharness=mine", "--metaharness-sandbox=off", *args)
    assert session.result.ret == pytest.ExitCode.OK
    assert session.run["best"] == 1.0


@pytest.mark.parametrize(
    ("sandbox", "workers"), [("auto", ()), ("off", ("-n2",))], ids=["jailed-serial", "unjailed-xdist"]
)
def test_a_late_provider_leaves_nothing_running(
    pytester: pytest.Pytester, marker: str, sandbox: str, workers: tuple[str, ...]
) -> None:
    write_case(pytester.path, marker, first="hang", second="hang_in_python")
    options = ("--metaharness-timeout=1", "--metaharness-budget=2", f"--metaharness-sandbox={sandbox}")
    session = run_session(pytester, "--metaharness=mine", *options, *workers)
    assert not find_sleepers(marker)
    session.result.assert_outcomes(passed=2)
    for run in session.runs:
        assert read_outcomes(run) == ["baseline", "keep", "timeout"]
        assert run["candidates"][2]["reason"] == "no answer within 1 s"
        assert run["candidates"][2]["duration_s"] < 8
