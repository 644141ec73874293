"""Checks that fill the disk, or mount something: it costs their own candidate's value, and nobody else's.

The sessions have mounts of their own, so that nothing of this is left on the machine.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import Project, make_project
from listing import describe_difference
from sessions import Session

SIZE_MB = 24
MOUNTED = """
mount -t tmpfs -o size={size}m none {disk} || exit 99
mkdir {disk}/temporary
{command}
code=$?
ls -A {disk}/temporary > {root}/record/left
mkdir -p {root}/.metaharness
test ! -d {disk}/sessions || cp -r {disk}/sessions/. {root}/.metaharness
exit $code
"""
FILL = """
try:
    with open({path}, 'wb', buffering=0) as file:
        while True:
            file.write(bytes(100_000))
except OSError as error:
    raise SystemExit(error.strerror)
"""
TARGET = {
    "goal": "Write words.",
    "checks": {
        "before": {"score": "python -I measure/words.py", "weight": 4},
        "act": {"run": "python -I act.py", "timeout": 20},
        "after": {"score": "python -I measure/words.py"},
        "alone": {"score": "python -I measure/words.py", "fresh": True},
    },
}
BASELINE = {"words.txt": "", "act.py": "", "play/ball.txt": "round\n"}
FULL = "exit code 1, expected 0\nNo space left on device"


MOUNTS = """
binds = (('--bind', BESIDE, 'play'), ('--bind', BESIDE / 'canary.txt', 'words.txt'))
for options in (*binds, ('-t', 'tmpfs', 'none', '.')):
    subprocess.run(('mount', *options), check=True)
"""


@pytest.fixture
def project(pytester: pytest.Pytester, sandbox_mode: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root, and mounts of its own")
    project = make_project(pytester.path, sandbox_mode, monkeypatch)
    (project.root / "disk").mkdir()
    monkeypatch.setenv("TMPDIR", str(project.root / "disk" / "temporary"))
    return project


def search(pytester: pytest.Pytester, project: Project, programs: list[str], *args: str) -> Session:
    """Search with one candidate for each of *programs*, on a small disk; the last one is honest."""
    plants = [
        f"write('words.txt', 'word ' * {10 * number})\nwrite('act.py', {project.write_program(program)!r})"
        for number, program in enumerate([*programs, ""], 1)
    ]
    project.write({**TARGET, "budget": len(plants)}, [(plant, False) for plant in plants], BASELINE)
    before = project.list_surroundings()
    command = [sys.executable, "-m", "pytest", "-pno:cacheprovider", "--metaharness-name=tested", "--metaharness=mine"]
    command += [f"--metaharness-sandbox={project.sandbox}", *args, "project"]
    root = project.root
    script = MOUNTED.format(size=SIZE_MB, disk=root / "disk", root=root, command=shlex.join(command))
    result = pytester.run("unshare", "--mount", "--propagation=private", "sh", "-c", script)
    assert (root / "record" / "left").read_text() == "", "the temporary folders are removed"
    assert describe_difference(before, project.list_surroundings()) == []
    assert "Traceback" not in f"{result.stdout}\n{result.stderr}"
    return Session(result=result, folder=root / ".metaharness" / "tested")


def test_a_check_that_fills_the_disk(pytester: pytest.Pytester, project: Project) -> None:
    session = search(
        pytester,
        project,
        [
            FILL.format(path="'big'"),
            FILL.format(path="Path(os.environ['TMPDIR'], 'big')"),
            FILL.format(path="Path(os.environ['HOME'], 'big')"),
            "os.remove('words.txt')\nos.remove('measure/words.py')\n" + FILL.format(path="'big'"),
        ],
    )
    session.result.assert_outcomes(passed=1)
    for number in (1, 2, 3, 4):
        words = number / 10
        assert session.values(number) == {"before": words, "act": 0, "after": words, "alone": words}
        assert session.feedback(number)["act"] == FULL
    assert session.values(5) == {"before": 0.5, "act": 1, "after": 0.5, "alone": 0.5}
    assert session.run["best_candidate"] == "c0005"


def test_the_session_is_on_the_disk_that_a_check_fills(pytester: pytest.Pytester, project: Project) -> None:
    directory = f"--metaharness-dir={Path(project.root, 'disk', 'sessions')}"
    session = search(pytester, project, ["", FILL.format(path="'big'")], directory)
    run = session.run
    assert [candidate["objective"] for candidate in run["candidates"][:2]] == [1 / 7, pytest.approx((6 * 0.1 + 1) / 7)]
    assert run["candidates"][1]["outcome"] == "keep"
    if run["status"] == "failed":
        assert "No space left on device" in run["reason"]
        assert run["reason"] in session.output
        assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    else:
        session.result.assert_outcomes(passed=1)
        assert session.feedback(2)["act"] == FULL
        assert session.values(3) == {"before": 0.3, "act": 1, "after": 0.3, "alone": 0.3}


@pytest.mark.parametrize("sandbox_mode", ["off"])
def test_what_a_check_mounts_is_neither_written_to_nor_emptied(pytester: pytest.Pytester, project: Project) -> None:
    session = search(pytester, project, [MOUNTS])
    session.result.assert_outcomes(passed=1)
    assert session.values(1) == {"before": 0.1, "act": 1, "after": 0.1, "alone": 0.1}
    assert session.values(2) == {"before": 0.2, "act": 1, "after": 0.2, "alone": 0.2}
