"""Faults of the session store: foreign from the start, or damaged in the middle of a search."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from faults import DONE, FAILED, FOUND, UNBEGUN, Ending, check_manners, read_statuses, write_case
from sessions import read_outcomes, run_session, serial_and_xdist


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    monkeypatch.setenv("TMPDIR", str(pytester.mkdir("tmp")))


# ------------------------------------------------------------------- a store that is damaged in the middle of a search


class Damage(NamedTuple):
    """What becomes of the store during the second proposal of the first target, and what of both targets."""

    code: str
    lines: tuple[str, ...]
    first: Ending = FAILED
    second: Ending = UNBEGUN


STRIKE = """
import shutil

def strike(request):
    run = request.log_dir.parent
    session = run.parent
    store = session / "store.git"
    {code}
    finish(request)
"""
DAMAGES = {
    "store is a file": Damage(
        "shutil.rmtree(store); store.touch()",
        ("*/store.git*: Not a directory*", "*/store.git is there, but is no session store"),
    ),
    "store is foreign": Damage(
        "shutil.rmtree(store); store.mkdir(); (store / 'notes').touch()",
        ("*/store.git*", "*/store.git is there, but is no session store"),
    ),
    "HEAD is missing": Damage(
        "(store / 'HEAD').unlink()", ("*/store.git*not a git repository*", "*/store.git is there, but is no session *")
    ),
    "objects are damaged": Damage(
        "[(file.chmod(0o644), file.write_bytes(b'x' * 50)) for file in store.glob('objects/??/*')]",
        ("*/store.git*", "*/store.git*"),
        second=("failed", ["baseline"]),
    ),
    "all is gone": Damage("shutil.rmtree(session.parent)", ("*/.metaharness/tested/*: No such file *",), second=DONE),
    "reuse is damaged": Damage(
        "[file.write_bytes(b'{') for file in session.glob('evaluations/*.json')]", (), first=DONE, second=DONE
    ),
    "record is damaged": Damage("(run / 'run.json').write_text('{')", (), first=DONE, second=DONE),
    "record is a folder": Damage(
        "(run / 'run.json').unlink(); (run / 'run.json').mkdir()",
        ("sessions cannot be stored: */run.json: Is a directory*", "*/run.json: the record cannot be read: *"),
        first=("failed", [*FOUND, "keep"]),
        second=DONE,
    ),
    "journal has garbage": Damage(
        "(run / 'journal.jsonl').open('ab').write(b'[]\\n{\\xff\\n{\"event\": \"candidate\"}\\n{}\\n')",
        (),
        first=DONE,
        second=DONE,
    ),
    "session.json is damaged": Damage("(session / 'session.json').write_text('[1')", (), first=DONE, second=DONE),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_store_that_is_damaged_in_the_middle(pytester: pytest.Pytester, name: str) -> None:
    damage = DAMAGES[name]
    write_case(pytester.path, more=STRIKE.format(code=damage.code), first="strike", second="finish")
    session = run_session(pytester, "--metaharness=mine")
    assert read_statuses(session.runs) == {"first": damage.first, "second": damage.second}
    if damage.lines:
        check_manners(session, damage.lines)
    else:  # nothing was lost
        assert session.result.ret == pytest.ExitCode.OK
    assert json.loads((session.folder / "session.json").read_text())["status"] == "completed"
    for run in session.runs:
        assert all(candidate["duration_s"] >= 0 for candidate in run["candidates"])


RECORDS = {
    "damaged": ("write_text('{\"schema\": 1')", "*/run.json: the record cannot be read: Input data was truncated"),
    "no record": ("write_text('[]')", "*/run.json: the record cannot be read: Expected `object`, got `array`"),
    "no text": ("write_bytes(b'{\"\\xff\": 1}')", "*/run.json: the record cannot be read: *"),
    "of another version": (
        "write_text('{\"schema\": 2}')",
        "*/run.json: the record cannot be read: it has schema 2 instead of 1",
    ),
    "gone": ("unlink()", "*/run.json: the record cannot be read: *No such file or directory*"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_cannot_be_read_is_put_together_from_the_journal(pytester: pytest.Pytester, name: str) -> None:
    code, line = RECORDS[name]
    noise = r"(run / 'journal.jsonl').open('ab').write(b'\n{\n\xff\n[]\n{}\n{\"event\": \"best\"}\n{\"event\": \"cand')"
    kill = f"{noise}; (run / 'run.json').{code}; os.kill(os.getpid(), signal.SIGKILL)"
    write_case(pytester.path, more=STRIKE.format(code=kill), first="strike", second="finish")
    session = run_session(pytester, "--metaharness=mine:m-1", "-n2")
    check_manners(session, ["*crashed while running 'first/metaharness.yaml::mine:m-1'", line])
    first, second = session.runs
    assert read_statuses([second]) == {"second": DONE}
    assert first["status"] == "lost"
    assert first["reason"] == "its record was damaged after c0001 was finished"
    assert read_outcomes(first) == FOUND
    asked = {name: first[name] for name in ("target", "backend", "provider", "model", "trial", "budget")}
    assert asked == {
        "target": "first",
        "backend": "mine:m-1",
        "provider": "mine",
        "model": "m-1",
        "trial": 1,
        "budget": 3,
    }
    assert (first["best"], first["changed_files"]) == (0.5, ["a.txt"])
    assert Path(pytester.path, first["directory"]).is_dir()


# ------------------------------------------------------------------------------------ a store that cannot be begun


@serial_and_xdist
@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("touch .metaharness", "*/.metaharness/tested: Not a directory"),
        ("ln -s /nonexistent/folder .metaharness", "*/.metaharness: File exists"),
        ("mkdir -p .metaharness/.gitignore", "*"),
    ],
    ids=["a file", "a link to nowhere", "a folder"],
)
def test_a_foreign_store(pytester: pytest.Pytester, command: str, line: str, workers: tuple[str, ...]) -> None:
    write_case(pytester.path, first="finish", second="finish")
    subprocess.run(command, shell=True, cwd=pytester.path, check=True)
    session = run_session(pytester, "--metaharness=mine", *workers)
    if line == "*":  # something of that name is there, and that is all that matters
        session.result.assert_outcomes(passed=2)
        return
    check_manners(session, [f"sessions cannot be stored: {line}; another place can be given with --metaharness-dir"])
    session.result.assert_outcomes(failed=2)
