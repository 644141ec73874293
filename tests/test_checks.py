"""What each kind of check says of a candidate, so that the next proposal can act on it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sessions import find_processes, make_mark, run_session, write_files

# id -> (check, value, feedback); feedback that ends in "..." is only the beginning
KINDS: dict[str, tuple[dict[str, Any], float, str]] = {
    "all": ({"contains": {"path": "a.md", "all": ["one", "two"]}}, 1, ""),
    "all-lacks": (
        {"contains": {"path": "a.md", "all": ["one", "six seven", "eight"]}},
        0,
        "a.md lacks 'six seven', 'eight'",
    ),
    "any": ({"contains": {"path": "a.md", "any": ["six", "two"]}}, 1, ""),
    "any-lacks": ({"contains": {"path": "a.md", "any": ["six", "seven"]}}, 0, "a.md has none of 'six', 'seven'"),
    "none": ({"contains": {"path": "a.md", "none": ["six"]}}, 1, ""),
    "none-has": ({"contains": {"path": "a.md", "none": ["six", "two"]}}, 0, "a.md must not have 'two'"),
    "regex": ({"contains": {"path": "a.md", "regex": "^t.o$"}}, 1, ""),
    "regex-lacks": ({"contains": {"path": "a.md", "regex": "^wo"}}, 0, "a.md has nothing that matches /^wo/"),
    "several": (
        {"contains": {"path": "a.md", "all": ["six"], "none": ["two"], "regex": "one"}},
        0,
        "a.md lacks 'six'; must not have 'two'",
    ),
    "missing": ({"contains": {"path": "no/such.md", "all": ["one"]}}, 0, "no/such.md is missing"),
    "folder": ({"contains": {"path": "docs", "all": ["one"]}}, 0, "docs is missing"),
    "link": ({"contains": {"path": "link.md", "all": ["one"]}}, 0, "link.md is a symbolic link, not a file"),
    "bytes": ({"contains": {"path": "bytes", "all": ["one"], "none": ["two"]}}, 1, ""),
    "catastrophe": (
        {"contains": {"path": "aaa", "regex": "(a|a)*b"}, "timeout": 0.2},
        0,
        "aaa: the conditions could not be decided within 0.2 s",
    ),
    "run": ({"run": "test -f a.md"}, 1, ""),
    "run-fails": ({"run": "echo out; echo err >&2; exit 3"}, 0, "exit code 3, expected 0\nout\nerr"),
    "run-code": ({"run": "exit 3", "exit_code": 3}, 1, ""),
    "run-other-code": ({"run": "true", "exit_code": 3}, 0, "exit code 0, expected 3"),
    "run-unknown": ({"run": "no-such-program"}, 0, "exit code 127, expected 0\nbash: line 1: no-such-program..."),
    "run-signal": ({"run": "kill -SEGV $$"}, 0, "exit code 139, expected 0"),
    "run-signal-wanted": ({"run": "exec bash -c 'kill -KILL $$'", "exit_code": 137}, 1, ""),
    "run-timeout": ({"run": "echo first; sleep 1000 | cat", "timeout": 0.6}, 0, "timed out after 0.6 s\nfirst"),
    "run-stdin": ({"run": "read -r line || echo closed; exit 1"}, 0, "exit code 1, expected 0\nclosed"),
    "run-floods": ({"run": "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo end; false"}, 0, "exit code 1..."),
    "number": ({"score": "echo noise; echo 0.25; echo more noise >&2"}, 0.25, ""),
    "blank-lines": ({"score": "echo 1; echo; echo ' '"}, 1, ""),
    "zero": ({"score": "echo 0"}, 0, ""),
    "object": (
        {"score": """echo '{"score": 0.5, "metrics": {"lines": 7, "unit": "line"}, "feedback": "half"}'"""},
        0.5,
        "half",
    ),
    "garbage": ({"score": "echo almost done"}, 0, "the last line of standard output must be a number 0 to 1 or..."),
    "silent": ({"score": "true"}, 0, "the last line of standard output must be..."),
    "nan": ({"score": "echo NaN"}, 0, "the last line of standard output must be..."),
    "json-nan": ({"score": """echo '{"score": NaN}'"""}, 0, "the last line of standard output must be..."),
    "above": ({"score": "echo 1.01"}, 0, "the last line of standard output must be..."),
    "below": ({"score": "echo -0.5"}, 0, "the last line of standard output must be..."),
    "infinite": ({"score": "echo 1e999"}, 0, "the last line of standard output must be..."),
    "huge": ({"score": "printf 1%0400d 0"}, 0, "the last line of standard output must be..."),
    "huge-metric": ({"score": """printf '{"score": 1, "metrics": {"a": 1%0400d, "b": 2}}' 0"""}, 1, ""),
    "boolean": ({"score": "echo true"}, 0, "the last line of standard output must be..."),
    "text": ({"score": """echo '{"score": "1"}'"""}, 0, "the last line of standard output must be..."),
    "no-score": ({"score": """echo '{"value": 1}'"""}, 0, "the last line of standard output must be..."),
    "deep": ({"score": "head -c 100000 /dev/zero | tr '\\0' '['"}, 0, "the last line of standard output must be..."),
    "score-fails": ({"score": "echo 1; exit 2"}, 0, "exit code 2, expected 0\n1"),
    "score-timeout": ({"score": "echo 1; sleep 1000", "timeout": 0.6}, 0, "timed out after 0.6 s\n1"),
    "use": ({"use": "words", "with": {"path": "a.md"}}, 0.5, "2 words"),
    "use-raises": ({"use": "raises"}, 0, "the check 'raises' raised ValueError: no idea"),
    "use-exits": ({"use": "exits"}, 0, "the check 'exits' raised SystemExit: 3"),
    "use-nonsense": ({"use": "nonsense"}, 0, "the check 'nonsense' must give a CheckResult..."),
    "use-out-of-range": ({"use": "out-of-range"}, 0, "the check 'out-of-range' must give a CheckResult..."),
    "use-ill-typed": ({"use": "ill-typed"}, 0, "the check 'ill-typed' must give a CheckResult..."),
    "use-hangs": ({"use": "hangs", "timeout": 0.2}, 0, "timed out after 0.2 s"),
    "use-stray-bytes": ({"use": "stray-bytes"}, 1, "caf\\udce9"),
}
USES = """
import os, subprocess, sys, time
from pytest_metaharness import CheckResult

def pytest_metaharness_check(check, workspace):
    if check.use == "words":
        words = len((workspace / check.with_["path"]).read_text().split())
        return CheckResult(value=0.5, feedback=f"{words} words", metrics={"words": words})
    if check.use == "raises":
        raise ValueError("no idea")
    if check.use == "exits":
        sys.exit(3)
    if check.use == "nonsense":
        return True
    if check.use == "out-of-range":
        return CheckResult(value=2.0)
    if check.use == "ill-typed":
        return CheckResult(value=1.0, metrics=None)
    if check.use == "hangs":
        subprocess.Popen(["sleep", "MARK"], start_new_session=True)
        time.sleep(1000)
    if check.use == "stray-bytes":
        return CheckResult(value=1.0, feedback=os.fsdecode(b"caf\\xe9"))
"""


def test_every_kind_of_check_says_what_is_wrong(pytester: pytest.Pytester, sandbox_mode: str) -> None:
    mark = make_mark()
    checks = {name: check for name, (check, _, _) in KINDS.items()}
    target = write_files(
        pytester.mkdir("kinds"),
        {
            "metaharness.yaml": json.dumps({"goal": "Measure.", "checks": checks}),
            "conftest.py": USES.replace("MARK", mark),
            "baseline/a.md": "one\ntwo\n",
            "baseline/docs/b.md": "one\n",
            "baseline/aaa": "a" * 50,
        },
    )
    (target / "baseline" / "link.md").symlink_to("a.md")
    (target / "baseline" / "bytes").write_bytes(b"\xff\x00one\xfe")
    session = run_session(pytester, f"--metaharness-sandbox={sandbox_mode}")
    session.result.assert_outcomes(passed=1)
    assert session.values() == {name: value for name, (_, value, _) in KINDS.items()}
    for name, said in session.feedback().items():
        expected = KINDS[name][2]
        assert said.startswith(expected[:-3]) if expected.endswith("...") else said == expected, name
    assert list(session.values()) == list(KINDS), "in declared order"
    metrics = {check["id"]: check["metrics"] for check in session.candidate(0)["checks"] if check["metrics"]}
    assert metrics == {"object": {"lines": 7}, "huge-metric": {"b": 2}, "use": {"words": 2}}
    assert session.feedback()["run-floods"].endswith("xxx\nend")
    assert len(session.feedback()["run-floods"]) < 3000
    assert (session.trial / "c0000" / "check-run-floods.log").stat().st_size < 300_000
    assert (session.trial / "c0000" / "check-run-fails.log").read_text() == "out\nerr\n"
    assert not find_processes(mark)


def test_a_required_check_decides_whether_a_candidate_is_valid(pytester: pytest.Pytester) -> None:
    write_files(
        pytester.mkdir("target"),
        {
            "metaharness.yaml": """
                goal: Be valid, then good.
                checks:
                  valid: {contains: {path: a.md, all: [valid]}, required: true}
                  good: {contains: {path: a.md, all: [good]}}
            """,
            "fake.yaml": """
                proposals:
                  - files: {a.md: valid}
                  - files: {a.md: good}
                  - files: {a.md: valid and good}
            """,
            "baseline/a.md": "nothing",
        },
    )
    session = run_session(pytester, "--metaharness=fake", "--metaharness-budget=5")
    session.result.assert_outcomes(passed=1)
    assert [(one["outcome"], one["objective"], one["reason"]) for one in session.run["candidates"]] == [
        ("baseline", None, "required checks miss: valid"),
        ("keep", 0.5, "invalid -> 0.500"),
        ("invalid", None, "required checks miss: valid"),
        ("keep", 1.0, "0.500 -> 1.000"),
    ]
    assert session.values(2) == {"valid": 0, "good": 1}
    assert (session.run["baseline"], session.run["gain"]) == (None, None)


def test_an_unknown_check_is_named_without_a_traceback(pytester: pytest.Pytester) -> None:
    target = {"goal": "Measure.", "checks": {"length": {"use": "shrot"}}}
    write_files(pytester.path, {"metaharness.yaml": json.dumps(target), "baseline/a.md": "a"})
    session = run_session(pytester)
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    assert "checks.length: nobody answers for use: shrot (implement pytest_metaharness_check)" in session.output
    assert "Traceback" not in session.output
    assert "checks.py" not in session.output
    assert session.run["status"] == "failed"


def test_a_check_may_call_pytest_fail(pytester: pytest.Pytester) -> None:
    write_files(
        pytester.path,
        {
            "metaharness.yaml": json.dumps({"goal": "Measure.", "checks": {"a": {"use": "a"}, "b": {"run": "true"}}}),
            "conftest.py": "import pytest\ndef pytest_metaharness_check(check): pytest.fail('too long')",
            "baseline/a.md": "a",
        },
    )
    session = run_session(pytester)
    session.result.assert_outcomes(passed=1)
    assert session.values() == {"a": 0, "b": 1}
    assert "too long" in session.feedback()["a"]
