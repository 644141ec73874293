"""Broken target files in a session: all of them told, no traceback, the good ones beside them collected and run."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from broken_targets import BROKEN, GOOD, GOOD_TARGET, check_manners, make_folder, make_good
from mutated_targets import MUTATIONS, mutate
from providers.plain_user import become_plain_user
from sessions import LEAN, run_session, serial_and_xdist, write_files

MUTATED = 150
MUTABLE = re.sub(r"^backends:\n(  .*\n)+", "", GOOD["full"], flags=re.MULTILINE)  # the real providers have other keys


# --------------------------------------------------------------------------------------------------- many files at once


def test_every_broken_file_is_told_in_one_session(pytester: pytest.Pytester) -> None:
    for name, broken in BROKEN.items():
        make_folder(pytester.path / name)
        (pytester.path / name / "metaharness.yaml").write_bytes(broken.content)
    output = check_manners(pytester.runpytest_subprocess(), 2)
    for name, broken in BROKEN.items():
        assert f"\nERROR {name}/metaharness.yaml\n" in output
        for problem in broken.problems:
            place = re.match(r"(?:\d+: )?\S+", problem)  # the words are those of the core, and have tests there
            assert place
            assert re.search(f"^{name}/metaharness.yaml: ?{re.escape(place[0])}", output, re.MULTILINE), problem
    assert f"{len(BROKEN)} errors" in output


def test_every_mutated_file_is_told_or_collected(pytester: pytest.Pytester) -> None:
    chosen = random.Random(20261123)  # the same at every run; hypothesis looks for others
    names = sorted(MUTATIONS)
    for number in range(MUTATED):
        folder = make_folder(pytester.path / f"m{number:03}")
        edits = [
            (chosen.choice(names), chosen.randrange(800), chosen.randrange(800)) for _ in range(chosen.randint(1, 3))
        ]
        (folder / "metaharness.yaml").write_bytes(mutate(MUTABLE.encode(), edits))
    result = pytester.runpytest_subprocess(
        "--collect-only", "-q", "--continue-on-collection-errors", "-Wignore::Warning"
    )
    output = check_manners(result, 1)
    broken = re.findall(r"^ERROR (m\d+)/", output, re.MULTILINE)
    collected = re.findall(r"^(m\d+)/.*::baseline$", output, re.MULTILINE)
    assert len(broken) > MUTATED / 2
    assert len(collected) > 5
    assert sorted(broken + collected) == [f"m{number:03}" for number in range(MUTATED)]
    for name in broken:
        assert re.search(rf"^{name}/metaharness\.yaml(:\d+: \S| ?: is larger)", output, re.MULTILINE)


@serial_and_xdist
def test_good_targets_beside_broken_ones(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    make_good(pytester.path / "good")
    for number in range(3):
        make_good(pytester.path / f"bad{number}", GOOD_TARGET + f"budget: -{number + 1}\nbugdet: 1\n")
    pytester.makepyfile("def test_other(): pass")

    output = check_manners(pytester.runpytest_subprocess(*workers), 1 if workers else 2)
    assert bool(workers) == ("2 passed" in output)  # pytest-xdist always goes on

    session = run_session(pytester, "--continue-on-collection-errors", *workers)
    output = check_manners(session.result, 1)
    session.result.assert_outcomes(passed=2, errors=3)
    assert session.run["target"] == "good"
    for number in range(3):
        assert f"\nbad{number}/metaharness.yaml:4: budget: must be >= 0, got -{number + 1}\n" in output
        assert f"\nbad{number}/metaharness.yaml:5: bugdet: unknown key 'bugdet' (known: " in output
        assert f"\nERROR bad{number}/metaharness.yaml" in output


# ------------------------------------------------------------------------------------------- what is no file at all


@pytest.mark.timeout(120)  # against a file that is waited for
@serial_and_xdist
def test_what_cannot_be_read_is_told_and_not_passed_over(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    make_good(pytester.path / "good")
    for name in ("folder", "fifo", "dangling", "loop", "linked", "device", "sparse", "ignored"):
        pytester.mkdir(name)
    make_good(
        pytester.path / "folder" / "metaharness.yaml", GOOD_TARGET
    )  # a target in a folder that is called like one
    os.mkfifo(pytester.path / "fifo" / "metaharness.yaml")
    os.mkfifo(pytester.path / "ignored" / "metaharness.yaml")
    (pytester.path / "dangling" / "metaharness.yaml").symlink_to("nowhere")
    (pytester.path / "loop" / "metaharness.yaml").symlink_to("metaharness.yaml")
    (pytester.path / "linked" / "a.metaharness.yaml").symlink_to("../good/metaharness.yaml")
    (pytester.path / "device" / "metaharness.yaml").symlink_to("/dev/zero")
    (pytester.path / "sparse" / "metaharness.yaml").touch()
    os.truncate(pytester.path / "sparse" / "metaharness.yaml", 1 << 30)

    session = run_session(pytester, "--continue-on-collection-errors", "--ignore=ignored/metaharness.yaml", *workers)
    output = check_manners(session.result, 1)
    session.result.assert_outcomes(passed=2, errors=7)
    told = {line for line in output.splitlines() if re.match(r"\w+/(a\.)?metaharness\.yaml:\d*:? ", line)}
    assert {line for line in told if "::" not in line} == {
        "folder/metaharness.yaml: must be a regular file, got a folder",
        "fifo/metaharness.yaml: must be a regular file, got a FIFO",
        "dangling/metaharness.yaml: cannot be read: No such file or directory (a link to 'nowhere')",
        "loop/metaharness.yaml: cannot be read: Too many levels of symbolic links (a link to 'metaharness.yaml')",
        "linked/a.metaharness.yaml:1: baseline: no folder 'baseline' beside this file",
        "device/metaharness.yaml: must be a regular file, got a device",
        "sparse/metaharness.yaml: is larger than 256 KiB",
    }


@pytest.mark.timeout(120)
@pytest.mark.parametrize("argument", [".", "fifo", "fifo/metaharness.yaml"])
def test_a_fifo_alone_is_told_wherever_one_starts(pytester: pytest.Pytester, argument: str) -> None:
    pytester.mkdir("fifo")
    os.mkfifo(pytester.path / "fifo" / "metaharness.yaml")
    output = check_manners(pytester.runpytest_subprocess(argument), 2)
    assert "\nfifo/metaharness.yaml: must be a regular file, got a FIFO\n" in output


def test_a_fifo_is_passed_over_without_targets(pytester: pytest.Pytester) -> None:
    os.mkfifo(pytester.path / "metaharness.yaml")
    output = check_manners(pytester.runpytest_subprocess("--metaharness=off"), 5)
    assert "metaharness.yaml" not in output


def test_a_file_that_this_user_may_not_read() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # pytest's own folders are closed to others
        root = Path(name)
        make_good(root / "good")
        for place in ("closed", "shut"):
            make_good(root / place)
        python, environ = become_plain_user(root) if os.geteuid() == 0 else ((sys.executable,), os.environ)
        (root / "closed" / "metaharness.yaml").chmod(0)
        (root / "shut" / "baseline").chmod(0)
        command = (
            *python,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--co",
            "-q",
            "--continue-on-collection-errors",
            "good",
        )
        done = subprocess.run(
            (*command, "closed", "shut"), cwd=root, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "good/metaharness.yaml::baseline\n" in done.stdout
    assert "shut/metaharness.yaml::baseline\n" in done.stdout  # its trial says what it cannot read
    assert "\nclosed/metaharness.yaml: cannot be read: Permission denied\n" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_names_that_are_no_text(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"new\nline", b"esc\x1b[31m", "\u202eleft".encode()):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(folder)
        Path(os.fsdecode(folder), "metaharness.yaml").write_text("goal: 1\n")
    # the cache of pytest cannot hold the failure of any test in a folder with such a name
    command = (sys.executable, "-m", "pytest", "--rootdir=.", "-pno:cacheprovider", *LEAN.split())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    output = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 2, output
    assert "Traceback" not in output
    for shown in (r"caf\udce9", r"new\nline", r"esc\x1b[31m", r"\u202eleft"):
        assert f"\n{shown}/metaharness.yaml:1: goal: must be text, got 1 " in output


# ---------------------------------------------------------------------------------- the tests around a broken file


def test_a_broken_file_takes_no_tests_away(pytester: pytest.Pytester) -> None:
    lines = ("baseline: .", "baseline: ..", "baseline: a/../..", "sealed: /", "baseline: ../tests")
    for number, line in enumerate(lines):
        folder = pytester.mkdir(f"project{number}")
        tests = {"tests/test_a.py": "def test_a(): pass", "conftest.py": "", "a/b/test_b.py": "def test_b(): pass"}
        make_good(write_files(folder, tests) / "a", GOOD_TARGET + f"{line}\n")
    result = pytester.runpytest_subprocess("--continue-on-collection-errors", "--import-mode=importlib")
    check_manners(result, 1)
    result.assert_outcomes(passed=2 * len(lines), errors=len(lines))


def test_the_folders_of_a_broken_file_are_no_tests(pytester: pytest.Pytester) -> None:
    folder = make_good(pytester.path / "a", GOOD_TARGET + "baseline: './work'\nsealed: exam\nbudget: \x07\n")
    for inner in ("work", "exam", "baseline"):
        write_files(folder, {f"{inner}/conftest.py": "1 / 0", f"{inner}/test_it.py": "1 / 0"})
    result = pytester.runpytest_subprocess("a")
    output = check_manners(result, 2)
    result.assert_outcomes(errors=1)
    assert "\na/metaharness.yaml:6: not valid YAML: control character" in output


# --------------------------------------------------------------------------------------------------- marks of a target


@pytest.mark.parametrize(
    ("ini", "args", "told"),
    [
        ("strict_markers = true", (), "'slwo' not found in `markers` configuration option"),
        ("", ("-Werror",), "Unknown pytest.mark.slwo - is this a typo?"),
    ],
    ids=["strict", "warnings"],
)
def test_a_mark_that_is_refused(pytester: pytest.Pytester, ini: str, args: tuple[str, ...], told: str) -> None:
    pytester.makeini(f"[pytest]\nmarkers = slow\n{ini}\n")
    make_good(pytester.path / "one", GOOD_TARGET.replace("marks: []\n", "\n\n\nmarks: [slow, slwo]\n"))
    output = check_manners(pytester.runpytest_subprocess(*args), 2)
    assert f"\none/metaharness.yaml:5: marks[1]: {told}" in output


def test_a_mark_that_is_warned_of(pytester: pytest.Pytester) -> None:
    make_good(pytester.path / "one", GOOD_TARGET.replace("marks: []\n", "\nmarks: [slwo]\n"))
    result = pytester.runpytest_subprocess("--metaharness-trials=3")
    check_manners(result, 0)
    result.stdout.fnmatch_lines(["*one/metaharness.yaml:3: PytestUnknownMarkWarning: Unknown pytest.mark.slwo*"])
    result.assert_outcomes(passed=3, warnings=1)


def test_a_mark_that_needs_arguments(pytester: pytest.Pytester) -> None:
    make_good(pytester.path / "one", GOOD_TARGET.replace("[]", "[timeout]"))  # pytest-timeout ends the session for it
    output = check_manners(pytester.runpytest_subprocess(), 2)
    assert "\none/metaharness.yaml:2: marks[0]: must be the name of a mark without arguments " in output
