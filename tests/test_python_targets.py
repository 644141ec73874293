"""Python targets through the front door: tests that take the fixture ``metaharness``."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT, read_sections, write_example
from sessions import read_junit, run_session, serial_and_xdist, write_files

EXAMPLE = ROOT / "examples" / "ticket_router"
HEAD = """
import os, signal, time
from pathlib import Path
import pytest
from pytest_metaharness import Backend, Check, CheckResult, Contains, Gate, GateFailure, Metaharness, Target

ONE = Check(id="one", contains=Contains(path="a.txt", all=["one"]))
TWO = Check(id="two", contains=Contains(path="a.txt", all=["two"]))

def make(*checks, **keys):
    return Target(goal="Count.", checks=checks or [ONE, TWO], **keys)
"""
PROVIDER = """
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    if request.backend.provider == "mine":
        (request.workspace / "a.txt").write_text("one two")
        return Proposal(status="completed", cost_usd=0.25)
"""


def write_tests(folder: Path, tests: str, **files: str) -> Path:
    """Write a test file beside a baseline that counts to one."""
    return write_files(folder, {"test_x.py": HEAD + tests, "baseline/a.txt": "one", **files})


def read_places(report: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    return {run["nodeid"].removeprefix("test_x.py::"): (run["target"], run["best"], run["gate"]) for run in report}


PASSED = {"passed": True, "failures": []}


@serial_and_xdist
def test_what_a_test_gives_decides(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    tests = """
def test_holds(metaharness):
    run = metaharness(make(gate=Gate(baseline=0.5)))
    assert run.baseline == run.best and run.best.objective == 0.5 == run.best_objective
    assert [check.value for check in run.best.checks] == [1, 0]

def test_fails_its_gate(metaharness):
    metaharness(make(gate=Gate(baseline=0.9)))

def test_expects_to_fail_its_gate(metaharness):
    with pytest.raises(GateFailure, match="0.500 < 0.9"):
        metaharness(make(gate=Gate(baseline=0.9)))

def test_fails_by_itself(metaharness):
    assert metaharness(make()).best.objective == 1.0

def test_is_broken(metaharness):
    metaharness(make(Check(id="a", run="make", weight=-1), gate=Gate(checks=["b"])))

def test_calls_twice(metaharness):
    metaharness(make())
    metaharness(make())

def test_calls_never(metaharness):
    pass

@pytest.mark.parametrize("word", ["one", "two"])
def test_has_parameters(metaharness, tmp_path, word):
    (tmp_path / "a.txt").write_text(word)
    metaharness(make(baseline=tmp_path))

class TestClass:
    @pytest.fixture
    def run(self, metaharness):
        return metaharness(make())

    def test_calls_in_a_fixture(self, run):
        assert run.gain == 0
"""
    write_tests(pytester.path, tests)
    session = run_session(pytester, *workers)
    session.result.assert_outcomes(passed=6, failed=3, errors=1)
    missed = {"passed": False, "failures": ["baseline 0.500 < 0.9"]}
    twice = (
        "the test failed: metaharness was called a second time: a test is one trial of one target; "
        "parametrize it, or write another test"
    )
    assert read_places(session.runs) == {
        "TestClass::test_calls_in_a_fixture[baseline]": ("calls_in_a_fixture", 0.5, PASSED),
        "test_calls_twice[baseline]": ("calls_twice", 0.5, {"passed": False, "failures": [twice]}),
        "test_expects_to_fail_its_gate[baseline]": ("expects_to_fail_its_gate", 0.5, missed),
        "test_fails_by_itself[baseline]": (
            "fails_by_itself",
            0.5,
            {"passed": False, "failures": ["the test failed: assert 0.5 == 1.0"]},
        ),
        "test_fails_its_gate[baseline]": ("fails_its_gate", 0.5, missed),
        "test_has_parameters[one-baseline]": ("has_parameters[one]", 0.5, PASSED),
        "test_has_parameters[two-baseline]": ("has_parameters[two]", 0.5, PASSED),
        "test_holds[baseline]": ("holds", 0.5, PASSED),
    }
    session.result.stdout.fnmatch_lines_random(
        [
            "baseline 0.500 < 0.9",
            "test_x.py::test_is_broken: checks.a.weight: must be > 0, got -1",
            "test_x.py::test_is_broken: gate.checks: no check 'b' (known: a)",
            "metaharness was called a second time: *",
            ">       assert metaharness(make()).best.objective == 1.0",
        ]
    )
    assert re.search(r"pytest_metaharness/\w+\.py", session.output) is None  # no traceback into our code
    assert str(Path(sys.modules["pytest_metaharness"].__path__[0])) not in session.output


def test_functions_as_checks(pytester: pytest.Pytester) -> None:
    tests = """
def half(checkout):
    assert (checkout / "a.txt").read_text() == "one"
    return CheckResult(value=0.5, feedback="half of it", metrics={"parts": 2})

def fall(checkout):
    raise ValueError("fell over")

def skip(checkout):
    pytest.skip("not here")

def sleep(checkout):
    time.sleep(60)

VALUES = {"third": 1 / 3, "true": True, "text": "1", "nothing": None, "much": 1.5}

@pytest.mark.parametrize("once_more", [1, 2])
def test_calls(metaharness, once_more):
    calls = [Check(id=name, call=lambda _, value=value: value) for name, value in VALUES.items()]
    calls += [Check(id=each.__name__, call=each, timeout=0.3) for each in (half, fall, skip, sleep)]
    metaharness(make(*calls))
"""
    write_tests(pytester.path, tests)
    session = run_session(pytester)
    session.result.assert_outcomes(passed=2)
    allowed = "must give a number 0 to 1, or a CheckResult with one"
    for run in session.runs:
        checks = run["candidates"][0]["checks"]
        assert {check["id"]: (check["value"], check["feedback"]) for check in checks} == {
            "third": (1 / 3, ""),
            "true": (1, ""),
            "text": (0, f"the check 'text' {allowed}, got '1'"),
            "nothing": (0, f"the check 'nothing' {allowed}, got None"),
            "much": (0, f"the check 'much' {allowed}, got 1.5"),
            "half": (0.5, "half of it"),
            "fall": (0, "the check 'fall' raised ValueError: fell over"),
            "skip": (0, "the check 'skip' raised RuntimeError: it called pytest.skip: not here"),
            "sleep": (0, "timed out after 0.3 s"),
        }
        assert not any(check["reused"] for check in checks)
        assert checks[5]["metrics"] == {"parts": 2}


@serial_and_xdist
def test_searches(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    tests = """
BACKENDS = {"own": Backend(name="own", provider="mine", model="m")}

@pytest.mark.parametrize("best", [1, 0.5])
def test_search(metaharness, best):
    run = metaharness(make(gate=Gate(best=0.9), backends=BACKENDS))
    assert run.best.objective == best

def test_plain():
    pass
"""
    write_tests(pytester.path, tests, **{"conftest.py": PROVIDER})
    options = ("--metaharness=own,mine", "--metaharness-trials=2", "-mmetaharness", *workers)
    session = run_session(pytester, *options, "-v", "--junitxml=junit.xml")
    session.result.assert_outcomes(passed=4, failed=4, deselected=0 if workers else 1)
    ids = [
        f"test_search[{best}-{label}-t{trial}]" for best in (0.5, 1) for label in ("mine", "own") for trial in (1, 2)
    ]
    assert [run["nodeid"] for run in session.runs] == [f"test_x.py::{name}" for name in ids]
    for run in session.runs:
        assert (run["baseline"], run["best"], run["proposals"], run["outcomes"]) == (0.5, 1, 1, {"keep": 1})
        assert (run["provider"], run["model"]) == ("mine", "m" if run["backend"] == "own" else None)
        assert run["gate"]["passed"] is (run["target"] == "search[1]")
        assert run["settings"]["timeout"] == {"value": 600, "from": "default"}
        assert (pytester.path / run["patch"]).read_text().endswith("+one two\n\\ No newline at end of file\n")
    session.result.stdout.fnmatch_lines(["test_x.py::test_search?1-own-t2?", "    ok   two: 1 (weight 1)"])
    case = read_junit(pytester.path / "junit.xml")["test_x::test_search[1-own-t1]"]
    assert {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")} == {
        "metaharness.baseline": "0.5",
        "metaharness.best": "1.0",
        "metaharness.gain": "0.5",
        "metaharness.cost_usd": "0.25",
    }


def test_last_failed_searches_only_what_failed(pytester: pytest.Pytester) -> None:
    tests = """
@pytest.mark.parametrize("best", [1, 0.5])
def test_search(metaharness, best):
    assert metaharness(make()).best.objective == best
"""
    write_tests(pytester.path, tests, **{"conftest.py": PROVIDER})
    run_session(pytester, "--metaharness=mine").result.assert_outcomes(passed=1, failed=1)
    (pytester.path / ".metaharness").rename(pytester.path / "earlier")
    again = run_session(pytester, "--metaharness=mine", "--lf")
    again.result.assert_outcomes(failed=1)
    assert again.run["nodeid"] == "test_x.py::test_search[0.5-mine]"


@serial_and_xdist
def test_a_file_and_a_test_of_one_target_report_alike(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    shutil.copytree(EXAMPLE, pytester.path / "ticket_router", ignore=shutil.ignore_patterns("__pycache__"))
    session = run_session(pytester, "--metaharness=fake", *workers, "ticket_router")
    session.result.assert_outcomes(passed=2)
    from_file, from_python = session.runs
    assert from_file["nodeid"] == "ticket_router/metaharness.yaml::fake"
    assert from_python["nodeid"] == "ticket_router/test_ticket_router.py::test_ticket_router[fake]"
    assert comparable(from_file) == comparable(from_python)
    assert (from_python["baseline"], from_python["best"]) == (0.75, 1.0)
    patches = [(pytester.path / run["patch"]).read_bytes() for run in session.runs]
    assert patches[0] == patches[1]


def comparable(run: dict[str, Any]) -> Any:
    """Give a record without what two runs cannot have in common: where it is, how long it took, who was first."""
    text = json.dumps({name: value for name, value in run.items() if name not in {"nodeid", "directory", "patch"}})
    text = re.sub(r'"from": "(metaharness.yaml|test_ticket_router.py)"', '"from": "the target"', text)
    return json.loads(re.sub(r'"(duration_s|reused)": [^,}]+', r'"\1": null', text))


@pytest.mark.parametrize(("method", "args"), [("signal", ()), ("thread", ("-n2",))])
def test_pytest_timeout_interrupts_the_trial(pytester: pytest.Pytester, method: str, args: tuple[str, ...]) -> None:
    tests = """
def test_hangs(metaharness):
    metaharness(make(Check(id="hangs", run="sleep 60 & sleep 60")))

def test_passes(metaharness):
    metaharness(make())
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0 or METHOD == "thread"
"""
    write_tests(pytester.path, f"METHOD = {method!r}{tests}")
    session = run_session(pytester, "--timeout=1.5", f"--timeout-method={method}", *args)
    session.result.assert_outcomes(passed=1, failed=1)
    reason = "interrupted: the limit of pytest-timeout for this item, 1.5 s, is over"
    assert [(run["target"], run["status"], run["reason"]) for run in session.runs] == [
        ("hangs", "interrupted", reason),
        ("passes", "completed", ""),
    ]
    session.result.stdout.fnmatch_lines([reason])
    assert "Traceback" not in session.output


def test_a_test_has_its_limit_for_itself_too(pytester: pytest.Pytester) -> None:
    write_tests(pytester.path, "def test_hangs(metaharness):\n    metaharness(make())\n    time.sleep(60)\n")
    session = run_session(pytester, "--timeout=1.5", "--timeout-method=signal")
    session.result.assert_outcomes(failed=1)
    assert session.run["status"] == "completed"
    (failure,) = session.run["gate"]["failures"]
    assert re.fullmatch(r"the test failed: Failed: Timeout \(>1\.\d{0,3}s\) from pytest-timeout\.", failure)


def test_a_run_is_reported_when_its_worker_dies(pytester: pytest.Pytester) -> None:
    tests = """
def strike(checkout):
    os.kill(os.getpid(), signal.SIGKILL)

def test_dies(metaharness):
    metaharness(make(Check(id="strike", call=strike)))
"""
    write_tests(pytester.path, tests)
    session = run_session(pytester, "-n1", "--max-worker-restart=0", "--metaharness-sandbox=off")
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    assert (session.run["nodeid"], session.run["status"]) == ("test_x.py::test_dies[baseline]", "lost")
    lines = session.result.stdout.lines
    notices = [number for number, line in enumerate(lines) if line.startswith("metaharness: sandbox")]
    assert len(notices) == 1, "what is not enforced is said once before the first trial ends, though no id tells of it"
    assert notices[0] < next(number for number, line in enumerate(lines) if "= metaharness =" in line)


def test_off_skips(pytester: pytest.Pytester) -> None:
    write_tests(pytester.path, "def test_a(metaharness):\n    metaharness(make())\n")
    result = pytester.runpytest_subprocess("--metaharness=off", "-rs", "-v", "-mmetaharness")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["test_x.py::test_a?off? SKIPPED*", "*--metaharness=off runs no target*"])
    assert "= metaharness =" not in result.stdout.str()
    assert not (pytester.path / ".metaharness").exists()


def test_what_cannot_be_used_is_an_error(pytester: pytest.Pytester) -> None:
    write_tests(
        pytester.path,
        """
def test_asks(request):
    request.getfixturevalue("metaharness")

def test_searches(metaharness):
    metaharness(make(backends={"near": Backend(name="near", provider="codex")}))
""",
    )
    session = run_session(pytester, "--metaharness=nera")
    session.result.assert_outcomes(failed=1, errors=1)
    session.result.stdout.fnmatch_lines(
        [
            "unknown backend 'nera' (known: *; did you mean 'near'?)",
            "take the fixture 'metaharness' as an argument of the test function, or of a fixture that it takes",
        ]
    )
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    assert not session.folder.exists()


def test_a_fixture_of_the_same_name_stays_as_it_was(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef metaharness(): return 5\n")
    pytester.makepyfile(test_y="def test_y(metaharness): assert metaharness == 5\n")
    result = pytester.runpytest_subprocess("-v")
    result.stdout.fnmatch_lines(["test_y.py::test_y PASSED*"])


def test_the_example_of_the_documentation_is_typed_and_runs(pytester: pytest.Pytester) -> None:
    page = ROOT / "docs" / "python-targets.md"
    (section,) = (section for section in read_sections(page) if section.title == "Example")
    write_example(section, pytester.path)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={ROOT / '.mypy_cache'}", "greeter/test_greeter.py"],
        cwd=pytester.path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    session = run_session(pytester, "--metaharness=fake", "greeter")
    session.result.assert_outcomes(passed=1)
    assert (session.run["target"], session.run["baseline"], session.run["best"]) == ("greeter", 0.5, 1.0)
