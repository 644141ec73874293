"""Targets written in Python are what target files are: the same values, the same problems in the same words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

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


def hold_twice(depth: int) -> list[Any]:
    """Give lists that each hold the next one twice."""
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner, inner]
    return inner


OK: Any = (Check(id="a", run="x"),)
AGAIN: list[Any] = []
AGAIN.append(AGAIN)
OBJECT: Any = object()
ONLY = "must be text, a number, true, false, a list or a mapping, got"
ANY_CHECK: Any = Check  # for values that its types refuse
ANY_BACKEND: Any = Backend

WRONG_ARGUMENTS: dict[str, tuple[Any, str]] = {
    "number as goal": ({"goal": 5}, "goal: must be text, got 5 (quote it)"),
    "bytes as goal": ({"goal": b"x"}, f"goal: {ONLY} b'x'"),
    "nothing as goal": ({"goal": None}, "goal: must be text, got nothing"),
    "half a surrogate pair": ({"goal": "\ud800"}, "goal: must not contain half of a surrogate pair"),
    "text as constraints": (
        {"constraints": "be brief"},
        "constraints: must be a list, got 'be brief' (write a list: [...])",
    ),
    "generator": ({"constraints": (x for x in "a")}, f"constraints: {ONLY} <generator object ...>"),
    "path among texts": ({"constraints": [Path("a")]}, f"constraints[0]: {ONLY} PosixPath('a')"),
    "mapping as checks": ({"checks": {"a": OK[0]}}, "checks: must be a list of Check, got {'a': Check(id='a'..."),
    "nothing as checks": ({"checks": None}, "checks: must be a list of Check, got None"),
    "no checks": ({"checks": []}, "checks: must not be empty"),
    "class as check": ({"checks": [Check]}, "checks: must be a list of Check, got <class '...Check'> at [0]"),
    "number as id": ({"checks": [ANY_CHECK(id=5, run="x")]}, "checks: a key must be text, got 5 (quote it)"),
    "truth as weight": (
        {"checks": [ANY_CHECK(id="a", run="x", weight=True)]},
        "checks.a.weight: must be a number, got true",
    ),
    "complex weight": ({"checks": [ANY_CHECK(id="a", run="x", weight=1j)]}, f"checks.a.weight: {ONLY} 1j"),
    "huge timeout": ({"timeout": 10**5000}, "timeout: must be a finite number, got inf"),
    "list as with": (
        {"checks": [ANY_CHECK(id="a", use="x", with_=["y"])]},
        "checks.a.with: must be a mapping, got a list",
    ),
    "numbers as names": (
        {"checks": [ANY_CHECK(id="a", use="x", with_={1: 2})]},
        "checks.a.with: a key must be text, got 1 (quote it)",
    ),
    "object": (
        {"checks": [ANY_CHECK(id="a", use="x", with_={"y": OBJECT})]},
        f"checks.a.with.y: {ONLY} <object object at ...>",
    ),
    "holds itself": (
        {"checks": [ANY_CHECK(id="a", use="x", with_={"y": AGAIN})]},
        "checks.a.with.y[0]...[0]: nested too deeply (more than 50 levels)",
    ),
    "doubles": (
        {"checks": [ANY_CHECK(id="a", use="x", with_={"y": hold_twice(40)})]},
        "checks.a: has too many values (more than 20000)",
    ),
    "number as gate": ({"gate": 0.9}, "gate: must be a mapping with baseline, best, gain, checks, got 0.9"),
    "nothing as limits": ({"limits": None}, "limits: must be a mapping with file_mb, total_mb, files, got nothing"),
    "check as gate": ({"gate": OK[0]}, f"gate: {ONLY} Check(id='a', ..."),
    "git as sealed": ({"sealed": GitBaseline(git="HEAD")}, "sealed: must be text, got a mapping"),
    "number as baseline": (
        {"baseline": 5},
        "baseline: must be a folder beside this file, or {git: HEAD}, got 5 (quote it)",
    ),
    "list as backends": (
        {"backends": [ANY_BACKEND(name="a", provider="b")]},
        "backends: must be a mapping, got a list",
    ),
    "number as backend": ({"backends": {"a": 5}}, "backends.a: must be a mapping, got 5"),
    "number as name": (
        {"backends": {5: ANY_BACKEND(name="a", provider="b")}},
        "backends: a key must be text, got 5 (quote it)",
    ),
    "number as options": (
        {"backends": {"a": ANY_BACKEND(name="a", provider="b", options=5)}},
        "backends.a.options: must be a mapping, got 5",
    ),
    "number as option": (
        {"backends": {"a": ANY_BACKEND(name="a", provider="b", options={5: 5})}},
        "backends.a: a key must be text, got 5 (quote it)",
    ),
}


@pytest.mark.timeout(60)  # against what holds itself
@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_arguments_are_told(desk: Path, name: str) -> None:
    arguments, told = WRONG_ARGUMENTS[name]
    (problem,) = find_problems(Target(**{"goal": "x", "checks": OK, **arguments}), desk)
    assert re.fullmatch(".*".join(map(re.escape, told.split("..."))), problem), problem
    assert problem.isprintable()


VALUES = st.recursive(
    st.sampled_from(
        [None, True, 0, -1, 2, 10**400, 1.5, float("nan"), "", "a", "\0", "\ud800", b"x", OBJECT, Path("a"), Check]
    )
    | st.sampled_from(
        [*OK, Gate(best=2), Contains(path="a"), GitBaseline(git="x"), Backend(name="a", provider="codex")]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.sampled_from(["a", "git", "", 1, None, (1, 2)]), inner, max_size=3)
    ),
    max_leaves=6,
)


def write_any(kind: type[msgspec.Struct], least: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Give values of *kind* that have any value as anything, beside the *least* that it needs."""
    fields = [field.name for field in msgspec.structs.fields(kind)]
    return st.dictionaries(st.sampled_from(fields), VALUES, min_size=1, max_size=3).map(
        lambda given: kind(**{**least, **given})
    )


@pytest.mark.timeout(300)
@given(target=write_any(Target, {"goal": "x", "checks": OK}))
@settings(max_examples=200, deadline=None)
def test_any_argument_of_a_target_gives_one_or_its_problems(desk_of_all: Path, target: Target) -> None:
    look_at(target, desk_of_all)


@pytest.mark.timeout(300)
@given(check=write_any(Check, {"id": "a", "run": "x"}), backend=write_any(Backend, {"name": "a", "provider": "b"}))
@settings(max_examples=200, deadline=None)
def test_any_argument_of_its_parts_gives_one_or_its_problems(desk_of_all: Path, check: Check, backend: Backend) -> None:
    look_at(Target(goal="x", checks=[check], backends={"a": backend}), desk_of_all)


@pytest.fixture(scope="module")
def desk_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "baseline").mkdir()
    return folder


def look_at(target: Target, folder: Path) -> None:
    try:
        assert complete(target, folder).checks
    except TargetError as error:
        problems = error.problems
    else:
        return
    assert problems
    for problem in problems:
        assert re.match(r"test_desk\.py::test_desk: \S", problem)
        assert problem.isprintable()


def test_values_hold_no_lists() -> None:
    checks = [Check(id="a", contains=Contains(path="a", all=["x"]), env=["A"])]
    target = Target(goal="x", checks=checks, gate=Gate(checks=["a"]))
    checks.clear()
    assert target.checks == (Check(id="a", contains=Contains(path="a", all=("x",)), env=("A",)),)
    assert target.gate.checks == ("a",)
