"""What a backend is told and what a candidate leaves: the brief, the history, the logs, the patch."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from sessions import Session, run_session, write_files

from pytest_metaharness.core.store.snapshot import Snapshot, match_transient, scan_folder

TARGET = r"""
goal: |
  Make the words good.
  Second line of the goal.
constraints: [Keep it short., "No | pipes."]
editable: [words, scripts/]
required: [words]
sealed: evaluation
budget: 12
checks:
  length: {score: python -Ic "print(len(open('words').read()) / 100)", weight: 3}
  has-words: {contains: {path: words, none: [bad]}}
  names-reset: {contains: {path: words, all: ["git reset --hard"]}, required: false}
  validates: {run: bash scripts/validate.sh, timeout: 5}
  by-ruler: {score: python -I measure/score.py}
  by-candidate: {run: bash scripts/all.sh}
  by-hook: {use: spelling}
"""
RULER = """\
# the ruler
wanted = "a very secret answer"
print(0.5 if open("words").read() != wanted else 1)
"""
PROVIDER = """
import shutil
from pytest_metaharness import CheckResult, Proposal

LENGTHS = [10, 20, 30, 40, 50, 5, 6, 7, 8, 9, 9, 4]

def pytest_metaharness_check(check):
    return CheckResult(value=0.0, feedback="'wrods' should be 'words'")

def pytest_metaharness_propose(request):
    number = int(request.candidate[1:])
    given = request.workspace / ".metaharness"
    shutil.copytree(given, request.log_dir / "given")
    assert request.prompt == (request.log_dir / "prompt.md").read_text()
    (given / "BRIEF.md").write_text("changed by the backend")
    (given / "history" / "more").write_text("more")
    if number == 11:
        return Proposal(status="completed", reason="nothing | to do")
    request.run(["bash", "-c", f"echo thoughts of {number}; echo errors of {number} >&2"])
    (request.workspace / "words").write_text("x" * LENGTHS[number - 1])
    return Proposal(status="completed", summary=f"summary of {number}")
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A search of twelve proposals on a machine with a tool that is broken."""
    broken = write_files(pytester.path, {"bin/node": "#!/no/such/interpreter\n"}) / "bin"
    (broken / "node").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    write_files(
        pytester.mkdir("words"),
        {
            "metaharness.yaml": TARGET,
            "conftest.py": PROVIDER,
            "evaluation/measure/score.py": RULER,
            "baseline/words": "bad",
            "baseline/scripts/validate.sh": "echo 'words is too short'; exit 1",
            "baseline/scripts/all.sh": "cat me*/*; exit 1",
        },
    )
    session = run_session(pytester, "--metaharness=mine")
    session.result.assert_outcomes(passed=1)
    return session


def test_the_brief_and_the_history_tell_what_helps_and_no_more(session: Session) -> None:
    first = (session.trial / "c0001" / "given" / "BRIEF.md").read_text()
    assert first == (session.trial / "c0001" / "brief.md").read_text()
    for part in (
        "# Improve the harness of words",
        "Make the words good.\nSecond line of the goal.",
        "- Keep it short.\n- No | pipes.",
        "- `words`\n- `scripts/`",
        "These files must exist: `words`.",
        "objective 0.066 of 1.000 (c0000)",
        "- FAILS: length: value 0.03 of 1 (weight 3)\n  command: python -Ic",
        "- FAILS: has-words: value 0 of 1 (weight 1)\n  feedback:\n    words must not have 'bad'",
        "- FAILS: names-reset: value 0 of 1 (weight 1)\n  feedback:\n    words lacks 'git reset --hard'",
        "  command: bash scripts/validate.sh\n  feedback:\n    exit code 1, expected 0\n    words is too short",
        "- FAILS: by-ruler: value 0.5 of 1 (weight 1)\n  command: python -I measure/score.py\n",
        "- FAILS: by-candidate: value 0 of 1 (weight 1)\n  command: bash scripts/all.sh\n",
        "'wrods' should be 'words'",
        "- operating system: Linux",
        "- git: git version",
        "- python: Python 3",
        "- node: cannot be started",
    ):
        assert part in first, part
    last = session.trial / "c0012" / "given"
    text = (last / "BRIEF.md").read_text()
    assert "(c0005)" in text, "the parent is the best candidate"
    assert "- passed: has-words (weight 1)" in text
    assert len((session.trial / "c0001" / "prompt.md").read_text()) < 1000
    assert ".metaharness/BRIEF.md" in (session.trial / "c0001" / "prompt.md").read_text()

    index = (last / "history" / "index.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[0] for line in index] == [f"| c{number:04}" for number in range(12)]
    assert index[1].startswith("| c0001 | c0000 | keep | 0.")
    assert index[6].startswith("| c0006 | c0005 | discard | 0.")
    assert index[11] == r"| c0011 | c0005 | no-change |  | nothing \| to do |"
    shown = sorted(path.name for path in (last / "history").iterdir() if path.is_dir())
    best, latest = range(1, 6), range(7, 12)
    assert shown == [f"c{number:04}" for number in (*best, *latest)]
    for number in (*best, *latest):
        folder = last / "history" / f"c{number:04}"
        assert (folder / "scores.md").read_text().startswith(f"c{number:04}: ")
        if number != 11:
            assert f"+{'x' * 4}" in (folder / "patch").read_text()
            assert (folder / "log").read_text() == f"thoughts of {number}\n"
    assert "FAILS: length: value 0.5 of 1" in (last / "history" / "c0005" / "scores.md").read_text()

    told = [file for number in range(1, 13) for file in (session.trial / f"c{number:04}" / "given").rglob("*")]
    leaks = [file for file in told if file.is_file() and "secret answer" in file.read_text()]
    assert leaks == [], "sealed files are quoted"


def test_a_candidate_leaves_its_brief_its_logs_and_its_patch(session: Session) -> None:
    for number in (1, 6):
        folder = session.trial / f"c{number:04}"
        left = {file.name for file in folder.iterdir()} - {"given"}
        assert left == {
            "brief.md", "prompt.md", "stdout", "stderr", "patch", "check-length.log", "check-validates.log",
            "check-by-ruler.log", "check-by-candidate.log",
        }  # fmt: skip
        assert (folder / "stdout").read_text() == f"thoughts of {number}\n"
        assert (folder / "stderr").read_text() == f"errors of {number}\n"
        assert (folder / "check-validates.log").read_text() == "words is too short\n"
    assert [one["changed_files"] for one in session.run["candidates"][1:3]] == [["words"], ["words"]]
    tree = git(session, "ls-tree", "-r", "--name-only", f"{session.trial.name}/c0012")
    assert tree.split() == ["scripts/all.sh", "scripts/validate.sh", "words"], "no .metaharness"
    log = git(session, "log", "--format=%s|%b", f"{session.trial.name}/best")
    assert log.splitlines()[0] == "words c0005|summary of 5"


def test_an_invalid_baseline_is_explained(pytester: pytest.Pytester) -> None:
    write_files(
        pytester.path,
        {
            "metaharness.yaml": """
                goal: Have the file.
                required: [a.md]
                checks: {one: {run: "true", required: true}}
            """,
            "fake.yaml": "proposals: [{files: {b.md: b}}, {files: {a.md: a}}]",
            "baseline/c.md": "c",
        },
    )
    session = run_session(pytester, "--metaharness=fake", "--metaharness-budget=2")
    brief = (session.trial / "c0001" / "brief.md").read_text()
    assert "## Where it stands: invalid (c0000)\n\nInvalid: required files are missing: a.md\n" in brief
    assert "- not measured: one (weight 1, required)" in brief
    outcomes = [(candidate["outcome"], candidate["reason"]) for candidate in session.run["candidates"]]
    assert outcomes == [
        ("baseline", "required files are missing: a.md"),
        ("invalid", "required files are missing: a.md"),
        ("keep", "invalid -> 1.000"),
    ]
    assert session.run["changed_files"] == ["a.md"], "the second proposal starts from the baseline again"


CHANGES_ALL_KINDS = """
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    workspace = request.workspace
    if request.candidate == "c0001":
        (workspace / "added dir").mkdir()
        (workspace / "added dir" / "caf\u00e9 \\"quoted\\".txt").write_text("x\\r\\n")
        (workspace / "score").write_text("0.4")
        (workspace / "only-in-first").write_text("gone again in the second")
    else:
        (workspace / "only-in-first").unlink()
        (workspace / "score").write_text("0.8")
        (workspace / "run.sh").chmod(0o755)
        (workspace / "binary").write_bytes(bytes(range(256)))
        (workspace / "old-name").rename(workspace / "new-name")
        (workspace / "folder" / "inner").unlink()
        (workspace / "folder").rmdir()
        (workspace / "folder").symlink_to("new-name")
        (workspace / "no-newline").write_text("one\\ntwo")
        (workspace / ".venv").mkdir()
        (workspace / ".venv" / "left").write_text("left")
    return Proposal(status="completed")
"""


def test_the_best_patch_makes_the_best_candidate_of_the_baseline(pytester: pytest.Pytester) -> None:
    target = write_files(
        pytester.mkdir("target"),
        {
            "metaharness.yaml": "{goal: Rise., budget: 2, checks: {score: {score: cat score}}}",
            "conftest.py": CHANGES_ALL_KINDS,
            "baseline/score": "0",
            "baseline/run.sh": "#!/bin/sh\n",
            "baseline/old-name": "content " * 20,
            "baseline/folder/inner": "inner",
            "baseline/no-newline": "one\ntwo\n",
            "baseline/.gitignore": "*\n",
            "baseline/.gitattributes": "* text eol=crlf\n",
        },
    )
    session = run_session(pytester, "--metaharness=mine")
    session.result.assert_outcomes(passed=1)
    patch = pytester.path / session.run["patch"]
    assert patch == session.trial / "best.patch"
    copy = target / "baseline"  # in place, as a user would
    subprocess.run(["git", "apply", "--whitespace=nowarn", str(patch)], cwd=copy, check=True)
    best = pytester.mkdir("best")
    archive = ["git", "--git-dir", str(session.folder / "store.git"), "archive", f"{session.trial.name}/best"]
    tar = subprocess.run(archive, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], input=tar, cwd=best, check=True)
    assert scan(copy) == scan(best)
    assert (copy / "score").read_text() == "0.8"
    assert session.run["changed_files"] == [
        'added dir/caf\u00e9 "quoted".txt', "binary", "folder", "folder/inner", "new-name", "no-newline", "old-name",
        "run.sh", "score",
    ]  # fmt: skip


GROWS_MUCH = """
from pathlib import Path
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    for patch in (request.workspace / ".metaharness/history").glob("*/patch"):
        (request.log_dir / f"{patch.parent.name}-patch").write_bytes(patch.read_bytes())
    (request.workspace / "score").write_text("".join(f"line {number}\\n" for number in range(30_000)))
    return Proposal(status="completed")
"""


def test_the_history_has_the_beginning_of_a_large_patch(pytester: pytest.Pytester) -> None:
    write_files(
        pytester.mkdir("target"),
        {
            "metaharness.yaml": "{goal: Rise., budget: 2, checks: {starts: {run: grep -q nothing score}}}",
            "conftest.py": GROWS_MUCH,
            "baseline/score": "0",
        },
    )
    session = run_session(pytester, "--metaharness=mine")
    whole = (session.trial / "c0001" / "patch").read_bytes()
    told = (session.trial / "c0002" / "c0001-patch").read_bytes()
    assert len(whole) > 300_000
    assert told == whole[:200_000] + b"\n[%d more bytes are left out]\n" % (len(whole) - 200_000)


def scan(folder: Path) -> Snapshot:
    return scan_folder(folder, is_transient=match_transient()).snapshot


def git(session: Session, *arguments: str) -> str:
    command = ["git", "--git-dir", str(session.folder / "store.git"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
