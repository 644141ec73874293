"""What passes and what fails: thresholds, the verdict without them, the text of a failure, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from sessions import Session, make_target, run_session, serial_and_xdist

TARGET = """\
goal: Write the four facts into a.txt.
required: [a.txt]
editable: [a.txt]
budget: 3
checks:
  one: {contains: {path: a.txt, all: [one]}}
  two: {contains: {path: a.txt, all: [two]}}
  three: {contains: {path: a.txt, all: [three]}}
  four: {contains: {path: a.txt, all: [four]}}
"""
IMPROVE = "{files: {a.txt: one two three}}"
FINISH = "{files: {a.txt: one two three four}}"


def write(root: Path, name: str, gate: str = "{}", *, fake: str = "[]", text: str = TARGET, **files: str) -> None:
    """Make a target whose baseline has objective 0.5."""
    make_target(root / name, f"{text}gate: {gate}\n", fake=fake, **files or {"a_txt": "one two"})


def read_verdicts(session: Session) -> dict[str, list[str]]:
    """Give the failures of each target's gate; none is a pass."""
    runs = session.runs_by_target
    assert all(run["gate"]["passed"] is not bool(run["gate"]["failures"]) for run in runs.values())
    return {name: run["gate"]["failures"] for name, run in runs.items()}


@serial_and_xdist
def test_thresholds_on_the_baseline(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    root = pytester.path
    write(root, "equal", "{baseline: 0.5}")
    write(root, "within_tolerance", "{baseline: 0.5000000001}")
    write(root, "below", "{baseline: 0.50001}")
    write(root, "not_searched", "{best: 0.9, gain: 0.9}")
    write(root, "none")
    write(root, "incomplete", b_txt="")
    write(root, "incomplete_with_gate", "{baseline: 0}", b_txt="")
    session = run_session(pytester, *workers)
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    session.result.assert_outcomes(passed=4, failed=3)
    missing = "the baseline is invalid: required files are missing: a.txt"
    assert read_verdicts(session) == {
        "equal": [],
        "within_tolerance": [],
        "below": ["baseline 0.500 < 0.50001"],
        "not_searched": [],
        "none": [],
        "incomplete": [missing],
        "incomplete_with_gate": [missing, "baseline invalid < 0"],
    }
    session.result.stdout.fnmatch_lines_random([missing, "baseline 0.500 < 0.50001"])


@serial_and_xdist
def test_thresholds_on_a_search(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    root = pytester.path
    write(root, "equal", "{baseline: 0.5, best: 0.75, gain: 0.25}", fake=f"[{IMPROVE}]")
    write(root, "below", "{baseline: 0.6, best: 0.8, gain: 0.3}", fake=f"[{IMPROVE}]")
    write(root, "perfect", "{baseline: 1.0, best: 1.0}", fake="[{fault: raise}]", a_txt="one two three four")
    write(root, "finished", fake=f"[{FINISH}, {{fault: raise}}]")
    write(root, "mended", "{best: 0.75, gain: 0.9}", fake=f"[{IMPROVE}, {{files: {{a.txt: one}}}}]", b_txt="")
    write(root, "not_mended", fake="[{delete: [a.txt]}]", b_txt="")
    session = run_session(pytester, "--metaharness=fake", *workers)
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    session.result.assert_outcomes(passed=4, failed=2)
    assert read_verdicts(session) == {
        "equal": [],
        "below": ["baseline 0.500 < 0.6", "best 0.750 < 0.8", "gain 0.250 < 0.3"],
        "perfect": [],
        "finished": [],
        "mended": [],
        "not_mended": ["the baseline is invalid: required files are missing: a.txt"],
    }
    runs = session.runs_by_target
    assert {name: (run["baseline"], run["best"], run["gain"], run["proposals"]) for name, run in runs.items()} == {
        "equal": (0.5, 0.75, 0.25, 3),
        "below": (0.5, 0.75, 0.25, 3),
        "perfect": (1.0, 1.0, 0.0, 0),
        "finished": (0.5, 1.0, 0.5, 1),
        "mended": (None, 0.75, None, 3),
        "not_mended": (None, None, None, 3),
    }


@serial_and_xdist
def test_a_search_in_which_no_backend_answered_fails(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    root = pytester.path
    faults = ("raise", "crash", "unavailable", "sleep")
    for fault in faults:
        write(root, fault, fake=f"[{{fault: unavailable}}, {{fault: {fault}}}]", text=TARGET.replace("3", "2"))
    write(root, "then-keep", fake=f"[{{fault: raise}}, {IMPROVE}]")
    write(root, "then-discard", fake="[{fault: raise}, {files: {a.txt: one}}]", text=TARGET.replace("3", "2"))
    write(root, "then-no-change", fake="[{fault: raise}]")
    write(root, "then-invalid", fake="[{fault: raise}, {delete: [a.txt]}]", text=TARGET.replace("3", "2"))
    write(root, "then-scope", fake="[{fault: raise}, {files: {b.txt: x}}]", text=TARGET.replace("3", "2"))
    session = run_session(pytester, "--metaharness=fake", "--metaharness-timeout=0.5", *workers)
    session.result.assert_outcomes(passed=5, failed=4)
    last = {name: run["candidates"][-1] for name, run in session.runs_by_target.items()}
    assert {name: last[name]["outcome"] for name in faults} == {
        "raise": "crash",
        "crash": "crash",
        "unavailable": "unavailable",
        "sleep": "timeout",
    }
    failures = read_verdicts(session)
    for name in faults:
        reason = f"no proposal could be judged: {last[name]['outcome']}: {last[name]['reason']}"
        assert failures.pop(name) == [reason]
    assert set(map(tuple, failures.values())) == {()}
    assert {name: last[name]["outcome"] for name in failures} == {
        "then-keep": "no-change",
        "then-discard": "discard",
        "then-no-change": "no-change",
        "then-invalid": "invalid",
        "then-scope": "scope-violation",
    }


def test_fail_under_replaces_the_threshold_of_the_mode(pytester: pytest.Pytester) -> None:
    write(pytester.path, "half", "{baseline: 0.9, best: 0.1}", fake=f"[{IMPROVE}]")
    assert pytester.runpytest_subprocess("--metaharness-fail-under=0.5").ret == pytest.ExitCode.OK
    result = pytester.runpytest_subprocess("--metaharness-fail-under=0.51")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["baseline 0.500 < 0.51"])
    result = pytester.runpytest_subprocess("--metaharness=fake", "--metaharness-fail-under=0.8")
    result.stdout.fnmatch_lines(["baseline 0.500 < 0.9", "best 0.750 < 0.8"])


def test_fail_under_holds_when_only_the_baseline_is_measured(pytester: pytest.Pytester) -> None:
    write(pytester.path, "half")
    args = ("--metaharness=fake", "--metaharness-budget=0", "--metaharness-fail-under=0.9")
    assert pytester.runpytest_subprocess(*args).ret == pytest.ExitCode.TESTS_FAILED


def test_budget_0_measures_only(pytester: pytest.Pytester) -> None:
    (pytester.path / "conftest.py").write_text("def pytest_metaharness_propose(request):\n    raise SystemExit\n")
    write(pytester.path, "half", "{best: 0.9, gain: 0.9}")
    session = run_session(pytester, "--metaharness=mine", "--metaharness-budget=0")
    session.result.assert_outcomes(passed=1)
    run = session.run
    assert (run["baseline"], run["best"], run["gain"]) == (0.5, 0.5, 0.0)
    assert (run["proposals"], run["budget"], run["backend"]) == (0, 0, "mine")


@serial_and_xdist
def test_a_failure_says_in_a_few_lines_what_happened(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    text = TARGET.replace("one: {contains: {path: a.txt, all: [one]}}", "one: {run: seq 20; cat no; exit 3}")
    proposals = f"[{{files: {{a.txt: x}}}}, {{files: {{b.txt: x}}}}, {IMPROVE}]"
    write(pytester.path, "half", "{best: 0.9}", text=text, fake=proposals)
    result = pytester.runpytest_subprocess("--metaharness=fake", *workers)
    lines = [line for line in result.outlines if not line.startswith("[gw")]
    (heading,) = (number for number, line in enumerate(lines) if line.strip("_ ") == "half::fake")
    (end,) = (number for number, line in enumerate(lines) if line.strip("= ") == "metaharness")
    assert lines[heading + 1 : end] == [
        "best 0.500 < 0.9",
        "baseline 0.250, best 0.500 (c0003)",
        "  MISS one: 0 (weight 1)",
        *(f"       {number}" for number in (16, 17, 18, 19, 20)),
        "       cat: no: No such file or directory",
        "  MISS four: 0 (weight 1)",
        "       a.txt lacks 'four'",
        "c0001 discard: 0.000 is not better than 0.250 (c0000)",
        "c0002 scope-violation: added b.txt; only a.txt may be changed",
        "c0003 keep: 0.250 -> 0.500",
    ]
    result.stdout.fnmatch_lines(["FAILED half/metaharness.yaml::fake - best 0.500 < 0.9"])
    result.stdout.no_fnmatch_line("*Traceback*")
