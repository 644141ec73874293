"""The hooks, as authors of a conftest or a plugin use them: what they are given, and what becomes of their mistakes."""

from __future__ import annotations

import pytest
from sessions import make_target, read_outcomes, run_session, serial_and_xdist

TARGET = """\
goal: Write the facts.
constraints: [Be short.]
budget: 2
checks:
  one: {contains: {path: a.txt, all: [one]}}
  two: {contains: {path: a.txt, all: [two]}, weight: 3}
"""
IMPROVE = """
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    (request.workspace / "a.txt").write_text({"c0001": "one", "c0002": "one two"}[request.candidate])
    return Proposal(status="completed")
"""
CHECKED = "goal: Be short.\nchecks:\n  a: {use: short, with: {path: a.txt, most: 3}}\n"


# -------------------------------------------------------------------------------------------------------- propose


def test_a_provider_is_given_all_it_needs(pytester: pytest.Pytester) -> None:
    backends = "backends: {tuned: {provider: mine, model: m-1, timeout: 40, colour: red, args: [--fast]}}\n"
    make_target(pytester.path / "facts", TARGET + backends, a_txt="zero")
    pytester.makeconftest(
        """
import threading
from pathlib import Path
from pytest_metaharness import Backend, Candidate, Proposal, ProposalRequest, Target

def pytest_metaharness_propose(request):
    assert isinstance(request, ProposalRequest)
    assert isinstance(request.target, Target) and isinstance(request.parent, Candidate)
    assert (request.target.name, request.target.goal) == ("facts", "Write the facts.")
    assert request.backend == Backend(
        name="tuned", provider="mine", model="m-1", timeout=40.0, args=("--fast",), options={"colour": "red"}
    )
    assert (request.candidate, request.parent.id, request.parent.objective) == ("c0001", "c0000", 0.0)
    assert request.timeout == 40.0
    assert threading.current_thread() is threading.main_thread()
    assert (request.workspace / "a.txt").read_text() == "zero"
    brief = (request.workspace / ".metaharness" / "BRIEF.md").read_text()
    assert "Write the facts." in brief and "Be short." in brief
    assert "BRIEF.md" in request.prompt
    done = request.run(["bash", "-c", "cat > a.txt; pwd; exit 3"], stdin=b"one two")
    assert (done.returncode, done.stdout.text().strip()) == (3, str(request.workspace))
    (request.log_dir / "notes.txt").write_text("kept")
    return Proposal(status="completed", summary="all facts")
"""
    )
    session = run_session(pytester, "--metaharness=tuned")
    session.result.assert_outcomes(passed=1)
    assert [(each["outcome"], each["reason"]) for each in session.run["candidates"][1:]] == [("keep", "0.000 -> 1.000")]
    assert (pytester.path / session.run["directory"] / "c0001" / "notes.txt").read_text() == "kept"


@serial_and_xdist
def test_a_conftest_answers_for_the_targets_beside_it_alone(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    for name in ("left", "right"):
        make_target(pytester.path / name, TARGET, a_txt=name)
        (pytester.path / name / "conftest.py").write_text(
            f"""
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    (request.workspace / "by").write_text({name!r})
    return Proposal(status="crash", reason="{name}")

def pytest_metaharness_objective(target, results):
    return {{"left": 0.25, "right": 0.75}}[{name!r}]

def pytest_metaharness_candidate(run, candidate):
    with open(f"{name}-{{run.target}}", "a") as file:
        file.write(candidate.id + " ")
"""
        )
    make_target(pytester.path / "bare", TARGET, a_txt="one")
    session = run_session(pytester, "--metaharness=mine", *workers)
    session.result.assert_outcomes(failed=2, errors=1)
    session.result.stdout.fnmatch_lines(["*unknown backend 'mine' (known: baseline, *codex, *fake*)"])
    assert {run["target"]: (run["baseline"], run["candidates"][1]["reason"]) for run in session.runs} == {
        "left": (0.25, "left"),
        "right": (0.75, "right"),
    }
    assert (pytester.path / "left-left").read_text() == (pytester.path / "right-right").read_text()
    assert (pytester.path / "left-left").read_text() == "c0000 c0001 c0002 "
    assert not (pytester.path / "left-right").exists()


@serial_and_xdist
def test_a_plugin_is_a_provider_beside_the_built_in_ones(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    make_target(pytester.path / "facts", TARGET, fake="[{files: {a.txt: one}}]", a_txt="zero")
    pytester.makepyfile(
        my_agent=IMPROVE.replace(
            "    (request", "    if request.backend.provider != 'my-agent':\n        return None\n    (request"
        )
    )
    pytester.syspathinsert()
    args = ("-p", "my_agent", "--metaharness=my-agent:m,fake", "--strict-markers", *workers)
    session = run_session(pytester, *args)
    session.result.assert_outcomes(passed=2)
    table = (session.folder / "report.tsv").read_text()
    assert "facts/metaharness.yaml::my-agent:m\tfacts\tmy-agent:m\tmy-agent\tm\t" in table
    assert "facts/metaharness.yaml::fake\tfacts\tfake\tfake\t\t" in table


def test_a_plugin_overrides_a_built_in_provider(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, fake="[{fault: raise}]", a_txt="zero")
    pytester.makeconftest(IMPROVE)
    session = run_session(pytester, "--metaharness=fake")
    session.result.assert_outcomes(passed=1)
    assert session.run["best"] == 1.0


def test_a_name_that_no_plugin_answers_for_is_an_error_of_the_item(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="zero")
    pytester.makeconftest("def pytest_metaharness_propose(request):\n    return None\n")
    session = run_session(pytester, "--metaharness=codx")
    session.result.assert_outcomes(errors=1)
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    session.result.stdout.fnmatch_lines(["*backend 'codx': nobody answers for provider 'codx'*"])
    session.result.stdout.no_fnmatch_line("*Traceback*")
    assert session.run["status"] == "failed"


def test_whatever_a_provider_does_is_an_outcome(pytester: pytest.Pytester) -> None:
    bodies = {
        "pytest.fail('no luck')": "RuntimeError: the backend called pytest.fail: no luck",
        "pytest.skip('no luck')": "RuntimeError: the backend called pytest.skip: no luck",
        "raise SystemExit(3)": "SystemExit: 3",
        "raise ValueError": "ValueError",
        "assert False, 'odd'": "AssertionError: odd\nassert False",
        "return Proposal(status='splendid')": "the backend's Proposal is not valid: Invalid enum value 'splendid'",
        "return Proposal(status='completed', cost_usd='much')": "the backend's Proposal is not valid: Expected",
    }
    steps = "".join(f"    if request.candidate == 'c{number:04}': {body}\n" for number, body in enumerate(bodies, 1))
    make_target(pytester.path / "facts", TARGET, a_txt="zero")
    pytester.makeconftest(
        f"import pytest\nfrom pytest_metaharness import Proposal\ndef pytest_metaharness_propose(request):\n{steps}"
    )
    session = run_session(pytester, "--metaharness=mine", f"--metaharness-budget={len(bodies)}")
    session.result.assert_outcomes(failed=1)
    assert session.run["outcomes"] == {"crash": len(bodies)}
    for candidate, reason in zip(session.run["candidates"][1:], bodies.values(), strict=True):
        assert candidate["reason"].startswith(reason)


# ------------------------------------------------------------------------------------------- check and objective


def test_a_check_of_ones_own(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", CHECKED + "  b: {use: raises, weight: 2}\n  c: {use: odd}\n", a_txt="a b c d")
    pytester.makeconftest(
        """
import pytest
from pytest_metaharness import Check, CheckResult

def pytest_metaharness_check(check, workspace):
    assert isinstance(check, Check)
    if check.use == "short":
        words = len((workspace / check.with_["path"]).read_text().split())
        most = check.with_["most"]
        return CheckResult(value=0.5, feedback=f"{words} words, at most {most}", metrics={"words": words})
    if check.use == "raises":
        pytest.fail("not in the mood")
    return 1.0
"""
    )
    session = run_session(pytester)
    session.result.assert_outcomes(passed=1)
    short, raises, odd = session.candidate(0)["checks"]
    assert (short["value"], short["feedback"], short["metrics"]) == (0.5, "4 words, at most 3", {"words": 4.0})
    assert (raises["value"], raises["weight"]) == (0.0, 2.0)
    assert "not in the mood" in raises["feedback"]
    assert odd["value"] == 0.0
    assert odd["feedback"] == "the check 'odd' must give a CheckResult with a value 0 to 1, got 1.0"
    assert session.run["baseline"] == 0.125


@pytest.mark.parametrize(
    ("others", "workers"), [(False, ()), (True, ("-n2",))], ids=["no hook", "a hook for others-xdist"]
)
def test_a_check_that_nobody_knows_is_an_error_of_the_item(
    pytester: pytest.Pytester, others: bool, workers: tuple[str, ...]
) -> None:
    make_target(pytester.path / "facts", CHECKED, a_txt="a b c d")
    if others:
        pytester.makeconftest("def pytest_metaharness_check(check, workspace):\n    return None\n")
    result = pytester.runpytest_subprocess("--junitxml=junit.xml", *workers)
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["checks.a: nobody answers for use: short (implement pytest_metaharness_check)"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert '<testsuite name="pytest" errors="1" failures="0"' in (pytester.path / "junit.xml").read_text()


def test_an_objective_of_ones_own(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="zero")
    make_target(pytester.path / "default", TARGET, a_txt="two")
    pytester.makeconftest(
        IMPROVE
        + """
def pytest_metaharness_objective(target, results):
    if target.name == "facts":
        assert list(results) == ["one", "two"]
        return min(result.value for result in results.values())
"""
    )
    session = run_session(pytester, "--metaharness=mine")
    session.result.assert_outcomes(passed=2)
    runs = session.runs_by_target
    assert [each["objective"] for each in runs["facts"]["candidates"]] == [0.0, 0.0, 1.0]
    assert read_outcomes(runs["facts"]) == ["baseline", "discard", "keep"]
    assert [each["objective"] for each in runs["default"]["candidates"]] == [0.75, 0.25, 1.0]


ALLOWED = "pytest_metaharness_objective must give a number from 0 to 1, got"


@serial_and_xdist
def test_an_impossible_objective_fails_the_run(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    answers = {
        "nan": ("float('nan')", f"{ALLOWED} nan"),
        "two": ("2.0", f"{ALLOWED} 2.0"),
        "text": ("'0.5'", f"{ALLOWED} '0.5'"),
        "true": ("True", f"{ALLOWED} True"),
        "error": ("1 / 0", "pytest_metaharness_objective raised ZeroDivisionError: division by zero"),
    }
    for name, (answer, _) in answers.items():
        folder = make_target(pytester.path / name, TARGET, a_txt="zero")
        (folder / "conftest.py").write_text(
            f"def pytest_metaharness_objective(target, results):\n    return {answer}\n"
        )
    session = run_session(pytester, *workers)
    session.result.assert_outcomes(failed=5)
    runs = session.runs_by_target
    for name, (_, message) in answers.items():
        assert (runs[name]["status"], runs[name]["reason"]) == ("failed", message)
        assert runs[name]["gate"] == {"passed": False, "failures": [message]}
    session.result.stdout.fnmatch_lines_random([message for _, message in answers.values()])
    session.result.stdout.no_fnmatch_line("*Traceback*")


# ------------------------------------------------------------------------------------------------------ candidate


def test_candidates_are_observed_as_they_are_finished(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="zero")
    pytester.makeconftest(
        IMPROVE
        + """
from pytest_metaharness import Candidate, Run

def pytest_metaharness_candidate(run, candidate):
    assert isinstance(run, Run) and isinstance(candidate, Candidate)
    with open("observed", "a") as file:
        print(run.nodeid, run.status, candidate.id, candidate.outcome, candidate.objective, sep="|", file=file)
"""
    )
    pytester.runpytest_subprocess("--metaharness=mine").assert_outcomes(passed=1)
    assert (pytester.path / "observed").read_text().splitlines() == [
        "facts/metaharness.yaml::mine|running|c0000|baseline|0.0",
        "facts/metaharness.yaml::mine|running|c0001|keep|0.25",
        "facts/metaharness.yaml::mine|running|c0002|keep|1.0",
    ]


@pytest.mark.parametrize(
    ("error", "workers"),
    [("ValueError", ()), ("pytest.fail.Exception", ("-n2",))],
    ids=["raises", "fails-xdist"],
)
def test_an_observer_that_raises_is_a_warning(pytester: pytest.Pytester, workers: tuple[str, ...], error: str) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="zero")
    pytester.makeconftest(
        f"{IMPROVE}\nimport pytest\ndef pytest_metaharness_candidate():\n    raise {error}('lost \\x1b[31m')\n"
    )
    session = run_session(pytester, "--metaharness=mine", *workers)
    session.result.assert_outcomes(passed=1, warnings=3)
    session.result.stdout.fnmatch_lines([r"*TargetWarning: pytest_metaharness_candidate raised *: lost \x1b[[]31m"])
    assert session.run["best"] == 1.0


def test_a_warning_that_is_an_error_costs_no_proposal(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="zero")
    pytester.makeconftest(f"{IMPROVE}\ndef pytest_metaharness_candidate():\n    raise ValueError('lost')\n")
    session = run_session(pytester, "--metaharness=mine", "-Werror")
    session.result.assert_outcomes(failed=1)
    session.result.stdout.fnmatch_lines(["*pytest_metaharness_candidate raised ValueError: lost*"])
    assert session.run["status"] == "completed"
    assert read_outcomes(session.run) == ["baseline", "keep", "keep"]


def test_a_hook_with_an_unknown_argument_is_named(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="zero")
    pytester.makeconftest("def pytest_metaharness_candidate(run, candidat):\n    pass\n")
    result = pytester.runpytest_subprocess()
    assert result.ret != pytest.ExitCode.OK
    assert "pytest_metaharness_candidate" in f"{result.stdout}{result.stderr}"
    assert "candidat" in f"{result.stdout}{result.stderr}"
