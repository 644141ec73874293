from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest

from pytest_metaharness.core.errors import TargetError
from pytest_metaharness.core.model import Backend
from pytest_metaharness.core.targets.backend_tables import is_reserved, read_backends
from pytest_metaharness.core.targets.records import Field, Record
from pytest_metaharness.core.targets.schema import Choice

PROVIDERS = {
    "codex": Record(fields={"sandbox": Field(Choice(words=("read-only", "workspace-write")), "Codex's own jail")}),
    "fake": Record(fields={}),
}


def test_backends_of_a_project_are_read() -> None:
    table = {"codex": {"model": "x", "sandbox": "read-only"}, "own": {"provider": "elsewhere", "any": [1, {"a": 2}]}}
    assert read_backends(table, providers=PROVIDERS, shown_as="pyproject.toml") == {
        "codex": Backend(name="codex", provider="codex", model="x", options={"sandbox": "read-only"}),
        "own": Backend(name="own", provider="elsewhere", options={"any": (1, {"a": 2})}),
    }


def test_problems_of_a_project_name_the_whole_key() -> None:
    table: dict[str, Any] = {
        "codex": {"timeout": -1, "modle": "x", "args": "--x", "model": 4.1},
        "own": {},
        "late": {"provider": "y", "since": date(2024, 1, 1), "size": 1 << 100_000},
    }
    with pytest.raises(TargetError) as caught:
        read_backends(table, providers=PROVIDERS, shown_as="pyproject.toml")
    where = "pyproject.toml: tool.metaharness.backends"
    assert [problem.split(" (")[0] for problem in caught.value.problems] == [
        f"{where}.codex.timeout: must be > 0, got -1",
        f"{where}.codex.modle: unknown key 'modle'",
        f"{where}.codex.args: must be a list, got '--x'",
        f"{where}.codex.model: must be text, got 4.1",
        f"{where}.own.provider: is required and missing; only tables named like a built-in provider",
        f"{where}.late.since: must be text, a number, true, false, a list or a mapping, got the date 2024-01-01",
        f"{where}.late.size: must be a finite number of at most 63 bits, got inf",
    ]


@pytest.mark.parametrize("table", [3, [], "codex", None])
def test_table_of_another_type_is_told(table: object) -> None:
    with pytest.raises(TargetError, match=r"^p: tool\.metaharness\.backends: must be a mapping, got "):
        read_backends(table, providers=PROVIDERS, shown_as="p")


def test_a_key_written_where_its_name_belongs_is_not_shown() -> None:
    table = {"codex": {"api_key": "sk-secret-1", "base_url": "user:secret-2@host", "env": {"A": ["secret-3"]}}}
    with pytest.raises(TargetError) as caught:
        read_backends(table, providers=PROVIDERS, shown_as="p")
    assert len(caught.value.problems) == 3
    assert "never the key itself" in caught.value.problems[0]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"codex": []}, "codex: must be a mapping, got an empty list"),
        (
            {"codex": {"env": {"A": 5}}},
            "codex.env.A: must be text (quoted), or nothing to pass the variable through, got a number",
        ),
        ({"codex": {"args": [["x"]]}}, "codex.args[0]: must be text, got a list"),
        ({"codex": {"model": "\0"}}, "codex.model: must not contain a NUL character"),
        (
            {"codex": {"provider": "nobody's"}},
            "codex.provider: must be the name of a provider (built in: codex, fake), got 'nobody's'",
        ),
        ({"codex": {"timeout": float("inf")}}, "codex.timeout: must be a finite number, got inf"),
        ({"codex": {"timeout": "60"}}, "codex.timeout: must be a number, got '60' (remove the quotes)"),
        ({"fake": {"sandbox": "read-only"}}, "fake.sandbox: unknown key 'sandbox' (known: provider, model, ...)"),
        (
            {"codex-t1": {"provider": "codex"}},
            "codex-t1: must not be 'baseline', 'off' or end in -t and a number, got 'codex-t1'",
        ),
        ({"": {"provider": "codex"}}, "'': must not be empty"),
        (
            {"own": {"provider": "x", "y": {"z": float("nan")}}},
            "own.y.z: must be a finite number of at most 63 bits, got nan",
        ),
    ],
)
def test_a_broken_table_says_where_what_and_what_is_allowed(table: object, told: str) -> None:
    with pytest.raises(TargetError) as caught:
        read_backends(table, providers=PROVIDERS, shown_as="p")
    (problem,) = caught.value.problems
    expected = f"p: tool.metaharness.backends.{told}"
    assert re.fullmatch(".*".join(map(re.escape, expected.split("..."))), problem), problem


def test_data_nested_without_end_is_told() -> None:
    table: dict[str, Any] = {"own": {"provider": "elsewhere"}}
    table["own"]["again"] = table
    with pytest.raises(TargetError, match=r"again\.own: nested too deeply \(more than 50 levels\)$"):
        read_backends(table, providers=PROVIDERS, shown_as="p")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("baseline", True), ("off", True), ("codex-t1", True), ("codex", False), ("gpt-t", False), ("offline", False)],
)
def test_names_with_another_meaning_are_reserved(name: str, expected: bool) -> None:
    assert is_reserved(name) is expected
