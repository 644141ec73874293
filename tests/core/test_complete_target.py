"""Targets written in Python are what target files are: the same values, the same problems in the same words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pytest_metaharness.core.errors import TargetError
from pytest_metaharness.core.model import Backend, Check, CheckResult, Contains, Gate, GitBaseline, Limits, Target
from pytest_metaharness.core.targets.complete import complete_target
from pytest_metaharness.core.targets.load import load_target
from pytest_metaharness.core.targets.records import Field, Record
from pytest_metaharness.core.targets.schema import Choice

PROVIDERS = {"codex": Record(fields={"sandbox": Field(Choice(words=("read-only", "full")), "Its own jail")})}
SHOWN = "test_desk.py::test_desk"

EVERY_KEY = """\
goal: Work.
constraints: [Keep it short.]
baseline: ./baseline/
editable: [AGENTS.md, scripts/]
required: [AGENTS.md]
sealed: evaluation
transient: ["*.log"]
limits: {file_mb: 1, files: 20}
budget: 2
timeout: 240
checks:
  words: {contains: {path: AGENTS.md, all: [a], any: [b], none: [c], regex: d}, weight: 2}
  code: {run: make, exit_code: 3, timeout: 5, required: true, env: [HOME], network: true}
  score: {score: python score.py, feedback: none, volatile: true, fresh: true}
  unit: {pytest: tests, repeat: 3}
  own: {use: mine, with: {names: [a, 2], nested: {x: 0.5, y: null, z: true}}}
gate: {baseline: 0, best: 0.9, gain: -0.1, checks: [unit]}
backends:
  small: {provider: codex, model: m, sandbox: read-only, timeout: 5}
  house: {provider: ours, base_url: "http://127.0.0.1/v1", env: {MODE: fast, TOKEN: null}, args: [-x], heat: [1]}
sandbox_read: [~/data]
"""

WRONG = {
    "empty goal": "{goal: '', checks: {a: {run: x}}}",
    "no checks": "{goal: x, checks: {}}",
    "weight": "{goal: x, checks: {a: {run: x, weight: -1}}}",
    "weight is text": "{goal: x, checks: {a: {run: x, weight: '2'}}}",
    "weight is true": "{goal: x, checks: {a: {run: x, weight: true}}}",
    "text is a number": "{goal: x, checks: {a: {use: x, with: {y: 1}, env: 'A'}}}",
    "condition": "{goal: x, checks: {a: {contains: {path: ../a, regex: a}}}}",
    "condition of nothing": "{goal: x, checks: {a: {contains: {path: a}}}}",
    "companions": "{goal: x, checks: {a: {score: x, exit_code: 1, with: {b: c}}}}",
    "id": "{goal: x, checks: {-a: {run: x}}}",
    "regex": "{goal: x, checks: {a: {contains: {path: a, regex: '('}}}}",
    "feedback": "{goal: x, checks: {a: {run: x, feedback: fulll}}}",
    "gate": "{goal: x, checks: {a: {run: x}}, gate: {best: 3, gain: a, checks: [b]}}",
    "limits": "{goal: x, checks: {a: {run: x}}, limits: {files: 0, total_mb: -1}}",
    "paths": "{goal: x, checks: {a: {run: x}}, editable: [/etc], required: [a/], sealed: ../b, transient: ['']}",
    "not a list": "{goal: x, checks: {a: {run: x}}, editable: AGENTS.md}",
    "no folders": "{goal: x, checks: {a: {run: x}}, baseline: nowhere, sealed: neither}",
    "overlap": "{goal: x, checks: {a: {run: x}}, sealed: baseline/sub}",
    "no sealed tests": "{goal: x, checks: {a: {pytest: tests}}}",
    "git": "{goal: x, checks: {a: {run: x}}, baseline: {git: -x, path: ..}}",
    "backends": "{goal: x, checks: {a: {run: y}}, backends: {'off': {provider: o}, a: {provider: codex, sandbox: x}}}",
    "numbers": "{goal: x, checks: {a: {run: x, repeat: 0}}, budget: -1, timeout: 0}",
    "fraction": "{goal: x, checks: {a: {run: x}}, budget: 1.5}",
}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    for name in ("baseline/sub", "evaluation/tests"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def write_in_python(raw: dict[str, Any]) -> Target:
    """Give the target that has the keys of a target file as keywords."""
    keys = dict(raw)
    checks = [
        Check(
            id=name,
            **{f"{key}_" if key == "with" else key: value for key, value in given.items() if key != "contains"},
            contains=Contains(**given["contains"]) if "contains" in given else None,
        )
        for name, given in keys.pop("checks").items()
    ]
    common = {field.name for field in msgspec.structs.fields(Backend)}
    backends = {
        name: Backend(
            name=name,
            **{key: value for key, value in given.items() if key in common},
            options={key: value for key, value in given.items() if key not in common},
        )
        for name, given in keys.pop("backends", {}).items()
    }
    for name, kind in (("gate", Gate), ("limits", Limits)):
        if name in keys:
            keys[name] = kind(**keys[name])
    if isinstance(keys.get("baseline"), dict):
        keys["baseline"] = GitBaseline(**keys["baseline"])
    return Target(checks=checks, backends=backends, **keys)


def complete(target: object, folder: Path) -> Target:
    return complete_target(target, name="desk", file=folder / "test_desk.py", providers=PROVIDERS, shown_as=SHOWN)


def find_problems(target: object, folder: Path) -> list[str]:
    with pytest.raises(TargetError) as caught:
        complete(target, folder)
    assert all(problem.startswith(f"{SHOWN}: ") for problem in caught.value.problems)
    return [problem.removeprefix(f"{SHOWN}: ") for problem in caught.value.problems]


def test_every_key_means_the_same(desk: Path) -> None:
    (desk / "metaharness.yaml").write_text(EVERY_KEY)
    from_file = load_target(desk / "metaharness.yaml", providers=PROVIDERS)
    from_python = complete(write_in_python(yaml.safe_load(EVERY_KEY)), desk)
    assert {check.kind for check in from_python.checks} == {"contains", "run", "score", "pytest", "use"}
    assert (from_python.name, from_python.file) == ("desk", desk / "test_desk.py")
    assert msgspec.structs.replace(from_python, name=from_file.name, file=from_file.file) == from_file
    assert complete(Target(goal="x", checks=(Check(id="a", run="x"),)), desk).checks == (Check(id="a", run="x"),)


@pytest.mark.parametrize("name", WRONG)
def test_problems_are_those_of_a_file(desk: Path, name: str) -> None:
    (desk / "metaharness.yaml").write_text(WRONG[name])
    with pytest.raises(TargetError) as caught:
        load_target(desk / "metaharness.yaml", providers=PROVIDERS, shown_as="x")
    from_file = [re.sub(r"^x(:\d+)?: ", "", problem) for problem in caught.value.problems]
    told = [problem.replace(", pytest, use, found", ", pytest, use, call, found") for problem in from_file]
    found = find_problems(write_in_python(yaml.safe_load(WRONG[name])), desk)
    assert sorted(found) == sorted(told)


def test_what_only_python_can_say(desk: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def measure(checkout: Path) -> CheckResult:
        return CheckResult(value=1.0)

    target = complete(
        Target(goal="x", baseline=elsewhere, sealed=desk / "evaluation", checks=[Check(id="a", call=measure)]), desk
    )
    assert target.baseline_folder == elsewhere
    assert target.sealed_folder == desk / "evaluation"
    assert target.checks[0].call is measure
    assert target.checks[0].kind == "call"
    assert not target.checks[0].is_reusable


def test_what_only_python_can_say_wrongly(desk: Path) -> None:
    ok: list[Any] = [Check(id="a", run="x")]
    call: Any = 5
    make: Any = "make"
    kinds = "contains, run, score, pytest, use, call"
    assert find_problems(Target(goal="x", checks=[Check(id="a", call=call)]), desk) == [
        "checks.a.call: must be a function that takes the checkout's path, got 5"
    ]
    assert find_problems(Target(goal="x", checks=[Check(id="a"), Check(id="b", run="x", call=Path.exists)]), desk) == [
        f"checks.a: must have exactly one of {kinds}, found none",
        f"checks.b: must have exactly one of {kinds}, found run and call",
    ]
    assert find_problems(Target(goal="x", checks=ok * 2), desk) == ["checks.a: given twice"]
    assert find_problems(Target(goal="x", checks=[*ok, make]), desk) == [
        "checks: must be a list of Check, got 'make' at [1]"
    ]
    assert find_problems(Target(goal="x", checks=ok[0]), desk)[0].startswith("checks: must be a list of Check, got Che")
    assert find_problems(Target(goal="x", checks=ok, baseline=desk / "gone"), desk) == [
        f"baseline: no folder '{str(desk / 'gone')[:60]}...'"
        if len(str(desk / "gone")) > 60
        else f"baseline: no folder '{desk / 'gone'}'"
    ]
    assert find_problems(Target(goal="x", checks=ok, name="y", file=Path("z"), marks=["slow"]), desk) == [
        "name: is the test function's, and is not given in a Python target",
        "file: is the test function's, and is not given in a Python target",
        "marks: are the test function's: write @pytest.mark.NAME above it",
    ]
    assert find_problems(Target(goal="x", checks=ok, backends={"a": Backend(name="b", provider="codex")}), desk) == [
        "backends.a.name: must be 'a', got 'b'"
    ]
    strange: Any = {1, 2}
    assert find_problems(Target(goal="x", checks=ok, constraints=strange), desk) == [
        "constraints: must be text, a number, true, false, a list or a mapping, got {1, 2}"
    ]
    assert find_problems({"goal": "x"}, desk) == ["metaharness must be called with a Target, got {'goal': 'x'}"]


def test_values_hold_no_lists() -> None:
    checks = [Check(id="a", contains=Contains(path="a", all=["x"]), env=["A"])]
    target = Target(goal="x", checks=checks, gate=Gate(checks=["a"]))
    checks.clear()
    assert target.checks == (Check(id="a", contains=Contains(path="a", all=("x",)), env=("A",)),)
    assert target.gate.checks == ("a",)
