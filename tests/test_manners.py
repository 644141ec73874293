"""The manners of a pytest plugin: options of pytest and of other plugins mean for trials what they always mean.

Beside the tables here: ``--junitxml`` and ``-rA`` are in test_reports.py, ``--timeout`` and absent plugins in
test_interruptions.py, marks in test_collection.py, ini files, places and names in test_manners_places.py.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sessions import make_target, serial_and_xdist

TARGET = """\
goal: Say yes, please.
budget: 2
checks:
  a: {contains: {path: a.txt, all: ["yes"]}}
  b: {contains: {path: a.txt, all: ["please"]}}
gate: {best: 1.0}
"""
PROVIDER = """\
import os, time
from pytest_metaharness import Proposal

ANSWERS = {"b_good": "yes please", "d_good": "yes please", "function": "yes please"}

def pytest_metaharness_propose(request):
    with open("spent", "a") as file:
        file.write(request.target.name + "\\n")
    if request.target.name == os.environ.get("DIES") and request.candidate == "c0002":
        os._exit(1)
    if request.target.name == os.environ.get("SLEEPS"):
        time.sleep(600)
    answer = os.environ.get("ANSWER") or ANSWERS.get(request.target.name, "yes")
    (request.workspace / "a.txt").write_text(answer)
    return Proposal(status="completed", cost_usd=0.5)
"""
TEST = """\
import os
from pytest_metaharness import Check, Contains, Target

def test_plain():
    pass

def test_function(metaharness):
    checks = [Check(id="a", contains=Contains(path="a.txt", all=["yes", "please"]))]
    assert metaharness(Target(goal="Say yes.", baseline="a_poor/baseline", checks=checks)).improved
    with open("tries", "a") as file:
        file.write("x")
    assert os.path.getsize("tries") >= int(os.environ.get("TRIES", 1))
"""
A, B, C, D, F = "a_poor", "b_good", "c_poor", "d_good", "function"
"""The targets in the order of collection. A and C miss their gate, after two proposals each."""


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """Four target files, a test file with one more target and a plain test, a backend that notes what it is asked."""
    for name in (A, B, C, D):
        make_target(pytester.path / name, TARGET, a_txt="no")
    (pytester.path / "conftest.py").write_text(PROVIDER)
    (pytester.path / "test_e.py").write_text(TEST)
    return pytester.path


def search(pytester: pytest.Pytester, args: str = "") -> pytest.RunResult:
    """Run a session that searches."""
    report = "--metaharness-report=report.json"
    return pytester.runpytest_subprocess("--metaharness=mine", report, *shlex.split(args))


def take_spent(root: Path) -> dict[str, int]:
    """Give how often the backend was asked since the last time, by target, in order."""
    file = root / "spent"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return dict(Counter(lines))


def read_latest(root: Path) -> dict[str, dict[str, Any]]:
    """Give the runs of the latest session, by target."""
    return {run["target"]: run for run in json.loads((root / "report.json").read_text())["runs"]}


# ------------------------------------------------------------------------------------------------ what is selected


@pytest.mark.parametrize(
    ("args", "searched", "exit_code"),
    [
        ("-k 'good or function'", [B, D, F], 0),
        ("-k 'mine and not plain and not c_'", [A, B, D, F], 1),
        ("-m metaharness", [A, B, C, D, F], 1),
        ("-m 'not metaharness'", [], 0),
        ("-x", [A], 1),
        ("--maxfail=2", [A, B, C], 1),
        ("--sw", [A], 2),
        ("--deselect=a_poor/metaharness.yaml::mine --deselect=test_e.py --ignore=c_poor", [B, D], 0),
        ("d_good b_good/metaharness.yaml test_e.py::test_function[mine]", [D, B, F], 0),
        ("--keep-duplicates b_good b_good", [B], 0),
        ("-p no:xdist -p no:timeout -p no:cacheprovider", [A, B, C, D, F], 1),
        ("--co", [], 0),
        ("--setup-plan", [], 0),
        ("--fixtures --markers", [], 0),
    ],
)
def test_only_what_is_selected_is_searched(
    pytester: pytest.Pytester, project: Path, args: str, searched: list[str], exit_code: int
) -> None:
    result = search(pytester, args)
    assert list(take_spent(project)) == searched
    assert result.ret == exit_code
    if searched:
        assert sorted(read_latest(project)) == sorted(searched)
        assert result.parseoutcomes().get("failed", 0) == sum(name in {A, C} for name in searched)
    else:
        assert not (project / "report.json").exists()


@pytest.mark.parametrize(
    ("first", "second", "searched"),
    [
        ("", "--lf", [A, C]),
        ("", "--ff", [A, C, B, D, F]),
        ("-n2", "--lf -n2", [A, C]),
        ("--sw", "--sw --sw-skip", [A, B, C]),
    ],
)
def test_the_second_session_follows_the_first(
    pytester: pytest.Pytester, project: Path, first: str, second: str, searched: list[str]
) -> None:
    search(pytester, first)
    take_spent(project)
    search(pytester, second)
    spent = list(take_spent(project))
    assert (sorted(spent) if "-n2" in second else spent) == searched


def test_stepwise_goes_on_where_it_stopped(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search(pytester, "--sw").ret == pytest.ExitCode.INTERRUPTED
    monkeypatch.setenv("ANSWER", "yes please")
    search(pytester, "b_good --sw")
    take_spent(project)
    assert search(pytester, "--sw").ret == pytest.ExitCode.OK
    assert list(take_spent(project)) == [A, B, C, D, F]


# ------------------------------------------------------------------------------------------------- what is printed

TABLE = [
    "* metaharness *",
    "trial *",
    "a_poor/metaharness.yaml::mine * failed",
    "b_good/metaharness.yaml::mine * passed",
]
SUMMARY = [*TABLE, "report: *"]
TRACEBACK = "Traceback *"


@pytest.mark.parametrize(
    ("args", "lines", "absent"),
    [
        ("", [*SUMMARY, "FAILED a_poor/metaharness.yaml::mine - best 0.500 < 1"], "*ok   a: 1*"),
        ("-q", [*SUMMARY, "1 failed, 1 passed in *"], "metaharness: *"),
        ("-v", ["a_poor/metaharness.yaml::mine FAILED *50%*", *TABLE, "    ok   b: 1 (weight 1)"], TRACEBACK),
        ("-v -n2", ["*FAILED a_poor/metaharness.yaml::mine*", *TABLE, "    ok   b: 1 (weight 1)"], TRACEBACK),
        ("-rA", [*TABLE, "    ok   b: 1 (weight 1)", "PASSED b_good/metaharness.yaml::mine"], TRACEBACK),
        ("--durations=2 -vv", ["*slowest 2 durations*", "*s call *.yaml::mine", "*s call *.yaml::mine"], "*hidden*"),
        ("--durations=0 -n2 -vv", ["*slowest durations*", "*s call *.yaml::mine"], "*hidden*"),
        ("--tb=no", SUMMARY, "_* a_poor::mine *"),
        ("--tb=line", ["best 0.500 < 1*", *SUMMARY], "_* a_poor::mine *"),
        ("--tb=native -l --full-trace -s", ["_* a_poor::mine *", "best 0.500 < 1", *SUMMARY], TRACEBACK),
        ("--co -q", ["a_poor/metaharness.yaml::mine", "2 tests collected in *"], "report: *"),
        ("--co", ["*<Dir a_poor>", "*<TargetFile metaharness.yaml>", "*<Trial mine>"], "report: *"),
    ],
)
def test_what_is_printed(pytester: pytest.Pytester, project: Path, args: str, lines: list[str], absent: str) -> None:
    result = search(pytester, f"{args} a_poor b_good")
    result.stdout.fnmatch_lines(lines)
    result.stdout.no_fnmatch_line(absent)
    assert str(result.stderr) == ""


@pytest.mark.parametrize(
    ("variable", "args", "is_coloured"),
    [("NO_COLOR", "", False), ("NO_COLOR", "-n2", False), ("FORCE_COLOR", "", True), ("FORCE_COLOR", "-n2", True)],
)
def test_colours_are_those_that_are_asked_for(
    pytester: pytest.Pytester,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    args: str,
    *,
    is_coloured: bool,
) -> None:
    for name in ("PY_COLORS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")
    printed = str(search(pytester, f"{args} a_poor").stdout)
    assert ("\x1b" in printed) is is_coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert "\x1b" not in plain
    assert "\nFAILED a_poor/metaharness.yaml::mine - best 0.500 < 1\n" in plain


@serial_and_xdist
def test_nothing_is_lost_on_a_narrow_terminal(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    result = search(pytester, f"{' '.join(workers)} a_poor b_good")
    result.stdout.fnmatch_lines(
        [
            "best 0.500 < 1",
            "c0001 keep: 0.000 -> 0.500",
            "============= metaharness ==============",
            "a_poor/metaharness.yaml::mine     0.000  0.500  +0.500        2/2  $1.00  *s  failed",
            "report: .metaharness/*/report.json (also report.tsv, ledger.tsv)",
        ]
    )


# --------------------------------------------------------------------------------------------------- other plugins


@serial_and_xdist
def test_a_rerun_never_spends_again(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TRIES", "3")
    args = f"{' '.join(workers)} -p rerunfailures --reruns=2 --junitxml=junit.xml -rR a_poor b_good test_e.py"
    result = search(pytester, args)
    result.assert_outcomes(passed=3, failed=1)
    assert result.parseoutcomes()["rerun"] == 4
    result.stdout.fnmatch_lines_random(["RERUN a_poor/metaharness.yaml::mine", "RERUN test_e.py::test_function*mine*"])
    result.stdout.fnmatch_lines(["best 0.500 < 1", "c0001 keep: 0.000 -> 0.500"])
    assert take_spent(project) == {A: 2, B: 1, F: 1}
    runs = read_latest(project)
    assert {name: (run["cost_usd"], run["gate"]) for name, run in runs.items()} == {
        A: (1.0, {"passed": False, "failures": ["best 0.500 < 1"]}),
        B: (0.5, {"passed": True, "failures": []}),
        F: (0.5, {"passed": True, "failures": []}),  # its first attempts were rejected, its last was not
    }
    names = re.findall(r"<testcase [^>]*><properties>(.*?)</properties>", (project / "junit.xml").read_text())
    assert all(each.count('"metaharness.best"') == 1 for each in names)


def test_a_rerun_of_what_failed_or_died_never_spends_again(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIES", A)
    text = TARGET.replace("checks:", "checks:\n  u: {use: nothing}")
    (project / C / "metaharness.yaml").write_text(text)
    result = search(pytester, "-n2 -p rerunfailures --reruns=1 a_poor b_good c_poor")
    result.assert_outcomes(passed=1, failed=2)
    assert take_spent(project) == {A: 2, B: 1}
    reason = "an earlier attempt in this session did not end after c0001 was finished"
    result.stdout.fnmatch_lines_random([reason, "*nothing*"])
    run = read_latest(project)[A]
    assert (run["status"], run["best"]) == ("lost", 0.5)
    assert run["reason"] == "its worker process died after c0001 was finished"


def test_a_rerun_of_what_took_too_long_never_spends_again(
    pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLEEPS", A)
    result = search(pytester, "-p rerunfailures --reruns=2 --timeout=2 a_poor b_good")
    result.assert_outcomes(passed=1, failed=1)
    assert result.parseoutcomes()["rerun"] == 2
    assert take_spent(project) == {A: 1, B: 1}
    result.stdout.fnmatch_lines(["interrupted: the limit of pytest-timeout for this item, 2 s, is over"])
    assert read_latest(project)[A]["status"] == "interrupted"


@serial_and_xdist
def test_pytest_randomly_shuffles_trials(pytester: pytest.Pytester, project: Path, workers: tuple[str, ...]) -> None:
    orders = set()
    for seed in (1,) if workers else (1, 2):
        result = search(pytester, f"{' '.join(workers)} -p randomly -p no:cacheprovider --randomly-seed={seed}")
        result.assert_outcomes(passed=4, failed=2)
        spent = take_spent(project)
        assert spent == {A: 2, B: 1, C: 2, D: 1, F: 1}
        orders.add(tuple(spent))
        assert list(read_latest(project)) == [A, B, C, D, F]
    assert workers or len(orders) > 1


@serial_and_xdist
def test_pytest_cov_measures_the_tests_and_not_the_measured(
    pytester: pytest.Pytester, project: Path, workers: tuple[str, ...]
) -> None:
    (project / "module.py").write_text("def used():\n    return 1\n\ndef unused():\n    return 2\n")
    (project / "test_e.py").write_text("import module\ndef test_used():\n    assert module.used() == 1\n")
    for name in (B, D):
        (project / name / "baseline" / "module.py").write_text("print('measured')\n")
        text = TARGET.replace("checks:", "checks:\n  run: {run: python module.py}")
        (project / name / "metaharness.yaml").write_text(text)
    args = f"{' '.join(workers)} -p pytest_cov --cov=. --cov-report=json -k 'good or used'"
    search(pytester, args).assert_outcomes(passed=3)
    files = json.loads((project / "coverage.json").read_text())["files"]
    assert sorted(files) == ["conftest.py", "module.py", "test_e.py"]
    assert files["module.py"]["missing_lines"] == [5]


@pytest.mark.parametrize("dist", ["loadfile", "loadgroup", "worksteal", "no"])
def test_every_way_of_distribution(pytester: pytest.Pytester, project: Path, dist: str) -> None:
    (project / B / "metaharness.yaml").write_text(f"{TARGET}marks: [xdist_group]\n")
    marked = "import pytest\n" + TEST.replace("def test_f", "@pytest.mark.xdist_group('one')\ndef test_f")
    (project / "test_e.py").write_text(marked)
    search(pytester, f"-n2 --dist={dist}").assert_outcomes(passed=4, failed=2)
    assert take_spent(project) == {A: 2, B: 1, C: 2, D: 1, F: 1}
    assert sorted(read_latest(project)) == [A, B, C, D, F]
