"""The documentation is true and complete: its examples run, its words exist, and what exists is documented."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml
from doc_pages import (
    PAGES,
    PATH,
    ROOT,
    Block,
    Section,
    find_blocks,
    find_missing_lines,
    read_sections,
    run_example,
    slug,
    write_example,
)
from providers.codex_steps import DONE, patch
from providers.model_server import ModelServer
from providers.proposing import KEY

import pytest_metaharness
from pytest_metaharness.backends import PROVIDERS, fake
from pytest_metaharness.core.model import Candidate, Check, CheckRecord, Outcome, ProposalStatus, Run, RunStatus
from pytest_metaharness.core.proposals import ProposalRequest
from pytest_metaharness.core.store.snapshot import FILE_MB, FILES, TOTAL_MB
from pytest_metaharness.core.targets.backend_tables import read_backends
from pytest_metaharness.core.targets.fields import (
    CHECK,
    CONTAINS,
    GATE,
    GIT_BASELINE,
    LIMITS,
    target_json_schema,
    target_schema,
)
from pytest_metaharness.core.targets.load import load_target
from pytest_metaharness.core.targets.records import Record
from pytest_metaharness.options import DEFAULT_BUDGET, DEFAULT_TIMEOUT
from pytest_metaharness.plugin import HOOKS, INI_VALUES, pytest_addoption
from pytest_metaharness.registry import get_schemas
from pytest_metaharness.reports import LEDGER_COLUMNS, RUN_COLUMNS, Report

DOCS = ROOT / "docs"
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}

SECTIONS = [section for page in PAGES for section in read_sections(page) if section.commands]
WITH_CODEX = [section for section in SECTIONS if "--metaharness=codex-local" in str(section.commands)]
WITHOUT_CODEX = [section for section in SECTIONS if section not in WITH_CODEX]
ADDRESS = "http://127.0.0.1:8080"


def named(sections: Iterable[Section]) -> list[Any]:
    return [pytest.param(section, id=section.id) for section in sections]


# --------------------------------------------------------------------------------------------------- examples hold


@pytest.mark.parametrize("section", named(WITHOUT_CODEX))
def test_what_a_page_shows_is_what_happens(section: Section, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if section.page.name == "safety.md":
        request.getfixturevalue("bwrap")
    write_example(section, tmp_path)
    assert run_example(section, tmp_path) == ""


@pytest.mark.agents
@pytest.mark.parametrize("section", named(WITH_CODEX))
def test_codex_does_what_its_page_shows(section: Section, tmp_path: Path, codex: Path) -> None:
    write_example(section, tmp_path)
    target = tmp_path / "notes" / "metaharness.yaml"
    edit = (
        "*** Begin Patch\n*** Update File: AGENTS.md\n@@\n-Work carefully.\n+Run `make test`: Python.\n*** End Patch\n"
    )
    with ModelServer([patch(edit), DONE]) as server:
        text = target.read_text(encoding="utf-8")
        assert ADDRESS in text
        target.write_text(text.replace(ADDRESS, server.url), encoding="utf-8")
        assert run_example(section, tmp_path, CODEX_API_KEY=KEY, PATH=f"{codex.parent}{os.pathsep}{PATH}") == ""


def find_uv_commands() -> Iterator[str]:
    for section, block in find_blocks("sh"):
        if section.page.name == "ci.md":
            yield from (line for line in block.text.splitlines() if line.startswith(("uv ", "uvx ")))


@pytest.mark.skipif(not (shutil.which("uv") or os.environ.get("CI")), reason="uv is not installed (pip install uv)")
@pytest.mark.parametrize("command", list(find_uv_commands()), ids=lambda command: command.split()[0])
def test_uv_runs_it_from_a_clone(command: str, tmp_path: Path) -> None:
    shown = f"$ {command.replace('./pytest-metaharness', str(ROOT))}\n...\n1 passed in 1s\n"
    section = Section(
        page=DOCS / "ci.md", title="uv", blocks=(Block(language="console", text=shown, file=None),), around=()
    )
    write_example(section, tmp_path)
    base = Path(sys.base_prefix, "bin", "python3")  # an environment would have the plugin already
    assert run_example(section, tmp_path, UV_PYTHON=str(base), HOME=str(Path.home())) == ""


@pytest.mark.parametrize(
    "shown",
    [
        "one\n",
        "...\nthree\ntwo\n",
        "one 1.000\n...\nthree\n",
        "two\n...\none 0.200 in 1.5s\n",
        "... in 1.5s and more\n",
    ],
)
def test_a_page_that_is_wrong_is_noticed(shown: str) -> None:
    printed = "=== top ===\n\none   0.200 in 2s\ntwo\nthree\n"
    assert find_missing_lines("--- top\none 0.200 in 1.53s\n...\nthree\n", printed) == ""
    assert find_missing_lines("one ... in 1s\ntwo\n\nthree\n", printed) == ""
    assert find_missing_lines(shown, printed) != ""


# ------------------------------------------------------------------------------------------------ every block holds


def find_targets() -> Iterator[Any]:
    """Give every target file of the pages, and every fragment of one with what it lacks."""
    for section, block in find_blocks("yaml"):
        if block.file is None or block.file.endswith("metaharness.yaml"):
            yield pytest.param(block, id=f"{section.id}-{block.file or 'fragment'}")


@pytest.mark.parametrize("block", [each for each in find_targets() if "broken" not in str(each.id)])
def test_targets_of_the_pages_can_be_loaded(block: Block, tmp_path: Path) -> None:
    text = block.text
    given = yaml.safe_load(text)
    text += "" if "goal" in given else "goal: x\n"
    text += "" if "checks" in given else "checks: {a: {run: 'true'}}\n"
    for folder in (given.get("baseline", "baseline"), given.get("sealed")):
        if isinstance(folder, str):
            (tmp_path / folder).mkdir()
    for check in given.get("checks", {}).values():
        if "pytest" in check:
            (tmp_path / given["sealed"] / check["pytest"]).mkdir(parents=True)
    file = tmp_path / "metaharness.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_target(file, providers=get_schemas()).checks


@pytest.mark.parametrize("block", [pytest.param(block, id=section.id) for section, block in find_blocks("toml")])
def test_tables_of_the_pages_are_valid(block: Block) -> None:
    table = tomllib.loads(block.text)
    backends = table.get("tool", {}).get("metaharness", {}).get("backends", {})
    assert len(read_backends(backends, providers=get_schemas(), shown_as=str(block.file))) == len(backends)


def test_python_of_the_pages_is_python() -> None:
    for _, block in find_blocks("python"):
        compile(block.text, block.file or "python", "exec")


WORKFLOWS = [
    pytest.param(block, id=str(block.file)) for _, block in find_blocks("yaml") if ".github/" in (block.file or "")
]


@pytest.mark.parametrize("block", WORKFLOWS)
def test_workflows_are_sound(block: Block) -> None:
    workflow = yaml.safe_load(block.text)
    assert workflow.keys() == {"name", True, "permissions", "jobs"}  # "on" is true in YAML 1.1
    for job in workflow["jobs"].values():
        assert {"runs-on", "steps"} <= job.keys()
        for step in job["steps"]:
            assert len(step.keys() & {"uses", "run"}) == 1
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
    assert "pytest --metaharness" in block.text


# ------------------------------------------------------------------------------------------------- words that exist


def find_options() -> set[str]:
    class Options(argparse.ArgumentParser):
        """Stands for pytest's parser and its group."""

        def getgroup(self, *_: str) -> Options:
            return self

        def addoption(self, *names: str, **_: object) -> None:
            self.add_argument(*names)

        def addini(self, *_: object, **__: object) -> None:
            """Not of interest."""

    parser = Options(add_help=False)
    pytest_addoption(parser)  # type: ignore[arg-type]
    return {name for action in vars(parser)["_actions"] for name in action.option_strings}


def test_every_option_is_documented_and_no_other() -> None:
    options = find_options()
    assert options <= set(re.findall(r"`(--metaharness[a-z-]*)", TEXTS["options.md"]))
    for name, text in TEXTS.items():
        assert set(re.findall(r"--metaharness[a-z-]*\b(?!-)", text)) <= options, name


def test_every_ini_value_and_hook_is_documented_and_no_other() -> None:
    words = {"pytest_metaharness", *HOOKS, *INI_VALUES}
    for name, text in TEXTS.items():
        assert set(re.findall(r"\b(?:pytest_)?metaharness_\w+", text)) <= words, name
    assert set(INI_VALUES) <= find_codes("options.md")
    assert set(HOOKS) == {section.title for section in read_sections(DOCS / "hooks.md")} & set(HOOKS)


def find_codes(page: str) -> set[str]:
    """Give every word that stands in backquotes on *page*."""
    return set(re.findall(r"`([^`\n]+)`", TEXTS[page]))


def read_rows(page: str, heading: str) -> dict[str, list[str]]:
    """Give the rows of the table whose first column is called *heading*, by the word in it."""
    table = TEXTS[page].partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {row[0].strip("|` "): row[1:] for row in rows}


@pytest.mark.parametrize(
    ("page", "heading", "record"),
    [
        ("targets.md", "key", target_schema(get_schemas())),
        ("targets.md", "key of `limits`", LIMITS),
        ("targets.md", "key of `baseline`", GIT_BASELINE),
        ("targets.md", "key of `gate`", GATE),
        ("checks.md", "key of `contains`", CONTAINS),
    ],
    ids=["target", "limits", "git", "gate", "contains"],
)
def test_every_key_is_in_its_table(page: str, heading: str, record: Record) -> None:
    rows = read_rows(page, heading)
    assert list(rows) == list(record.fields)
    assert {name for name, (default, _) in rows.items() if default == "required"} == {
        name for name, field in record.fields.items() if field.required
    }


def test_every_key_of_a_check_is_documented_with_its_default() -> None:
    kinds, keys = read_rows("checks.md", "kind"), read_rows("checks.md", "key")
    assert {*kinds, *keys} == set(CHECK.fields)
    defaults = {field.name: field.default for field in msgspec.structs.fields(Check) if field.name in keys}
    spelled = {
        name: f"`{str(default).lower() if isinstance(default, bool) else f'{default:g}'}`"
        for name, default in defaults.items()
        if isinstance(default, int | float)
    }
    assert {name: keys[name][0] for name in spelled} == spelled


def test_defaults_are_the_documented_ones() -> None:
    limits, keys = read_rows("targets.md", "key of `limits`"), read_rows("targets.md", "key")
    assert [limits[name][0] for name in LIMITS.fields] == [f"`{value}`" for value in (FILE_MB, TOTAL_MB, FILES)]
    assert keys["budget"][0] == f"`{DEFAULT_BUDGET}`"
    assert keys["timeout"][0] == f"`{DEFAULT_TIMEOUT:g}`"


def test_every_provider_and_key_of_a_backend_is_documented() -> None:
    assert [name for name in read_rows("backends.md", "provider") if " " not in name] == list(PROVIDERS)
    documented = set(read_rows("backends.md", "key"))
    for name, own in get_schemas().items():
        if own.fields:
            assert set(read_rows("agents.md", f"key of `{name}`")) == set(own.fields)
        properties = target_json_schema(get_schemas())["$defs"][f"backend-{name}"]["properties"]
        assert documented == set(properties) - set(own.fields)
    assert set(read_rows("backends.md", "key of a proposal")) == set(fake._PROPOSAL.fields)


def test_every_attribute_of_a_request_is_documented() -> None:
    cells = ", ".join(read_rows("backends.md", "attribute of the request"))
    public = {name for name in (*vars(ProposalRequest), *ProposalRequest.__annotations__) if not name.startswith("_")}
    assert set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", cells))) == public


def test_every_field_column_and_word_of_the_report_is_documented() -> None:
    codes = find_codes("reports.md")
    records = (Report, Run, Candidate, CheckRecord)
    assert {field.encode_name for record in records for field in msgspec.structs.fields(record)} <= codes
    assert {*RUN_COLUMNS, *LEDGER_COLUMNS} <= codes
    assert list(read_rows("reports.md", "outcome")) == list(get_args(Outcome))
    assert set(read_rows("reports.md", "status")) == set(get_args(RunStatus))
    assert set(get_args(ProposalStatus)) <= find_codes("backends.md") | find_codes("agents.md")


def test_every_public_name_is_documented() -> None:
    assert set(pytest_metaharness.__all__) <= set(re.findall(r"\w+", "".join(TEXTS.values())))


# -------------------------------------------------------------------------------------------------------- links lead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXTS[page.name], flags=re.MULTILINE | re.DOTALL)
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", prose):
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), path
        if anchor:
            assert anchor in {slug(section.title) for section in read_sections(file)}, f"{path}#{anchor}"


def test_every_page_is_listed_in_the_readme() -> None:
    listed = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", TEXTS["README.md"]))
    assert listed == {page.name for page in PAGES if page.parent == DOCS}
