"""Which files become items, what they are called, and what is never collected."""

from __future__ import annotations

from pathlib import Path

import pytest

TARGET = 'goal: Say yes.\nsealed: {sealed}\nmarks: [slow]\nchecks: {{a: {{contains: {{path: a.txt, all: ["yes"]}}}}}}\n'


@pytest.fixture(autouse=True)
def _ini(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = --strict-markers\nmarkers = slow\n")


def make_target(folder: Path, name: str = "metaharness.yaml", sealed: str = "evaluation") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(TARGET.format(sealed=sealed))
    for inner in ("baseline", sealed):
        (folder / inner).mkdir(exist_ok=True)
        (folder / inner / "conftest.py").write_text("raise RuntimeError('a conftest of the measured was run')\n")
        (folder / inner / "test_inner.py").write_text("def test_inner(): assert False\n")
    (folder / "baseline" / "a.txt").write_text("no")


def collect(pytester: pytest.Pytester, *args: str) -> list[str]:
    result = pytester.runpytest_subprocess("--co", "-q", *args)
    return [line for line in result.outlines if "::" in line]


def test_items_are_named_by_settings_only(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "one")
    make_target(pytester.path / "one", "two.metaharness.yaml")
    assert collect(pytester) == ["one/metaharness.yaml::baseline", "one/two.metaharness.yaml::baseline"]
    assert collect(pytester, "--metaharness=codex:gpt-5.2,fake", "--metaharness-trials=2", "one/metaharness.yaml") == [
        "one/metaharness.yaml::codex:gpt-5.2-t1",
        "one/metaharness.yaml::codex:gpt-5.2-t2",
        "one/metaharness.yaml::fake-t1",
        "one/metaharness.yaml::fake-t2",
    ]
    assert collect(pytester, "one/metaharness.yaml::baseline") == ["one/metaharness.yaml::baseline"]


def test_marks_select(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "one")
    pytester.makepyfile("def test_other(): pass")
    assert collect(pytester, "-m", "metaharness") == ["one/metaharness.yaml::baseline"]
    assert collect(pytester, "-m", "slow") == ["one/metaharness.yaml::baseline"]
    assert collect(pytester, "-m", "not metaharness") == ["test_marks_select.py::test_other"]
    assert collect(pytester, "-k", "one") == ["one/metaharness.yaml::baseline"]


def test_off_collects_no_target(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "one")
    assert collect(pytester, "--metaharness=off") == []


@pytest.mark.parametrize("mode", ["--metaharness=off", "--metaharness=fake", "--metaharness=baseline"])
@pytest.mark.parametrize("place", [".", "one"])
def test_baseline_and_sealed_folders_are_never_collected(pytester: pytest.Pytester, mode: str, place: str) -> None:
    make_target(pytester.path / "one")
    result = pytester.runpytest_subprocess("--co", "-q", mode, place)
    result.stdout.no_fnmatch_line("*test_inner*")
    assert result.ret in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}


def test_a_session_store_elsewhere_is_never_collected(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "one")
    pytester.runpytest_subprocess("--metaharness-dir=sessions", "one")
    (session,) = (path for path in (pytester.path / "sessions").iterdir() if path.is_dir())
    (session / "test_left.py").write_text("def test_left(): pass")
    assert collect(pytester, "--metaharness-dir=sessions") == ["one/metaharness.yaml::baseline"]


def test_collecting_runs_nothing(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "one")
    collect(pytester)
    assert not (pytester.path / ".metaharness").exists()
