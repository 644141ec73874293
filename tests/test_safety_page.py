"""The page on safety names a test for every row of its table, and the tests exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from doc_pages import ROOT

TEXT = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
TESTS = {file.name: file for file in (ROOT / "tests").rglob("test_*.py")}


def read_table(heading: str) -> dict[str, list[str]]:
    """Give the rows of the table that begins with *heading*, by their first cell."""
    table = TEXT.partition(f"\n{heading}")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {first.strip("| "): rest for first, *rest in rows}


GUARANTEES = read_table("| | in the jail |")
SHOWN_BY = {row: re.findall(r"`([^`]+)`", cells[0]) for row, cells in read_table("| row | tests |").items()}


def test_every_row_says_what_holds_in_every_place() -> None:
    assert len(GUARANTEES) >= 11
    for row, cells in GUARANTEES.items():
        assert len(cells) == 4, row
        assert all(cells), row


def test_every_row_names_its_tests() -> None:
    assert list(SHOWN_BY) == list(GUARANTEES)
    assert all(SHOWN_BY.values())


@pytest.mark.parametrize("name", sorted({name for names in SHOWN_BY.values() for name in names}))
def test_a_named_test_exists(name: str) -> None:
    module, _, function = name.partition("::")
    assert module in TESTS
    if function:
        assert function in list_tests(TESTS[module])


def list_tests(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
