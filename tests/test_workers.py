"""``-n auto`` counts the trials of a search, since they wait for agents; otherwise it means what it always means."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from sessions import make_target, read_report, write_files

from pytest_metaharness.workers import PER_CPU, count_workers

TARGET = """\
goal: Say yes.
sealed: tests
checks: {a: {contains: {path: a.txt, all: ["yes"]}}}
"""
PLAIN = """\
class TestPlain:
    def test_one(self): pass
    async def test_two(self): pass
"""
MIXED = """\
def test_function(tmp_path,
                  metaharness): pass
def test_metaharness(): pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """Two targets with targets and tests in their own folders, a test file, one with a target in Python."""
    for name in ("a", "b"):
        make_target(pytester.path / name, TARGET, fake='[{files: {a.txt: "yes"}}]', a_txt="no")
        inner = {"metaharness.yaml": TARGET, "test_inner.py": PLAIN}
        write_files(pytester.path / name / "baseline", inner)
        write_files(pytester.path / name / "tests", inner)
    return write_files(
        pytester.path, {"test_plain.py": PLAIN, "test_mixed.py": MIXED, ".venv/metaharness.yaml": TARGET}
    )


@pytest.mark.parametrize(
    ("args", "workers"),
    [
        ("--metaharness=fake a", 1),
        ("--metaharness=fake a/metaharness.yaml b", 2),
        ("--metaharness=fake,codex --metaharness-trials=3 a", 6),
        ("--metaharness=fake --metaharness-trials=10 a", 10),
        ("--metaharness=fake,codex --metaharness-trials=5 a b", 2 * PER_CPU),
        ("--metaharness=fake", 3),
        ("--metaharness=fake --ignore=a .", 2),
        ("--metaharness=fake a test_plain.py", 2),
        ("--metaharness=fake test_plain.py", 2),
        ("--metaharness=fake test_mixed.py", 2),
        ("--metaharness=fake test_mixed.py::test_function", 1),
        ("--metaharness=fake --metaharness-trials=4 test_mixed.py::test_function", 4),
        ("--metaharness=fake --metaharness-trials=4 test_mixed.py::test_function[fake-t2]", 1),
        ("--metaharness=fake --metaharness-trials=4 a/metaharness.yaml::fake-t2 b", 5),
        ("--metaharness=fake --metaharness-trials=4 --metaharness-budget=0 a", 2),
        ("--metaharness=fake --metaharness-trials=4 -n logical a", 2),
        ("--metaharness=fake --metaharness-trials=4 -o metaharness_budget=0 a", 2),
    ],
)
def test_a_worker_for_each_trial(pytester: pytest.Pytester, project: Path, args: str, workers: int) -> None:
    config = pytester.parseconfig("-n", "auto", *shlex.split(args))
    assert count_workers(config, default=2) == workers


@pytest.mark.parametrize(
    ("args", "variable", "workers"),
    [
        ("--metaharness=fake --maxprocesses=3", "", 3),
        ("--metaharness=fake", "1", 1),
        ("--metaharness=fake decides", "", 1),
        ("--metaharness=baseline --maxprocesses=1", "", 1),
    ],
)
@pytest.mark.usefixtures("project")
def test_how_many_are_started(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, args: str, variable: str, workers: int
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", variable)
    decides = "def pytest_xdist_auto_num_workers(config):\n    return 1\n"
    write_files(pytester.path, {"decides/conftest.py": decides})
    result = pytester.runpytest_subprocess("-n", "auto", "--metaharness-trials=2", *shlex.split(args), "a", "b")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([f"created: {workers}/{workers} worker*"])
    assert len(read_report(pytester.path)["runs"]) == 4


@pytest.mark.usefixtures("project")
def test_a_malformed_option_is_a_usage_error_here_too(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("-n", "auto", "--metaharness=fake", "--metaharness-trials=no", "a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --metaharness-trials must be a whole number >= 1, got no"])
