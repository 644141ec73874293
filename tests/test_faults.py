"""Faults of the machine: a full disk, a store that is read-only, no git, no jail, a clock that jumps, a killed agent.

Together with test_damaged_stores.py, test_interruptions.py (signals), test_kills.py and test_broken_plugins.py this is
the table of faults. Whatever it is: a line names it, the exit code says that the session failed, what was found so far
is in the report, and nothing is left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from faults import (
    DONE,
    FAILED,
    FOUND,
    UNBEGUN,
    check_manners,
    check_nothing_left,
    find_sleepers,
    marking,
    read_statuses,
    running,
    wait_until,
    write_case,
)
from providers.plain_user import become_plain_user
from sessions import Session, lack, read_outcomes, read_report, run_session, serial_and_xdist

STRIKE = """
import shutil, time

def fill(folder, left=0):  # all but *left* pages
    with open(folder / "filler", "ab", buffering=0) as file:  # two workers may do so at once
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            if left:
                file.truncate(file.tell() - 4096 * left)

def strike(request):
    session = request.log_dir.parent.parent
    {code}
    finish(request)
"""

FULL = "the disk is full: */.metaharness*: No space left on device; make room, or store *"


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("tmp")))


def run_below(pytester: pytest.Pytester, prefix: Sequence[str], *args: str) -> Session:
    """Run a session by way of the command *prefix*."""
    command = (*prefix, sys.executable, "-m", "pytest", "--metaharness=mine", "--metaharness-name=tested", *args)
    result = pytester.run(*command, timeout=60)
    return Session(result=result, folder=pytester.path / ".metaharness" / "tested")


# ------------------------------------------------------------------------------------------------------- the disk

MOUNT = """
mount -t tmpfs -o "$1" none .metaharness && shift || exit 99
"$@"
code=$?
mkdir kept && cp -a .metaharness/. kept/  # the mount ends with this shell
exit $code
"""


def run_on_own_disk(pytester: pytest.Pytester, options: str, *args: str) -> Session:
    """Run a session whose store is a file system of its own, mounted with *options*."""
    (pytester.path / ".metaharness").mkdir()
    private = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--map-root-user")
    if shutil.which("unshare") is None or subprocess.run([*private, "true"], check=False).returncode:
        lack("this user can have no mounts of its own")
    session = run_below(pytester, (*private, "bash", "-c", MOUNT, "bash", options), *args)
    return Session(result=session.result, folder=pytester.path / "kept" / "tested")


@pytest.mark.parametrize("size", ["4k", "40k", "600k"])
def test_a_disk_that_is_full_from_the_start(pytester: pytest.Pytester, size: str) -> None:
    write_case(pytester.path, first="finish", second="finish")
    session = run_on_own_disk(pytester, f"size={size}")
    check_manners(session, [FULL])
    session.result.assert_outcomes(failed=2)
    assert not list((pytester.path / "kept").glob("*/*/c0001")), "nothing was spent"


@serial_and_xdist
def test_a_disk_that_fills_up_in_the_middle(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """What was found is stored all the same, in the space that was kept back for it."""
    write_case(pytester.path, more=STRIKE.format(code="fill(session.parent)"), first="strike", second="strike")
    session = run_on_own_disk(pytester, "size=8m", "--metaharness-report=copy.json", *workers)
    check_manners(session, [FULL])
    endings = read_statuses(session.runs)
    if workers:  # one of them fills the disk, whatever the other does then; who fails gives back what was kept for it
        assert "failed" in [status for status, _ in endings.values()]
        broken = [("failed", DONE[1][:count]) for count in range(3)]
        assert all(ending in [DONE, *broken] for ending in endings.values())
    else:
        assert endings == {"first": FAILED, "second": UNBEGUN}
    assert json.loads((pytester.path / "copy.json").read_text()) == session.report
    for run in session.runs:
        folder = session.folder / Path(run["directory"]).name
        assert json.loads((folder / "run.json").read_text())["status"] == run["status"]
        assert not (folder / ".reserve").exists()
        if run["status"] != "completed" and run["candidates"]:
            assert f"{run['nodeid']}\n  {run['reason']}" in session.output
    assert not (session.folder / ".reserve").exists()


@pytest.mark.parametrize("left", [0, 12, *range(22, 29)])
def test_a_disk_on_which_little_is_left(pytester: pytest.Pytester, left: int) -> None:
    """Whatever it is too little for, the reason is named: git says nothing of it where it cannot write a branch."""
    code = f"(request.workspace / 'more.txt').write_bytes(os.urandom(40_000)); fill(session.parent, left={left})"
    write_case(pytester.path, more=STRIKE.format(code=code), first="strike")
    session = run_on_own_disk(pytester, "size=8m")
    check_manners(session, [FULL])
    assert read_statuses(session.runs) == {"first": FAILED}


def test_a_full_disk_is_no_fault_of_the_agent(pytester: pytest.Pytester) -> None:
    code = "fill(session.parent); request.run(['echo', 'x' * 10000])"
    write_case(pytester.path, more=STRIKE.format(code=code), first="strike")
    session = run_on_own_disk(pytester, "size=8m")
    check_manners(session, ["the disk is full: */c0002*: No space left on device; make room, or store *"])
    assert read_statuses(session.runs) == {"first": FAILED}


def test_a_disk_that_is_full_when_the_report_is_written(pytester: pytest.Pytester) -> None:
    hook = "def pytest_sessionfinish():\n    fill(Path('.metaharness').resolve())\n"
    write_case(pytester.path, more=STRIKE.format(code="pass") + hook, first="finish", second="finish")
    session = run_on_own_disk(pytester, "size=8m")
    assert session.result.ret == pytest.ExitCode.OK
    assert read_statuses(session.runs) == {"first": DONE, "second": DONE}
    assert (session.folder.parent / "filler").stat().st_size > 4 * 1024 * 1024
    check_nothing_left(pytester.path)


def test_a_disk_that_becomes_read_only(pytester: pytest.Pytester) -> None:
    """What can be written elsewhere is, and the rest is on the terminal."""
    remount = "subprocess.run(['mount', '-o', 'remount,ro', '.metaharness'], check=True)"
    hook = f"def pytest_sessionfinish():\n    {remount}\n"
    write_case(pytester.path, more=hook, first="finish", second="finish")
    session = run_on_own_disk(pytester, "size=8m", "--metaharness-report=copy.json")
    check_manners(session, ["*/.metaharness/tested/report.json could not be written: Read-only file system"])
    session.result.stdout.no_fnmatch_line("report: *")
    session.result.stdout.fnmatch_lines(["first/metaharness.yaml::mine *", "second/metaharness.yaml::mine *"])
    runs = json.loads((pytester.path / "copy.json").read_text())["runs"]
    assert read_statuses(runs) == {"first": DONE, "second": DONE}


@serial_and_xdist
def test_a_store_that_is_read_only(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    write_case(pytester.path, first="finish", second="finish")
    session = run_on_own_disk(pytester, "ro", *workers)
    line = "sessions cannot be stored: */.metaharness/tested: Read-only file system; another place can be given *"
    check_manners(session, [line, line])
    session.result.assert_outcomes(failed=2)


def test_a_store_that_this_user_may_not_write() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as name:  # pytest's folders are closed
        root = Path(name)
        write_case(root, first="finish", second="finish")
        python, environ = become_plain_user(root) if os.geteuid() == 0 else ((sys.executable,), os.environ)
        (root / ".metaharness").mkdir(mode=0o555)
        command = (*python, "-m", "pytest", "-p", "no:cacheprovider", "--metaharness=mine")
        done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=60, check=False)
        output = done.stdout + done.stderr
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, output
    told = output.partition("short test summary")[0]  # which CI repeats in full
    assert told.count(": Permission denied; another place can be given with --metaharness-dir\n") == 2
    assert "Traceback" not in output


# ------------------------------------------------------------------------------------------------- git and the jail

PROGRAMS = ("bash", "sh", "cat", "grep", "sleep", "true", "env", "bwrap", "git")


@pytest.fixture
def programs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that PATH leads to: links that can be taken away."""
    folder = pytester.mkdir("programs")
    for name in PROGRAMS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@serial_and_xdist
def test_git_is_missing(pytester: pytest.Pytester, programs: Path, workers: tuple[str, ...]) -> None:
    write_case(pytester.path, first="finish", second="finish")
    (programs / "git").unlink()
    session = run_session(pytester, "--metaharness=mine", *workers)
    check_manners(session, ["git was not found on PATH: install it; candidates are stored as git commits"])
    assert read_statuses(session.runs) == {"first": UNBEGUN, "second": UNBEGUN}


def test_git_vanishes_in_the_middle(pytester: pytest.Pytester, programs: Path) -> None:
    write_case(pytester.path, more=STRIKE.format(code="os.unlink('programs/git')"), first="strike", second="finish")
    session = run_session(pytester, "--metaharness=mine")
    check_manners(session, ["*/programs/git: No such file or directory", "git was not found on PATH: install it; *"])
    assert read_statuses(session.runs) == {"first": FAILED, "second": UNBEGUN}


def test_the_jail_vanishes_in_the_middle(pytester: pytest.Pytester, bwrap: None, programs: Path) -> None:
    code = "os.unlink('programs/bwrap'); request.run(['true'])"
    write_case(pytester.path, more=STRIKE.format(code=code), first="strike", second="finish")
    session = run_session(pytester, "--metaharness=mine")
    check_manners(session, ["bwrap (bubblewrap) is not installed"])
    assert read_statuses(session.runs)["first"] == FAILED


UNPRIVILEGED = (
    "bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged user "
    "namespaces. On e.g. debian this can be enabled with 'sysctl kernel.unprivileged_userns_clone=1'."
)
NO_NAMESPACES = (
    "unshare", "--map-root-user", "bash", "-c",
    'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all -- "$@"', "bash",
)  # fmt: skip
"""As in a container that may not make namespaces: no privileges, and no way to get them in a namespace of one's own."""


@pytest.fixture(params=["by the kernel", "by its message"])
def no_jail(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> tuple[Sequence[str], str]:
    """Give the command below which bwrap is there and cannot be used, and what it says."""
    if request.param == "by the kernel":
        request.getfixturevalue("bwrap")
        if subprocess.run([*NO_NAMESPACES, "true"], check=False, capture_output=True).returncode:
            lack("unshare and setpriv cannot take the right to make namespaces away")
        return NO_NAMESPACES, "bwrap: *: Operation not permitted"
    folder = pytester.mkdir("programs")
    (folder / "bwrap").write_text(f'#!/bin/sh\necho "{UNPRIVILEGED}" >&2\nexit 1\n')
    (folder / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return (), UNPRIVILEGED


@pytest.mark.skipif(sys.platform != "linux", reason="bwrap needs Linux")
@pytest.mark.parametrize(("mode", "workers"), [("auto", ()), ("bwrap", ()), ("bwrap", ("-n2",))])
def test_the_jail_is_there_and_cannot_be_used(
    pytester: pytest.Pytester, no_jail: tuple[Sequence[str], str], mode: str, workers: tuple[str, ...]
) -> None:
    below, reason = no_jail
    write_case(pytester.path, first="finish", second="finish")
    session = run_below(pytester, below, f"--metaharness-sandbox={mode}", *workers)
    if mode == "bwrap":
        check_manners(session, [f"sandbox 'bwrap' cannot be used: * failed: {reason}"])
        session.result.assert_outcomes(errors=2)
        assert not (pytester.path / ".metaharness").exists(), "nothing was begun"
    else:
        assert session.result.ret == pytest.ExitCode.OK
        notice = f"sandbox: none (* failed: {reason}); writing outside the workspace, reading private files and *"
        session.result.stdout.fnmatch_lines([f"metaharness: {notice}", "first/metaharness.yaml .*", notice])
        assert session.report["environment"]["sandbox"] == "none"
        assert read_statuses(session.runs) == {"first": DONE, "second": DONE}
    check_nothing_left(pytester.path)


# ----------------------------------------------------------------------------------------------- the clock, the agent


@pytest.mark.parametrize("seconds", [-86400, 86400, -(10**10)], ids=["back", "ahead", "before the epoch"])
def test_a_clock_that_jumps(pytester: pytest.Pytester, seconds: int) -> None:
    """Between two candidates the clock of the process that tests is set; what is measured has another clock."""
    code = f"now = time.time; time.time = lambda: now() + {seconds}"
    write_case(pytester.path, more=STRIKE.format(code=code), first="strike", second="finish")
    session = run_session(pytester, "--metaharness=mine", "-v")
    session.result.assert_outcomes(passed=2)
    assert read_statuses(session.runs) == {"first": DONE, "second": DONE}
    for run in session.runs:
        durations = [candidate["duration_s"] for candidate in run["candidates"]]
        assert all(0 <= duration < 60 for duration in (*durations, session.report["duration_s"]))
        assert [candidate["id"] for candidate in run["candidates"]] == ["c0000", "c0001", "c0002"]
    (journal,) = session.folder.glob("first-*/journal.jsonl")
    times = [json.loads(line)["time"] for line in journal.read_text().splitlines()]
    assert max(times) - min(times) > 80000
    log = pytester.run(
        "git", f"--git-dir={session.folder}/store.git", "log", "--format=%s", f"{journal.parent.name}/best"
    )
    assert [line for line in log.outlines if line] == ["first c0002", "first c0001", "the baseline of first"]


def test_a_new_session_is_not_taken_for_the_oldest(pytester: pytest.Pytester) -> None:
    write_case(pytester.path, first="finish")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    (measured,) = (path for path in (pytester.path / ".metaharness").iterdir() if path.is_dir())
    for number in range(12):
        shutil.copytree(measured, measured.with_name(f"2999{number:02}01-000000-aaaaaa"))
    shutil.rmtree(measured)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    left = sorted(path.name for path in measured.parent.iterdir() if path.is_dir())
    assert len(left) == 10
    assert (measured.parent / left[0] / "report.json").is_file()
    assert not left[0].startswith("2999")


@pytest.fixture
def marker() -> Iterator[str]:
    with marking() as text:
        yield text


AGENT = """
def agent(request):
    ended = request.run(["bash", "-c", "setsid sleep MARKER5 & exec sleep MARKER"])
    return Proposal(status="crash", reason=f"the agent ended with {ended.returncode}")
"""


def test_a_killed_agent_is_a_crash(pytester: pytest.Pytester, marker: str, sandbox_mode: str) -> None:
    """The daemon beside it ends with it, and the search goes on."""
    write_case(pytester.path, marker, more=AGENT, first="agent", second="finish")
    killed: set[int] = set()

    def kill_next() -> bool:
        agents = [each for each in find_sleepers(marker) if each.info["cmdline"] == ["sleep", marker]]
        found = [agent for agent in agents if agent.pid not in killed]
        for agent in found:
            killed.add(agent.pid)
            agent.kill()
        return bool(found)

    with running(pytester.path, marker, f"--metaharness-sandbox={sandbox_mode}", sleepers=1) as session:
        for number in ("second", "third"):
            wait_until(kill_next, f"the agent of the {number} proposal is there")
    assert session.returncode == pytest.ExitCode.OK
    first, second = read_report(pytester.path)["runs"]
    assert read_outcomes(first) == [*FOUND, "crash", "crash"]
    code = 137 if sandbox_mode == "auto" else -9
    assert {candidate["reason"] for candidate in first["candidates"][2:]} == {f"the agent ended with {code}"}
    assert read_statuses([second]) == {"second": DONE}
    assert not find_sleepers(marker)
    check_nothing_left(pytester.path)


def test_every_worker_would_run_the_same_trial(pytester: pytest.Pytester) -> None:
    write_case(pytester.path, first="finish")
    session = run_session(pytester, "--metaharness=mine", "-n2", "--dist=each")
    check_manners(session, ["--dist=each would run one and the same trial in every worker; leave it out, and repeat *"])
    session.result.assert_outcomes(errors=2)
    run_session(pytester, "--metaharness=mine", "-n1", "--dist=each", name="alone").result.assert_outcomes(passed=1)
