"""What is broken outside of target files: tables of backends in ``pyproject.toml``, and targets in Python."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from broken_targets import check_manners, make_good

from pytest_metaharness.core.errors import BackendError
from pytest_metaharness.registry import read_project_backends

BROKEN_PROJECTS = {
    "tool = 3": "pyproject.toml: tool: must be a mapping, got 3",
    "[tool]\nmetaharness = 'x'": "pyproject.toml: tool.metaharness: must be a mapping, got 'x'",
    "[tool.metaharness]\nbackends = 1": "pyproject.toml: tool.metaharness.backends: must be a mapping, got 1",
    "[[tool.metaharness.backends]]": "pyproject.toml: tool.metaharness.backends: must be a mapping, got a list",
    "[tool.metaharness.backends]\nfake = 1": "pyproject.toml: tool.metaharness.backends.fake: must be a mapping, got 1",
    "[tool.metaharness.backends.fake]\ntimeout = -1": (
        "pyproject.toml: tool.metaharness.backends.fake.timeout: must be > 0, got -1"
    ),
    "[tool.metaharness.backends.fake]\ntimeout = 2024-01-01": (
        "pyproject.toml: tool.metaharness.backends.fake.timeout: must be a number, got the date 2024-01-01"
    ),
    "[tool.metaharness.backends.fake]\ntimeout = nan": (
        "pyproject.toml: tool.metaharness.backends.fake.timeout: must be a finite number, got nan"
    ),
    "[tool.metaharness.backends.fake]\nmodle = 'x'": (
        "pyproject.toml: tool.metaharness.backends.fake.modle: unknown key 'modle' (known: *did you mean 'model'?)"
    ),
    '[tool.metaharness.backends."a b"]\nprovider = "fake"': (
        "pyproject.toml: tool.metaharness.backends.a b: must be a name of letters, digits, '_' and '-'*, got 'a b'"
    ),
    "[tool.metaharness.backends.own]\nmodel = 'x'": (
        "pyproject.toml: tool.metaharness.backends.own.provider: is required and missing;*"
    ),
    "x = 1\nx = 2\n": "pyproject.toml: not valid TOML: Cannot overwrite a value (at line 2, column 6)",
    "x = " + "[" * 9000: "pyproject.toml: not valid TOML: nested too deeply",
    "x = " + "9" * 9000: "pyproject.toml: not valid TOML: *",
    "x = '\0'": "pyproject.toml: not valid TOML: *",
}


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A target, and an ini file, so that pytest itself does not read the pyproject.toml."""
    pytester.makeini("[pytest]\n")
    make_good(pytester.path / "one")
    return pytester.path / "pyproject.toml"


@pytest.mark.parametrize(("text", "told"), BROKEN_PROJECTS.items(), ids=[f"{text:.40}" for text in BROKEN_PROJECTS])
def test_broken_backends_of_a_project(project: Path, text: str, told: str) -> None:
    project.write_text(text)
    with pytest.raises(BackendError) as caught:
        read_project_backends.__wrapped__(project)
    (line,) = str(caught.value).splitlines()
    assert fnmatchcase(line, told.replace("[", "[[]"))


def test_all_problems_of_a_project_are_told_by_each_item(pytester: pytest.Pytester, project: Path) -> None:
    project.write_text("[tool.metaharness.backends]\nfake = {timeout = 0, modle = 'x'}\noff = {provider = 'fake'}\n")
    make_good(pytester.path / "two")
    result = pytester.runpytest_subprocess("--metaharness=fake")
    output = check_manners(result, 1).partition("short test summary")[0]  # which CI repeats in full
    result.assert_outcomes(errors=2)
    for told in (
        ".fake.timeout: must be > 0, got 0",
        ".fake.modle: unknown key 'modle' (known: ",
        ".off: must not be ",
    ):
        assert output.count(f"\npyproject.toml: tool.metaharness.backends{told}") == 2
    check_manners(pytester.runpytest_subprocess(), 0)  # which asks for no backend


@pytest.mark.timeout(120)
def test_a_project_file_that_is_none(pytester: pytest.Pytester, project: Path) -> None:
    os.mkfifo(project)
    check_manners(pytester.runpytest_subprocess("--metaharness=fake", "--metaharness-budget=0"), 0)


# --------------------------------------------------------------------------------------------------- targets in Python


def test_python_targets_with_wrong_values_are_errors_without_a_traceback(pytester: pytest.Pytester) -> None:
    (pytester.path / "baseline").mkdir()
    pytester.makepyfile(
        test_it="""
        from pytest_metaharness import Backend, Check, Target

        def test_weights(metaharness):
            metaharness(Target(goal=3, checks=[Check(id="a", run="x", weight=-1), Check(id="a b", score=["x"])]))

        def test_backends(metaharness):
            backends = {1: Backend(name="x", provider="fake")}
            metaharness(Target(goal="x", checks=[Check(id="a", run="x")], backends=backends))

        def test_no_target(metaharness):
            metaharness({"goal": "x"})

        def test_holds_itself(metaharness):
            again = []
            again += [again, again]
            metaharness(Target(goal="x", checks=[Check(id="a", use="x", with_={"again": again})]))
        """
    )
    result = pytester.runpytest_subprocess()
    output = check_manners(result, 1)
    result.assert_outcomes(errors=4)
    for told in (
        "test_it.py::test_weights: goal: must be text, got 3 (quote it)",
        "test_it.py::test_weights: checks.a.weight: must be > 0, got -1",
        "test_it.py::test_weights: checks.a b: must be an id of letters, digits",
        "test_it.py::test_weights: checks.a b.score: must be text, got a list",
        "test_it.py::test_backends: backends: a key must be text, got 1",
        "test_it.py::test_no_target: metaharness must be called with a Target, got {'goal': 'x'}",
        "test_it.py::test_holds_itself: checks.a: has too many values (more than 20000)",
    ):
        assert f"\n{told}" in output
    assert "test_it.py:4" not in output


def test_python_targets_with_wrong_arguments_fail_where_they_are_written(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        from pytest_metaharness import Check, Target

        def test_unknown(metaharness):
            Target(gaol="x", checks=[])

        def test_missing(metaharness):
            Check(run="x")

        def test_positional(metaharness):
            Target("x", [])
        """
    )
    result = pytester.runpytest_subprocess()
    check_manners(result, 1)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["E *'gaol'*", "test_it.py:4: TypeError", "E *'id'*", "test_it.py:7: TypeError", "test_it.py:10: TypeError"]
    )
