"""Options and ini values: every malformed one is a usage error that names it; sources have an order."""

from __future__ import annotations

from pathlib import Path

import pytest
from sessions import make_target, read_report

TARGET = """\
goal: Say yes.
checks: {a: {contains: {path: a.txt, all: ["yes"]}}}
"""
FAKE = '[{files: {a.txt: "no no"}}, {files: {a.txt: "yes"}}]'


@pytest.fixture
def target(pytester: pytest.Pytester) -> Path:
    return make_target(pytester.path / "small", TARGET, fake=FAKE, a_txt="no")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--metaharness-budget=-1", "--metaharness-budget must be a whole number >= 0, got -1"),
        ("--metaharness-budget=many", "--metaharness-budget must be a whole number >= 0, got many"),
        ("--metaharness-trials=0", "--metaharness-trials must be a whole number >= 1, got 0"),
        ("--metaharness-timeout=0", "--metaharness-timeout must be a number of seconds > 0, got 0"),
        ("--metaharness-timeout=inf", "--metaharness-timeout must be a number of seconds > 0, got inf"),
        ("--metaharness-fail-under=1.1", "--metaharness-fail-under must be a number from 0 to 1, got 1.1"),
        ("--metaharness-fail-under=nan", "--metaharness-fail-under must be a number from 0 to 1, got nan"),
        ("--metaharness-report=report.xml", "--metaharness-report must end in .json or .tsv, got report.xml"),
        ("--metaharness-sandbox=docker", "--metaharness-sandbox must be auto, bwrap or off, got docker"),
        ("--metaharness-name=a/b", "--metaharness-name must be a folder's name*got a/b"),
        ("--metaharness=", "--metaharness must be backends like codex,claude or codex:MODEL, got ''*"),
        ("--metaharness=codex,,fake", "--metaharness must be backends like*"),
        ("--metaharness=codex-t1", "--metaharness must be backends like*"),
        ("--metaharness=codex:", "--metaharness must be backends like*"),
        ("--metaharness=fake,fake", "--metaharness names 'fake' twice*"),
        ("--metaharness=baseline,fake", "--metaharness: 'baseline' stands alone, got 'baseline,fake'"),
    ],
)
def test_a_malformed_option_is_a_usage_error(pytester: pytest.Pytester, option: str, message: str) -> None:
    result = pytester.runpytest_inprocess(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message.replace('[', '[[]')}"])


def test_the_option_needs_a_value(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--metaharness")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*argument --metaharness: expected one argument*"])


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("metaharness_budget = -1", "ini metaharness_budget must be a whole number >= 0, got -1"),
        ("metaharness_budget = many", "ini metaharness_budget: *many*"),
        ("metaharness_sandbox = docker", "ini metaharness_sandbox must be auto, bwrap or off, got docker"),
    ],
)
def test_a_malformed_ini_value_is_a_usage_error(pytester: pytest.Pytester, ini: str, message: str) -> None:
    pytester.makeini(f"[pytest]\n{ini}\n")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


def test_an_existing_session_is_refused(pytester: pytest.Pytester, target: Path) -> None:
    assert pytester.runpytest_subprocess("--metaharness-name=mine", "small").ret == pytest.ExitCode.OK
    result = pytester.runpytest_subprocess("--metaharness-name=mine", "small")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--metaharness-name: session 'mine' exists already*"])


def read_settings(pytester: pytest.Pytester) -> dict[str, list[object]]:
    (run,) = read_report(pytester.path)["runs"]
    return {name: [setting["value"], setting["from"]] for name, setting in run["settings"].items()}


def test_settings_tell_where_they_come_from(pytester: pytest.Pytester, target: Path) -> None:
    (target / "metaharness.yaml").write_text(TARGET + "timeout: 50\nbackends: {quick: {provider: fake, timeout: 40}}\n")
    pytester.makefile(".toml", pytest="[pytest]\nmetaharness_budget = 7\nmetaharness_timeout = 60.5\n")
    pytester.runpytest_subprocess("--metaharness=quick", "--metaharness-trials=1", "small").assert_outcomes(passed=1)
    assert read_settings(pytester) == {
        "budget": [7, "ini metaharness_budget"],
        "retries": [2, "default"],
        "sandbox": ["auto", "default"],
        "timeout": [40.0, "backend quick"],
        "trials": [1, "--metaharness-trials"],
    }


def test_the_command_line_wins(pytester: pytest.Pytester, target: Path) -> None:
    (target / "metaharness.yaml").write_text(TARGET + "timeout: 50\nbudget: 1\n")
    pytester.makeini("[pytest]\nmetaharness_budget = 7\n")
    args = ("--metaharness=codex", "--metaharness=fake", "--metaharness-budget=2", "--metaharness-timeout=30")
    pytester.runpytest_subprocess(*args, "small").assert_outcomes(passed=1)
    settings = read_settings(pytester)
    assert settings["budget"] == [2, "--metaharness-budget"]
    assert settings["timeout"] == [30.0, "--metaharness-timeout"]


def test_backends_of_the_project_are_known_to_every_target(pytester: pytest.Pytester, target: Path) -> None:
    pytester.makepyprojecttoml('[tool.metaharness.backends.canned]\nprovider = "fake"\n')
    pytester.makeini("[pytest]\n")
    pytester.runpytest_subprocess("--metaharness=canned:m1", "--metaharness-budget=2", "small").assert_outcomes(
        passed=1
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("codx", "*unknown backend 'codx' (known: baseline, *codex, *fake*; did you mean 'codex'?)*"),
        ("strange", "*backend 'strange': nobody answers for provider 'nobody' (built-in: *codex*fake*"),
    ],
)
def test_an_unknown_backend_is_an_error_of_the_item(
    pytester: pytest.Pytester, target: Path, name: str, message: str
) -> None:
    (target / "metaharness.yaml").write_text(TARGET + "backends: {strange: {provider: nobody}}\n")
    if name == "codx":
        (target / "metaharness.yaml").write_text(TARGET)
    result = pytester.runpytest_subprocess(f"--metaharness={name}", "small")
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_help_teaches(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(["harness optimization (pytest-metaharness):", "*--metaharness=NAMES*"])
