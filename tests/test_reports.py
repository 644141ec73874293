"""The report: its fields and their meaning, its files, the summary, JUnit, and the hook that may change it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sessions import Run, make_target, read_junit, read_table, run_session

from pytest_metaharness.schemas.__main__ import FOLDER, build_schemas

TARGET = """\
goal: Write the facts.
required: [a.txt]
budget: 4
checks:
  one: {contains: {path: a.txt, all: [one]}}
  two: {contains: {path: a.txt, all: [two]}, weight: 0.1}
  three: {score: "cat score.txt || echo 0.3", weight: 0.2}
"""
PROVIDER = """\
from pytest_metaharness import Proposal, Tokens

def pytest_metaharness_propose(request):
    if request.backend.provider != "mine":
        return None
    w = request.workspace
    if request.candidate == "c0001":
        (w / "a.txt").write_text("one")
        (w / "b c.txt").write_text("")
        return Proposal(
            status="completed", tokens=Tokens(input=1000, cached=600, output=70), cost_usd=0.1, tool_calls=3
        )
    if request.candidate == "c0002":
        (w / "a.txt").unlink()
        return Proposal(status="completed", tokens=Tokens(input=1, output=2), cost_usd=0.2)
    if request.candidate == "c0003":
        return Proposal(status="crash")
    (w / "a.txt").write_text("one two")
    (w / "score.txt").write_text("0.1")
    return Proposal(status="completed")
"""
FAKE = "[{files: {a.txt: one}}, {files: {a.txt: one two}}]"


def test_every_field_of_the_report(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="zero")
    pytester.makeconftest(PROVIDER)
    session = run_session(pytester, "--metaharness=mine:m-1", "--junitxml=junit.xml", "facts")
    session.result.assert_outcomes(passed=1)
    report = session.report
    assert list(report) == ["schema", "session", "started", "duration_s", "environment", "runs"]
    assert (report["schema"], report["session"]) == (1, "tested")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", report["started"])
    assert {"python", "platform", "pytest", "pytest-metaharness", "sandbox"} <= set(report["environment"])
    run = dict(session.run)
    candidates = run.pop("candidates")
    assert 0 < sum(candidate["duration_s"] for candidate in candidates) < run["duration_s"] < report["duration_s"]
    del run["duration_s"]
    directory = run["directory"]
    assert directory.startswith(".metaharness/tested/facts-mine-m-1-")
    weights = 1 + 0.1 + 0.2
    assert run.pop("baseline") == pytest.approx(0.3 * 0.2 / weights)
    assert run.pop("best") == pytest.approx((1 + 0.1 + 0.2 * 0.1) / weights)
    assert run.pop("gain") == pytest.approx((1 + 0.1 + 0.2 * 0.1 - 0.2 * 0.3) / weights)
    assert run == {
        "nodeid": "facts/metaharness.yaml::mine:m-1",
        "target": "facts",
        "backend": "mine:m-1",
        "provider": "mine",
        "model": "m-1",
        "trial": 1,
        "budget": 4,
        "status": "completed",
        "reason": "",
        "improved": True,
        "best_candidate": "c0004",
        "gate": {"passed": True, "failures": []},
        "proposals": 4,
        "cost_usd": 0.1 + 0.2,
        "tokens": {"input": 1001, "cached": 600, "output": 72},
        "changed_files": ["a.txt", "b c.txt", "score.txt"],
        "outcomes": {"crash": 1, "invalid": 1, "keep": 2},
        "settings": {
            "budget": {"value": 4, "from": "metaharness.yaml"},
            "timeout": {"value": 600.0, "from": "default"},
            "retries": {"value": 2, "from": "default"},
            "trials": {"value": 1, "from": "default"},
            "sandbox": {"value": "auto", "from": "default"},
        },
        "directory": directory,
        "patch": f"{directory}/best.patch",
    }
    assert (pytester.path / directory / "run.json").is_file()
    assert (pytester.path / directory / "best.patch").read_text().count("diff --git") == 3
    _check_candidates(candidates)
    _check_tables(session.folder, session.run)
    (case,) = read_junit(pytester.path / "junit.xml").values()
    properties = {each.attrib["name"]: float(each.attrib["value"]) for each in case.iter("property")}
    assert properties == {f"metaharness.{name}": session.run[name] for name in ("baseline", "best", "gain", "cost_usd")}


def _check_candidates(candidates: list[dict[str, Any]]) -> None:
    assert [(each["id"], each["parent"], each["outcome"]) for each in candidates] == [
        ("c0000", None, "baseline"),
        ("c0001", "c0000", "keep"),
        ("c0002", "c0001", "invalid"),
        ("c0003", "c0001", "crash"),
        ("c0004", "c0001", "keep"),
    ]
    assert [each["objective"] is None for each in candidates] == [False, False, True, True, False]
    assert [bool(each["reason"]) for each in candidates] == [False, True, True, True, True]
    assert [each["changed_files"] for each in candidates] == [
        [],
        ["a.txt", "b c.txt"],
        ["a.txt"],
        [],
        ["a.txt", "score.txt"],
    ]
    assert [each["cost_usd"] for each in candidates] == [None, 0.1, 0.2, None, None]
    assert [each["tool_calls"] for each in candidates] == [None, 3, None, None, None]
    assert [each["tokens"] for each in candidates[:3]] == [
        None,
        {"input": 1000, "cached": 600, "output": 70},
        {"input": 1, "cached": 0, "output": 2},
    ]
    assert [len(each["checks"]) for each in candidates] == [3, 3, 0, 0, 3]
    for check in candidates[4]["checks"]:
        assert check.pop("duration_s") >= 0
    assert candidates[4]["checks"] == [
        {"id": "one", "value": 1.0, "weight": 1.0, "feedback": "", "metrics": {}, "reused": False},
        {"id": "two", "value": 1.0, "weight": 0.1, "feedback": "", "metrics": {}, "reused": False},
        {"id": "three", "value": 0.1, "weight": 0.2, "feedback": "", "metrics": {}, "reused": False},
    ]
    assert candidates[0]["checks"][0]["feedback"] == "a.txt lacks 'one'"


def _check_tables(folder: Path, run: Run) -> None:
    heading = (folder / "report.tsv").read_text().partition("\n")[0]
    assert heading.replace("\t", " ") == (
        "nodeid target backend provider model trial budget status baseline best gain improved gate best_candidate "
        "proposals duration_s cost_usd tokens_input tokens_cached tokens_output changed_files reason"
    )
    (row,) = read_table(folder / "report.tsv")
    for name in ("baseline", "best", "gain", "duration_s", "cost_usd", "trial", "budget", "proposals"):
        assert float(row.pop(name)) == run[name]
    assert row == {
        "nodeid": "facts/metaharness.yaml::mine:m-1",
        "target": "facts",
        "backend": "mine:m-1",
        "provider": "mine",
        "model": "m-1",
        "status": "completed",
        "improved": "true",
        "gate": "passed",
        "best_candidate": "c0004",
        "tokens_input": "1001",
        "tokens_cached": "600",
        "tokens_output": "72",
        "changed_files": "a.txt,b c.txt,score.txt",
        "reason": "",
    }
    heading = (folder / "ledger.tsv").read_text().partition("\n")[0]
    assert heading.replace("\t", " ") == (
        "nodeid candidate parent outcome reason objective duration_s cost_usd tokens_input tokens_output tool_calls "
        "changed_files"
    )
    rows = read_table(folder / "ledger.tsv")
    for row, candidate in zip(rows, run["candidates"], strict=True):
        for name in ("objective", "duration_s", "cost_usd", "tool_calls"):
            assert (float(row[name]) if row[name] else None) == candidate[name]
        assert (row["candidate"], row["parent"]) == (candidate["id"], candidate["parent"] or "")
        assert (row["outcome"], row["reason"]) == (candidate["outcome"], candidate["reason"])
        assert row["changed_files"] == ",".join(candidate["changed_files"])
    assert [(row["tokens_input"], row["tokens_output"]) for row in rows] == [
        ("", ""),
        ("1000", "70"),
        ("1", "2"),
        ("", ""),
        ("", ""),
    ]


def test_a_measured_baseline_in_the_report(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="one")
    make_target(pytester.path / "incomplete", TARGET, b_txt="")
    session = run_session(pytester, "--junitxml=junit.xml")
    session.result.assert_outcomes(passed=1, failed=1)
    facts, incomplete = session.runs
    assert facts["nodeid"] == "facts/metaharness.yaml::baseline"
    assert facts["best"] == facts["baseline"] == pytest.approx(1.06 / 1.3)
    assert (facts["gain"], facts["improved"], facts["best_candidate"]) == (0.0, False, "c0000")
    assert (facts["backend"], facts["provider"], facts["model"]) == ("baseline", None, None)
    assert (facts["budget"], facts["proposals"], facts["outcomes"], facts["patch"]) == (0, 0, {}, None)
    assert (incomplete["baseline"], incomplete["best"], incomplete["gain"]) == (None, None, None)
    assert incomplete["candidates"][0]["reason"] == "required files are missing: a.txt"
    rows = {row["target"]: row for row in read_table(session.folder / "report.tsv")}
    assert (rows["facts"]["provider"], rows["facts"]["cost_usd"], rows["facts"]["tokens_input"]) == ("", "", "")
    assert (rows["incomplete"]["baseline"], rows["incomplete"]["gain"], rows["incomplete"]["gate"]) == (
        "",
        "",
        "failed",
    )
    session.result.stdout.fnmatch_lines(
        ["incomplete/metaharness.yaml::baseline   invalid  invalid       -        0/0     -*"]
    )
    case = read_junit(pytester.path / "junit.xml")["incomplete.metaharness.yaml::baseline"]
    assert {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")} == {
        f"metaharness.{name}": "" for name in ("baseline", "best", "gain", "cost_usd")
    }


def test_nothing_that_a_terminal_obeys_leaves_us(pytester: pytest.Pytester) -> None:
    text = TARGET.replace(
        "one: {contains: {path: a.txt, all: [one]}}", r"one: {run: 'printf \"A\033[31m\tB\000C\"; false'}"
    )
    make_target(pytester.path / "facts", text.replace('\\"', '"') + "gate: {best: 1.0}\n", a_txt="zero")
    pytester.makeconftest(
        r"""
import os
from pytest_metaharness import Proposal

def pytest_metaharness_propose(request):
    if request.candidate == "c0001":
        for name in (b"tab\there", b"line\nbreak", b"esc\x1b[31mape", b"stray\xff", "caf\u00e9".encode()):
            with open(os.fsencode(request.workspace) + b"/" + name, "wb") as file:
                file.write(b"x")
        return Proposal(status="completed", summary="\x1b[31m" + os.fsdecode(b"\xff"))
    if request.candidate == "c0002":
        raise ValueError("red \x1b[31m\r\n\tand \x00 \x9b and \u202e")
    return Proposal(status="unavailable", reason=os.fsdecode(b"stray \xff"))
"""
    )
    args = ("--metaharness=mine", "--metaharness-retries=0", "--junitxml=junit.xml", "-rA", "-v")
    session = run_session(pytester, *args)
    session.result.assert_outcomes(failed=1)
    assert session.run["outcomes"] == {"crash": 1, "discard": 1, "unavailable": 2}
    assert session.candidate(1)["changed_files"] == sorted(
        ["caf\u00e9", r"esc\x1b[31mape", r"line\nbreak", r"stray\xff", r"tab\there"]
    )
    assert session.feedback()["one"].endswith("A\x1b[31m\tB\x00C")
    assert session.candidate(2)["reason"].startswith("ValueError: red")
    for file in (session.folder / "report.tsv", session.folder / "ledger.tsv"):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", file.read_bytes().decode("utf-8"))
        read_table(file)
    reason = read_table(session.folder / "ledger.tsv")[2]["reason"]
    assert reason == r"ValueError: red \x1b[31m\r\n\tand \x00 \x9b and \u202e"
    for printed in (*session.result.outlines, *session.result.errlines):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", printed)
    (case,) = read_junit(pytester.path / "junit.xml").values()
    (failure,) = case.iter("failure")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", (failure.text or "") + failure.attrib["message"])
    assert r"A\x1b[31m\tB\x00C" in (failure.text or "")


def test_workers_give_the_same_report(pytester: pytest.Pytester) -> None:
    for name in ("one", "two"):
        make_target(pytester.path / name, TARGET, fake=FAKE, a_txt=name)
    (pytester.path / "conftest.py").write_text(PROVIDER)
    (pytester.path / "pytest.ini").write_text("[pytest]\naddopts = --metaharness=mine,fake:m --metaharness-trials=2\n")
    sessions = [run_session(pytester, name="serial"), run_session(pytester, "-n4", name="spread")]
    for session in sessions:
        session.result.assert_outcomes(passed=8)
    reports = [session.report for session in sessions]
    backends = ("fake:m-t1", "fake:m-t2", "mine-t1", "mine-t2")
    assert [run["nodeid"] for run in reports[0]["runs"]] == [
        f"{name}/metaharness.yaml::{backend}" for name in ("one", "two") for backend in backends
    ]
    assert {(run["backend"], run["provider"], run["model"], run["trial"]) for run in reports[0]["runs"]} == {
        (backend, provider, model, trial)
        for backend, provider, model in (("mine", "mine", None), ("fake:m", "fake", "m"))
        for trial in (1, 2)
    }
    for report in reports:
        assert report["session"] in report["runs"][0]["directory"]
    assert without_times(reports[0]) == without_times(reports[1])
    for table in ("report.tsv", "ledger.tsv"):
        first, second = (read_table(session.folder / table) for session in sessions)
        assert [{**row, "duration_s": ""} for row in first] == [{**row, "duration_s": ""} for row in second]


def without_times(value: Any) -> Any:
    """Leave out what names the session and its times; when trials run at once, they decide which one is reused."""
    if isinstance(value, dict):
        volatile = {"session", "started", "duration_s", "directory", "patch", "reused"}
        return {name: without_times(inner) for name, inner in value.items() if name not in volatile}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def test_the_schemas_in_the_package_are_up_to_date() -> None:
    for name, content in build_schemas().items():
        assert (FOLDER / name).read_bytes() == content, "run: python -m pytest_metaharness.schemas"
        jsonschema.Draft202012Validator.check_schema(json.loads(content))


def test_the_schema_of_the_report_asks_for_every_field_and_allows_no_other() -> None:
    schema = json.loads((FOLDER / "report.schema.json").read_text())
    for definition in schema["$defs"].values():
        assert sorted(definition["required"]) == sorted(definition["properties"])
        assert definition["additionalProperties"] is False
