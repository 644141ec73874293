"""What the controller makes of a session: files, copies, the summary, the hook that may change the report, pruning."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from sessions import find_session, make_target, read_table, run_session, serial_and_xdist

TARGET = """\
goal: Write the facts.
budget: 2
checks:
  one: {contains: {path: a.txt, all: [one]}}
  two: {contains: {path: a.txt, all: [two]}, weight: 0.1}
  three: {score: echo 0.3, weight: 0.2}
"""
FAKE = "[{files: {a.txt: one}}, {files: {a.txt: one two}}]"


@serial_and_xdist
def test_a_run_on_a_machine_without_a_common_disk_is_reported(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="one")
    pytester.makeconftest("import shutil\ndef pytest_runtest_teardown():\n    shutil.rmtree('.metaharness')\n")
    session = run_session(pytester, *workers)
    session.result.assert_outcomes(passed=1)
    assert session.run["best"] == pytest.approx(1.06 / 1.3)


@serial_and_xdist
def test_copies_of_the_report(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="one")
    (pytester.path / "file").write_text("no folder")
    copies = ("new/folder/copy.json", "copy.tsv", "file/below.json", "last.json")
    session = run_session(pytester, *(f"--metaharness-report={path}" for path in copies), *workers)
    session.result.assert_outcomes(passed=1)
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    session.result.stdout.fnmatch_lines(["*file/below.json could not be written: *"])
    document, table = (session.folder / "report.json").read_bytes(), (session.folder / "report.tsv").read_bytes()
    assert (pytester.path / "new" / "folder" / "copy.json").read_bytes() == document
    assert (pytester.path / "last.json").read_bytes() == document
    assert (pytester.path / "copy.tsv").read_bytes() == table
    assert json.loads((session.folder / "session.json").read_text())["status"] == "completed"


HOOK = "import pytest\ndef pytest_metaharness_report(config, report):\n    "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("report['runs'][0]['best'] = 'much'", "*Expected `float | null`, got `str`*runs[[]0].best*"),
        ("report['team'] = 'platform'", "*unknown field `team`*"),
        ("report['environment']['x'] = {1, object()}", "*TypeError*"),
        ("report['environment'] = {}; pytest.fail('no \\x1b[31m')", r"*Failed: no \x1b[[]31m*"),
    ],
    ids=["wrong type", "unknown key", "no JSON", "fails"],
)
def test_an_unusable_change_of_the_report_is_refused(pytester: pytest.Pytester, change: str, message: str) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="one")
    pytester.makeconftest(HOOK + change + "\n")
    session = run_session(pytester, "--metaharness-report=copy.json")
    session.result.assert_outcomes(passed=1)
    assert session.result.ret == pytest.ExitCode.TESTS_FAILED
    session.result.stdout.fnmatch_lines([f"pytest_metaharness_report: {message}; its changes are lost"])
    assert "python" in session.report["environment"]
    assert json.loads((pytester.path / "copy.json").read_text()) == session.report


@serial_and_xdist
def test_the_report_can_be_changed_once_in_the_controller(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="one")
    pytester.makeconftest(
        HOOK + "report['environment']['team'] = ['platform']\n    report['runs'][0]['reason'] = 'changed\\there'\n"
        "    with open('calls', 'a') as calls:\n        calls.write(f'{hasattr(config, \"workerinput\")} ')\n"
    )
    (pytester.path / "facts" / "conftest.py").write_text(HOOK + "raise AssertionError('not the root conftest')\n")
    session = run_session(pytester, "--metaharness-report=copy.tsv", *workers)
    assert session.result.ret == pytest.ExitCode.OK
    assert (pytester.path / "calls").read_text() == "False "
    assert session.report["environment"]["team"] == ["platform"]
    assert session.run["reason"] == "changed\there"
    assert read_table(pytester.path / "copy.tsv")[0]["reason"] == r"changed\there"


@pytest.mark.parametrize(("flag", "workers"), [("-rA", ()), ("-v", ("-n2",))], ids=["rA", "v-xdist"])
def test_every_check_of_the_best_is_listed_on_request(
    pytester: pytest.Pytester, flag: str, workers: tuple[str, ...]
) -> None:
    make_target(pytester.path / "low", TARGET + "gate: {best: 0.99}\n", fake=FAKE, a_txt="")
    make_target(pytester.path / "fine", TARGET, fake=FAKE, a_txt="")
    checks = ["    ok   one: 1 (weight 1)", "    ok   two: 1 (weight 0.1)", "    MISS three: 0.3 (weight 0.2)"]
    result = pytester.runpytest_subprocess("--metaharness=fake", *workers, flag)
    result.assert_outcomes(passed=1, failed=1)
    lines = result.outlines[
        result.outlines.index(next(line for line in result.outlines if "= metaharness =" in line)) :
    ]
    for target in ("fine", "low"):
        start = lines.index(f"{target}/metaharness.yaml::fake")
        assert [line for line in lines[start : start + 6] if " (weight " in line] == checks


def test_without_a_request_a_passed_run_has_one_line(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, fake=FAKE, a_txt="")
    result = pytester.runpytest_subprocess("--metaharness=fake")
    start = next(number for number, line in enumerate(result.outlines) if "= metaharness =" in line)
    heading, line, blank, files, *_ = result.outlines[start + 1 :]
    assert heading.split() == ["trial", "baseline", "best", "gain", "proposals", "cost", "time", "gate"]
    assert re.fullmatch(r"facts/metaharness.yaml::fake +0\.046 +0\.892 +\+0\.846 +2/2 +- +\d+\.\ds +passed", line)
    assert blank == ""
    folder = find_session(pytester.path).relative_to(pytester.path)
    assert files == f"report: {folder}/report.json (also report.tsv, ledger.tsv)"


@pytest.mark.parametrize(
    "args",
    [("--co",), ("--metaharness=off",), ("-k", "other", "-n2")],
    ids=["collected", "off", "deselected-xdist"],
)
def test_nothing_is_said_when_no_target_ran(pytester: pytest.Pytester, args: tuple[str, ...]) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="")
    pytester.makepyfile("def test_other(): pass")
    result = pytester.runpytest_subprocess(*args, "--metaharness-report=copy.json")
    assert result.ret == pytest.ExitCode.OK
    assert "metaharness" not in re.sub(
        r"plugins: .*|.*metaharness\.yaml.*|.*nothing_is_said.*", "", "\n".join(result.outlines)
    )
    assert not (pytester.path / ".metaharness").exists()
    assert not (pytester.path / "copy.json").exists()


def test_old_baseline_sessions_are_removed_and_searches_never(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, fake=FAKE, a_txt="")
    directory = pytester.path / ".metaharness"
    sessions: list[Path] = []  # in one second their names tell no order
    for args in (["--metaharness=fake"], ["--metaharness-name=named"], []):
        pytester.runpytest_subprocess(*args).assert_outcomes(passed=1)
        sessions += {path for path in directory.iterdir() if path.is_dir()}.difference(sessions)
    searched, named, measured = sessions
    assert named.name == "named"
    for number in range(12):
        shutil.copytree(measured, directory / f"2001{number:02}01-000000-aaaaaa")
    for number in range(12):
        shutil.copytree(searched, directory / f"1999{number:02}01-000000-aaaaaa")
    (directory / "mine").mkdir()
    (directory / "broken").mkdir()
    (directory / "broken" / "session.json").write_text("[1")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    kept = {path.name for path in directory.iterdir() if path.is_dir()}
    assert {searched.name, named.name, measured.name, "mine", "broken"} <= kept
    assert len([name for name in kept if name.startswith("1999")]) == 12
    assert sorted(name for name in kept if name.startswith("2001")) == [
        f"2001{number:02}01-000000-aaaaaa" for number in range(4, 12)
    ]


def test_the_store_of_sessions_explains_itself(pytester: pytest.Pytester) -> None:
    make_target(pytester.path / "facts", TARGET, a_txt="")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    directory = pytester.path / ".metaharness"
    assert (directory / ".gitignore").read_text() == "*\n"
    assert (directory / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert (directory / "README.md").exists()
    folder = find_session(pytester.path)
    session = json.loads((folder / "session.json").read_text())
    assert (session["schema"], session["status"]) == (1, "completed")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", folder.name)
