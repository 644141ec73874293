from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml
from broken_targets import GOOD, PROVIDERS, TABLE

from pytest_metaharness.core.targets.fields import target_json_schema

UNSEEN = {
    # what only the disk can tell, and what a look at other keys can
    *("no-baseline", "baseline-is-file", "sealed-missing", "sealed-is-baseline", "sealed-inside", "sealed-around"),
    *("sealed-link", "pytest-without-sealed", "pytest-missing", "gate-checks-unknown"),
    # what only the spelling in YAML can
    *("twice", "twice-everything", "twice-check", "twice-nested", "gate-twice", "with-twice", "with-deep-twice"),
    *("backend-twice", "backend-provider-twice", "merge-key", "merge-list", "tagged-root", "with-tag", "with-date"),
    *("number-key", "boolean-key", "with-number-key", "budget-octal", "weight-octal", "timeout-minutes"),
    # what only the regular expression engine or arithmetic can
    *("regex", "regex-many", "regex-behind", "baseline-nul", "exit-code-fraction"),
    *("timeout-nan", "weight-nan", "with-nan", "with-huge", "backend-open-extra", "backend-open-number"),
}


def validator() -> jsonschema.Draft202012Validator:
    schema = target_json_schema(PROVIDERS)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_editors_accept_good_files(text: str) -> None:
    validator().validate(yaml.safe_load(text))


def test_editors_refuse_broken_files() -> None:
    checker = validator()
    refused: set[str] = set()
    accepted: set[str] = set()
    for name, broken in TABLE.items():
        try:
            content = yaml.safe_load(broken.content)
        except (yaml.YAMLError, ValueError):
            continue
        (accepted if checker.is_valid(content) else refused).add(name)
    assert accepted == UNSEEN
    assert len(refused) > 180


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
