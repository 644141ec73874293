"""The keys of checks, limits and gates beyond the kinds, and the reuse of evaluations."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest
from sessions import run_session, write_files

PROVIDER = """
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    if request.backend.provider != "mine":
        return None
    edit(request.workspace, request.candidate)
    return Proposal(status="completed")
"""


def test_fresh_repeat_and_env(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, sandbox_mode: str) -> None:
    monkeypatch.setenv("GREETING", "hello you there")
    monkeypatch.setenv("OTHER", "not passed")
    write_files(
        pytester.path / "keys",
        {
            "baseline/a.txt": "a",
            "metaharness.yaml": """
goal: x
checks:
  makes: {run: "touch made", weight: 1}
  sees: {run: "test -e made", weight: 1}
  fresh: {run: "test ! -e made", fresh: true}
  counts: {score: "echo x >> count; echo 0.$(wc -l < count)", repeat: 3}
  passed: {run: 'test "$GREETING" = "hello you there" && test -z "$OTHER"', env: [GREETING, UNSET]}
  prints: {run: 'echo "it is $GREETING"; exit 1', env: [GREETING]}
""",
        },
    )
    session = run_session(pytester, f"--metaharness-sandbox={sandbox_mode}", "keys")
    assert session.values() == pytest.approx(
        {"makes": 1, "sees": 1, "fresh": 1, "counts": 0.2, "passed": 1, "prints": 0}
    )
    assert session.feedback()["prints"] == "exit code 1, expected 0\nit is ***"
    assert "hello you" not in session.output


def test_network_is_there_only_where_it_is_asked_for(pytester: pytest.Pytester, bwrap: None) -> None:
    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ask = f"python -c \"import urllib.request as r; r.urlopen('http://127.0.0.1:{server.server_port}', timeout=5)\""
        checks = f"  without: {{run: {ask!r}}}\n  with: {{run: {ask!r}, network: true}}\n".replace("\\'", "''")
        write_files(pytester.path / "net", {"baseline/a.txt": "a", "metaharness.yaml": f"goal: x\nchecks:\n{checks}"})
        session = run_session(pytester, "net")
        server.shutdown()
    assert session.values() == {"without": 0.0, "with": 1.0}


def test_feedback_decides_what_the_backend_learns(pytester: pytest.Pytester) -> None:
    command = 'run: "cat sealed.txt; exit 1"'
    write_files(
        pytester.path / "told",
        {
            "baseline/a.txt": "a",
            "evaluation/sealed.txt": "the secret of the author",
            "fake.yaml": "proposals: [{files: {b.txt: b}}]",
            "metaharness.yaml": f"""
goal: x
sealed: evaluation
checks:
  default: {{{command}}}
  full: {{{command}, feedback: full}}
  none: {{{command}, feedback: none}}
  verdict: {{run: "echo of the candidate alone; exit 1", feedback: verdict}}
""",
        },
    )
    session = run_session(pytester, "--metaharness=fake", "told")
    brief = (session.trial / "c0001" / "brief.md").read_text()
    before, _, after = brief.partition("- FAILS: full: value 0 of 1")
    assert "the secret of the author" not in before
    assert "the secret of the author" in after
    assert "- FAILS: verdict: value 0 of 1" in after
    assert "of the candidate alone\n" not in after.replace("command: echo of the candidate alone; exit 1", "")
    assert "none" not in {line.split(":")[1].strip() for line in brief.splitlines() if line.startswith("- FAILS")}
    assert all("the secret" in text for name, text in session.feedback().items() if name != "verdict")


def test_limits(pytester: pytest.Pytester) -> None:
    write_files(
        pytester.path / "limited",
        {
            "baseline/a.txt": "a",
            "conftest.py": PROVIDER
            + """
def edit(workspace, candidate):
    if candidate == "c0001":
        with (workspace / "sparse").open("wb") as file:
            file.truncate(3_000_000_000)
    elif candidate == "c0002":
        for number in range(3):
            (workspace / f"part{number}").write_bytes(bytes(900_000))
    elif candidate == "c0003":
        for number in range(30):
            (workspace / str(number)).touch()
    else:
        (workspace / "a.txt").write_text("better")
""",
            "metaharness.yaml": """
goal: x
budget: 4
limits: {file_mb: 1, total_mb: 2, files: 20}
checks: {a: {contains: {path: a.txt, all: [better]}}}
""",
        },
    )
    run = run_session(pytester, "--metaharness=mine", "limited").run
    assert [(one["outcome"], one["reason"]) for one in run["candidates"][1:]] == [
        ("invalid", "sparse has 3000 MB, more than the 1 allowed (limits.file_mb)"),
        ("invalid", "its files have more than 2 MB together (limits.total_mb)"),
        ("invalid", "it has more than 20 files (limits.files)"),
        ("keep", "0.000 -> 1.000"),
    ]


def test_a_large_baseline_is_its_own_limit_unless_one_is_set(pytester: pytest.Pytester) -> None:
    folder = write_files(
        pytester.path / "large",
        {
            "baseline/a.txt": "a",
            "fake.yaml": "proposals: [{files: {a.txt: better}}]",
            "metaharness.yaml": "goal: x\nchecks: {a: {contains: {path: a.txt, all: [better]}}}\n",
        },
    )
    with (folder / "baseline" / "big").open("wb") as file:
        file.truncate(60_000_000)
    session = run_session(pytester, "--metaharness=fake", "large")
    session.result.assert_outcomes(passed=1)
    text = (folder / "metaharness.yaml").read_text()
    (folder / "metaharness.yaml").write_text(text + "limits: {file_mb: 50}\n")
    result = pytester.runpytest_subprocess("large")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the baseline of large: big has 60 MB, more than the 50 allowed (limits.file_mb)"])


def test_checks_of_the_gate_have_value_1_in_the_best(pytester: pytest.Pytester) -> None:
    write_files(
        pytester.path / "gated",
        {
            "baseline/a.txt": "a",
            "fake.yaml": "proposals: [{files: {a.txt: better}}]",
            "metaharness.yaml": """
goal: x
checks: {good: {contains: {path: a.txt, all: [better]}}, unit: {score: "echo 0.75"}}
gate: {checks: [good, unit]}
""",
        },
    )
    session = run_session(pytester, "--metaharness=fake", "gated")
    session.result.assert_outcomes(failed=1)
    assert session.run["gate"] == {
        "passed": False,
        "failures": ["check unit has 0.750 < 1 in the best candidate"],
    }
    pytester.runpytest_subprocess("gated").assert_outcomes(passed=1)


@pytest.mark.parametrize("args", [(), ("-n4",)], ids=["serial", "xdist"])
def test_equal_files_are_measured_once_in_a_session(
    pytester: pytest.Pytester, tmp_path: Path, args: tuple[str, ...]
) -> None:
    count = tmp_path / "count"
    count.touch(mode=0o666)
    write_files(
        pytester.path / "same",
        {
            "baseline/a.txt": "a",
            "fake.yaml": "proposals: [{files: {a.txt: better}}]",
            "metaharness.yaml": f"""
goal: x
checks:
  counted: {{run: "echo $(cat a.txt) shared >> {count}; grep better a.txt"}}
  own: {{run: "echo $(cat a.txt) fresh >> {count}", fresh: true}}
  anew: {{run: "echo $(cat a.txt) volatile >> {count}", fresh: true, volatile: true}}
""",
        },
    )
    trials = ("--metaharness=fake", "--metaharness-trials=8", "--metaharness-sandbox=off")
    session = run_session(pytester, *trials, *args, "same")
    session.result.assert_outcomes(passed=8)
    lines = count.read_text().splitlines()
    assert {line: lines.count(line) for line in lines} == {
        "a shared": 1,
        "better shared": 1,
        "a fresh": 1,
        "better fresh": 1,
        "a volatile": 8,
        "better volatile": 8,
    }
    reused = [check["reused"] for run in session.runs for one in run["candidates"] for check in one["checks"]]
    assert (reused.count(False), reused.count(True)) == (4 + 16, 28)
    assert {run["best"] for run in session.runs} == {1.0}


def test_a_volatile_check_has_those_that_share_its_checkout_measured_anew(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    write_files(
        pytester.path / "same",
        {
            "baseline/a.txt": "a",
            "metaharness.yaml": f"""
goal: x
checks:
  makes: {{run: "touch made; echo made >> {count}"}}
  needs: {{run: "test -e made", volatile: true}}
""",
        },
    )
    for name in ("one", "two"):
        (pytester.path / "same" / f"{name}.metaharness.yaml").write_text(
            (pytester.path / "same" / "metaharness.yaml").read_text()
        )
    session = run_session(pytester, "--metaharness-sandbox=off", "same")
    session.result.assert_outcomes(passed=3)
    assert count.read_text() == "made\n" * 3
    assert {run["baseline"] for run in session.runs} == {1.0}
