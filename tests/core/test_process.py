from __future__ import annotations

import os
import signal
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_metaharness.core.processes.process import Completed, ProgramError, host_environment, start_tool
from pytest_metaharness.core.processes.sandbox import Jail

Start = Callable[..., Completed]


def test_output_and_exit_code_are_returned(start: Start) -> None:
    completed = start("bash", "-c", "echo out; echo err >&2; exit 7")
    assert (completed.returncode, completed.timed_out) == (7, False)
    assert (completed.stdout.text(), completed.stderr.text()) == ("out\n", "err\n")
    assert completed.argv == ("bash", "-c", "echo out; echo err >&2; exit 7")
    assert 0 < completed.duration_s < 5


def test_merged_stderr_stands_between_the_lines_of_stdout(start: Start) -> None:
    completed = start("bash", "-c", "echo 1; echo 2 >&2; echo 3", merge_stderr=True)
    assert completed.stdout.text() == "1\n2\n3\n"
    assert completed.stderr.total == 0


def test_death_by_signal_shows_in_the_exit_code(start: Start, jail: Jail | None) -> None:
    completed = start("sh", "-c", "kill -USR1 $$")
    assert completed.returncode == (-signal.SIGUSR1 if jail is None else 128 + signal.SIGUSR1)


def test_environment_is_the_given_one(start: Start, jail: Jail | None, tmp_path: Path) -> None:
    given = {"PATH": os.defpath, "EMPTY": "", "ODD": "a=b\nc=\udcff"}
    completed = start("env", "-0", env=given)
    pairs = (pair.split(b"=", 1) for pair in completed.stdout.head.split(b"\0") if pair)
    seen = {os.fsdecode(name): os.fsdecode(value) for name, value in pairs}
    if jail is None:
        assert len(seen.pop("METAHARNESS_TREE")) == 32
    assert seen == {**given, "PWD": str(tmp_path)}


def test_working_folder_is_the_given_one(start: Start, tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    completed = start("pwd", "-P", cwd=tmp_path / "with space")
    assert completed.stdout.text() == f"{(tmp_path / 'with space').resolve()}\n"


def test_large_input_arrives_whole_while_output_flows(start: Start) -> None:
    data = os.urandom(400_000)
    completed = start("cat", stdin=data, keep_bytes=1_000_000)
    assert completed.stdout.head == data


def test_input_that_nobody_reads_is_no_error(start: Start) -> None:
    assert start("true", stdin=bytes(400_000)).returncode == 0


def test_without_input_there_is_an_end_of_file(start: Start) -> None:
    assert start("cat").stdout.total == 0


def test_100_mb_of_output_neither_block_nor_fill_memory(start: Start) -> None:
    tracemalloc.start()
    try:
        completed = start("bash", "-c", "echo first; head -c 100000000 /dev/zero; echo last")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert completed.returncode == 0
    assert completed.stdout.total == 100_000_011
    assert peak < 4_000_000
    text = completed.stdout.text()
    assert text.startswith("first\n")
    assert text.endswith("\0last\n")
    assert f"\n[... {100_000_011 - 256 * 1024} bytes left out ...]\n" in text


def test_nothing_is_dropped_from_output_that_just_fits(start: Start) -> None:
    assert start("head", "-c", "1000", "/dev/zero", keep_bytes=1000).stdout.dropped == 0
    assert start("head", "-c", "1001", "/dev/zero", keep_bytes=1000).stdout.dropped == 1


def test_lines_are_given_as_they_come(start: Start) -> None:
    lines: list[bytes] = []
    long = 'head -c 1048577 /dev/zero | tr "\\0" x; echo'
    start("bash", "-c", f"printf 'a\\n\\nb'; sleep 0.01; echo c; {long}; echo d; printf end", on_line=lines.append)
    assert lines == [b"a", b"", b"bc", b"d", b"end"]


def test_exception_of_on_line_ends_the_program(start: Start) -> None:
    def refuse(line: bytes) -> None:
        raise ValueError(line.decode())

    with pytest.raises(ValueError, match=r"^no$"):
        start("bash", "-c", "echo no; sleep 1000", on_line=refuse)


@pytest.mark.parametrize("listener", ["on_line", "on_stderr_line"])
def test_a_listener_that_has_heard_enough_ends_the_program(start: Start, listener: str) -> None:
    heard: list[bytes] = []

    def listen(line: bytes) -> bool:
        heard.append(line)
        return line == b"enough"

    to = {"on_line": ">&1", "on_stderr_line": ">&2"}[listener]
    completed = start("bash", "-c", f"exec {to}; echo hm; echo enough; sleep 1000", **{listener: listen})
    assert (completed.returncode, completed.timed_out) == (None, False)
    assert heard == [b"hm", b"enough"]
    assert (completed.stdout.text() + completed.stderr.text()) == "hm\nenough\n"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("no-such-program", "cannot start 'no-such-program': No such file or directory"),
        ("./no-such-program", "cannot start './no-such-program': No such file or directory"),
        ("./text", "cannot start './text': Permission denied"),
        ("nu\0ll", r"cannot start 'nu\\x00ll': embedded null byte"),
    ],
)
def test_program_that_cannot_be_started_is_named(start: Start, tmp_path: Path, program: str, reason: str) -> None:
    (tmp_path / "text").write_text("no program", encoding="utf-8")
    with pytest.raises(ProgramError, match=f"^{reason}"):
        start(program)


def test_missing_program_has_the_number_of_the_error(start: Start) -> None:
    with pytest.raises(ProgramError) as caught:
        start("no-such-program")
    assert caught.value.errno == 2


def test_missing_working_folder_is_named(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"cannot start 'true': its working folder .*/missing cannot be entered: No"):
        start("true", cwd=tmp_path / "missing")


def test_program_that_talks_like_the_jail_is_believed_to_have_run(start: Start) -> None:
    completed = start("bash", "-c", "echo 'bwrap: execvp bash: No such file or directory' >&2; exit 1")
    assert completed.returncode == 1


def test_descriptors_of_this_process_are_not_passed_on(start: Start) -> None:
    reading, writing = os.pipe()
    try:
        os.set_inheritable(writing, True)
        completed = start("ls", "/dev/fd")
    finally:
        os.close(reading)
        os.close(writing)
    assert completed.stdout.text().split() == ["0", "1", "2", "3"]  # 3 is the listing's own


def test_blocked_and_ignored_signals_are_not_passed_on(start: Start) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        completed = start("bash", "-c", "trap 'exit 3' TERM; kill -TERM $$; sleep 5; exit 4")
        assert completed.returncode == 3
        completed = start("bash", "-c", "kill -HUP $$; exit 4")
        assert completed.returncode in {-signal.SIGHUP, 128 + signal.SIGHUP}
    finally:
        signal.signal(signal.SIGHUP, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_programs_run_from_several_threads_at_once(start: Start) -> None:
    results: list[str] = []

    def work(number: int) -> None:
        results.append(start("bash", "-c", f"sleep 0.1; echo {number}").stdout.text())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == ["0\n", "1\n", "2\n", "3\n"]


def test_no_descriptor_is_left_open(start: Start) -> None:
    start("true")  # what is opened once
    before = sorted(os.listdir("/dev/fd"))
    start("echo", stdin=b"x")
    with pytest.raises(ProgramError):
        start("no-such-program")
    start("sleep", "1000", timeout=0.05)
    assert sorted(os.listdir("/dev/fd")) == before


def test_base_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    folder = str(Path(sys.executable).parent)
    for name, value in {
        "PATH": f"/opt/one:.::relative:{folder}:/opt/two",
        "HOME": "/home/me",
        "OPENAI_API_KEY": "secret",
        "LC_TIME": "C",
        "LANG": "de_DE.UTF-8",
        "TZ": "UTC",
        "TERM": "xterm",
        "PYTHONPATH": "/here",
    }.items():
        monkeypatch.setenv(name, value)
    assert host_environment(tmp_path / "home", tmp_path / "tmp") == {
        "PATH": f"{folder}:/opt/one:/opt/two",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "TERM": "dumb",
        "LANG": "de_DE.UTF-8",
        "LC_TIME": "C",
        "TZ": "UTC",
    }


def test_tool_has_three_pipes(tmp_path: Path) -> None:
    tool = start_tool(["bash", "-c", "cat; echo $A >&2"], cwd=tmp_path, env={"PATH": os.defpath, "A": "b"})
    assert tool.communicate(b"in", timeout=10) == (b"in", b"b\n")
    assert os.getsid(0) != tool.pid
