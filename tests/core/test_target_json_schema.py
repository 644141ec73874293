from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pytest_metaharness.core.targets.fields import target_json_schema
from pytest_metaharness.core.targets.records import Field, Record
from pytest_metaharness.core.targets.schema import Choice, Flag

PROVIDERS = {
    "codex": Record(
        fields={
            "sandbox": Field(Choice(words=("read-only", "workspace-write", "danger-full-access")), "Codex's own jail"),
            "context_files": Field(Flag(), "Whether the workspace's AGENTS.md instructs Codex"),
        }
    ),
    "fake": Record(fields={}),
}

UNSEEN = {
    # what only the disk, the regular expression engine, the spelling in YAML or arithmetic can tell
    *("no-baseline", "baseline-is-file", "sealed-missing", "sealed-is-baseline", "sealed-inside", "sealed-around"),
    *("pytest-without-sealed", "gate-checks-unknown"),
    *("sealed-link", "regex", "regex-many", "budget-octal", "timeout-minutes", "timeout-nan", "number-key", "null-key"),
    *("boolean-key", "merge-key", "nul", "with-date", "with-nan", "with-huge", "backend-open-extra"),
    *("twice", "twice-check", "twice-nested", "with-twice", "alias-in-itself"),
}


def read_cases(file: str) -> dict[str, str]:
    """Give the YAML texts of a file by name, without what is said about them."""
    text = (Path(__file__).parent / "target_cases" / file).read_text(encoding="utf-8")
    parts = re.split(r"^#### (.*)\n", text, flags=re.MULTILINE)
    texts = (part.split("=> ")[0] for part in parts[2::2])
    return dict(zip(parts[1::2], texts, strict=True))


def validator() -> jsonschema.Draft202012Validator:
    schema = target_json_schema(PROVIDERS)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


GOOD = read_cases("good.txt")


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_editors_accept_good_files(text: str) -> None:
    validator().validate(yaml.safe_load(text))


def test_editors_refuse_broken_files() -> None:
    checker = validator()
    refused: list[str] = []
    accepted: list[str] = []
    for name, text in read_cases("broken.txt").items():
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            continue
        if name not in UNSEEN:
            (accepted if checker.is_valid(content) else refused).append(name)
    assert accepted == []
    assert len(refused) > 80


def test_every_key_has_a_description() -> None:
    seen = []

    def walk(schema: Any) -> None:
        for name, value in schema.get("properties", {}).items():
            if "description" in value:
                seen.append(name)
            walk(value)
        for value in (schema.get("additionalProperties"), *schema.get("$defs", {}).values()):
            if isinstance(value, dict):
                walk(value)

    schema = target_json_schema(PROVIDERS)
    walk(schema)
    assert set(schema["properties"]) <= set(seen)
    assert {"weight", "regex", "gain", "sandbox", "base_url", "context_files"} <= set(seen)
    for record in (schema, schema["properties"]["checks"]["additionalProperties"], *schema["$defs"].values()):
        assert all(value["description"] for value in record["properties"].values())
        assert record.get("additionalProperties") in (False, {})
