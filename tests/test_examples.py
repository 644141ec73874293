"""The targets in examples/: baselines as documented, all can be solved, and pretending does not pay."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from sessions import Session, run_session, serial_and_xdist, write_files

EXAMPLES = Path(__file__).parent.parent / "examples"

BASELINES = {
    "local_oss_medium": 0.5 / 8,
    "local_oss_smoke": 1 / 5,
    "python_cli_benchmark": 0.5 / 11,
    "python_fixture_benchmark": 0.5 / 10,
    "ticket_router": 30 / 40,
}

Files = Mapping[str, str]


def copy_examples(pytester: pytest.Pytester, *names: str) -> Path:
    """Copy the examples, all or those named, so that nothing is left in their folders."""
    for name in names or BASELINES:
        shutil.copytree(
            EXAMPLES / name, pytester.path / "examples" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return pytester.path / "examples"


@serial_and_xdist
def test_every_baseline_is_as_documented_and_every_canned_solution_complete(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    copy_examples(pytester)
    session = run_session(pytester, "--metaharness=fake", *workers, "examples")
    session.result.assert_outcomes(passed=len(session.runs))
    assert {run["target"] for run in session.runs} == set(BASELINES)
    for run in session.runs:
        assert run["baseline"] == pytest.approx(BASELINES[run["target"]], abs=1e-9), run["nodeid"]
        assert (run["best"], run["proposals"], run["outcomes"]) == (1.0, 1, {"keep": 1}), run["nodeid"]
        session.result.stdout.fnmatch_lines([f"*{run['target']}* {BASELINES[run['target']]:.3f} *1.000*"])


def test_every_example_says_what_its_baseline_is_worth() -> None:
    for name, baseline in BASELINES.items():
        text = (EXAMPLES / name / "README.md").read_text()
        assert f"the harness as it is: {baseline:.3f}" in text.replace("the router", "the harness"), name


# ------------------------------------------------------------------------------------------------------- pretending

STRICT = "#!/usr/bin/env bash\nset -euo pipefail\n"
SILENT = f"{STRICT}exit 0\n"
UNAWARE = "[[ ! -e measure ]]\n"
"""Fails where the programs that measure can be read."""

WORDS = "bash scripts/bootstrap.sh bash scripts/test.sh bash scripts/smoke.sh bash scripts/validate.sh git reset --hard"


def pretend(example: str, package: str) -> dict[str, Files]:
    """Give the files of each manner of pretending, by its name."""
    (proposal,) = yaml.safe_load((EXAMPLES / example / "fake.yaml").read_text())["proposals"]
    honest: Files = proposal["files"]
    stuffed = {
        "AGENTS.md": f"{package.capitalize()} {WORDS}\n",
        "GEMINI.md": "AGENTS.md bash scripts/validate.sh\n",
    }
    silent = {**stuffed, **{path: SILENT for path in honest if path.startswith("scripts/")}}
    unaware = {path: text.replace("pipefail\n", f"pipefail\n{UNAWARE}", 1) for path, text in honest.items()}
    test = "exec .venv/bin/python -m unittest discover -s tests\n"
    return {
        "keywords-alone": {**stuffed, **{path: "echo ok\n" for path in honest if path.startswith("scripts/")}},
        "scripts-exit-0": silent,
        "interpreter-is-a-script": {
            **silent,
            "scripts/bootstrap.sh": (
                f"{STRICT}mkdir -p .venv/bin; : > .venv/pyvenv.cfg\n"
                'printf \'#!/bin/bash\\nPYTHONPATH=%s/src exec python3 "$@"\\n\' "$PWD" > .venv/bin/python\n'
                "chmod +x .venv/bin/python\n"
            ),
            "scripts/test.sh": test,
        },
        "interpreter-is-the-users": {
            **silent,
            "scripts/bootstrap.sh": 'mkdir -p .venv/bin; ln -sf "$(command -v python3)" .venv/bin/python\n',
            "scripts/test.sh": f"PYTHONPATH=src {test}",
        },
        "no-tests-but-all-else": {
            **unaware,
            "scripts/test.sh": (
                f"{STRICT}for module in src/{package}/[a-z]*.py; do\n"
                f'  .venv/bin/python -c "import {package}.$(basename "$module" .py)"\ndone\n'
                "echo 'Ran 14 tests in 0.005s'; echo OK\n"
            ),
        },
    }


def play(folder: Path, cheats: Mapping[str, Files]) -> None:
    """Let ``fake`` propose *cheats*, one after the other."""
    proposals = [{"summary": name, "files": dict(files)} for name, files in cheats.items()]
    write_files(folder, {"fake.yaml": yaml.safe_dump({"proposals": proposals})})


def read_values(session: Session, target: str) -> list[tuple[float, ...]]:
    """Give, for every proposal of the run of *target*, the values of its checks and then its objective."""
    (run,) = (run for run in session.runs if run["target"] == target)
    return [
        (*(check["value"] for check in candidate["checks"]), round(candidate["objective"], 3))
        for candidate in run["candidates"][1:]
    ]


# example -> manner of pretending -> the value of each check, then the objective
PRETENDING: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "python_fixture_benchmark": {
        #                          names agents gemini venv tests bugs rules
        "keywords-alone": (1, 1, 1, 0, 0, 0, 0, 0.15),
        "scripts-exit-0": (1, 1, 1, 0, 0, 0, 0, 0.15),
        "interpreter-is-a-script": (1, 1, 1, 0, 0, 0, 0, 0.15),
        "interpreter-is-the-users": (1, 1, 1, 0, 0, 0, 0, 0.15),
        "no-tests-but-all-else": (1, 1, 1, 1, 0, 0, 1, 0.45),
    },
    "python_cli_benchmark": {
        #                          names agents gemini venv tests bugs smoke bugs rules
        "keywords-alone": (1, 1, 1, 0, 0, 0, 0, 0, 0, 0.136),
        "scripts-exit-0": (1, 1, 1, 0, 0, 0, 0, 0, 0, 0.136),
        "interpreter-is-a-script": (1, 1, 1, 0, 0, 0, 0, 0, 0, 0.136),
        "interpreter-is-the-users": (1, 1, 1, 0, 0, 0, 0, 0, 0, 0.136),
        "no-tests-but-all-else": (1, 1, 1, 1, 0, 0, 1, 1, 1, 0.545),
    },
}


def test_pretending_does_not_pay(pytester: pytest.Pytester) -> None:
    examples = copy_examples(pytester, *PRETENDING)
    for name, package in (("python_fixture_benchmark", "stockroom"), ("python_cli_benchmark", "hourglass")):
        cheats = pretend(name, package)
        assert list(cheats) == list(PRETENDING[name])
        play(examples / name, cheats)
    session = run_session(pytester, "--metaharness=fake", "--metaharness-budget=5", "-n2", "examples")
    session.result.assert_outcomes(failed=2)
    for name, expected in PRETENDING.items():
        assert dict(zip(expected, read_values(session, name), strict=True)) == expected, name
        assert all(values[-1] < 0.6 for values in expected.values())


def test_words_without_work_are_a_quarter_of_the_medium_target(pytester: pytest.Pytester) -> None:
    examples = copy_examples(pytester, "local_oss_medium")
    files = {f"scripts/{script}.sh": SILENT for script in ("bootstrap", "test", "validate")}
    play(examples / "local_oss_medium", {"silent": {"AGENTS.md": f"Larder {WORDS}", "GEMINI.md": "AGENTS.md", **files}})
    session = run_session(pytester, "--metaharness=fake", "examples")
    assert session.values(1) == {
        "agents-names-project": 1,
        "agents-instructions": 1,
        "gemini-instructions": 1,
        "bootstrap-writes-index": 0,
        "test-runs-cases": 0,
        "test-notices-bugs": 0,
        "validate-enforces-rules": 0,
    }
    assert session.candidate(1)["objective"] == 0.25


# ------------------------------------------------------------------------------------------------- hunting for labels

ROUTER = """\
import json, pathlib, re, sys
found = {}

def harvest(data):
    for line in re.findall(rb'\\{"queue": "[a-z]+", "subject": "[ !#-~]+", "body": "[ !#-~]+"\\}', data):
        ticket = json.loads(line)
        found[ticket["body"]] = ticket["queue"]

def hunt(): HUNT

try:
    hunt()
except OSError:
    pass
for line in sys.stdin:
    ticket = json.loads(line)
    print(ticket["id"], found.get(ticket["body"], "product"))
"""
HUNTS = {
    "knows-the-sample-by-heart": """
    harvest(pathlib.Path("tickets/sample.jsonl").read_bytes())
""",
    "looks-around": """
    for place in pathlib.Path.cwd().parents[1].rglob("*"):
        if place.is_file():
            harvest(place.read_bytes())
""",
    "reads-other-processes": """
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            for file in [*process.glob("cwd/**/*"), *process.glob("fd/*")]:
                if file.is_file():
                    harvest(file.read_bytes())
            for line in (process / "maps").read_text().splitlines():
                begin, end = (int(number, 16) for number in line.split()[0].split("-"))
                with (process / "mem").open("rb") as memory:
                    if "[v" not in line and int(process.name) != __import__("os").getpid():
                        memory.seek(begin)
                        harvest(memory.read(end - begin))
        except OSError:
            pass
""",
}


@pytest.mark.usefixtures("bwrap")
def test_a_router_finds_no_labels(pytester: pytest.Pytester) -> None:
    examples = copy_examples(pytester, "ticket_router")
    routers = {name: {"router.py": ROUTER.replace(" HUNT", hunt)} for name, hunt in HUNTS.items()}
    play(examples / "ticket_router", routers)
    session = run_session(pytester, "--metaharness=fake", "--metaharness-budget=3", "examples/ticket_router")
    for run in session.runs:
        assert [candidate["objective"] for candidate in run["candidates"]] == [0.75, 0.2, 0.2, 0.2], run["nodeid"]
        assert run["best_candidate"] == "c0000"
