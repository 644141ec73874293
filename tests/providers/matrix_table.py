"""The table of the matrix: cells are noted on the reports of their tests, and printed when all have run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from .players import CASES, PLAYERS

if TYPE_CHECKING:
    import pytest

    from .matrix import Cell

PROPERTY = "matrix cell"
"""The property of a test's report that has the cell, which thus comes from a worker too."""

MODES = {"auto": "jailed", "off": "not jailed"}


class Row(NamedTuple):
    """A cell as it is noted."""

    agent: str
    case: str
    mode: str
    outcome: str
    reason: str
    seconds: str


def note_cell(node: pytest.Item, agent: str, case: str, sandbox: str, cell: Cell) -> None:
    """Note what came of a cell for the table; what differs from run to run is left out of it."""
    reason = cell.reason.replace(cell.server, "SERVER").replace(str(cell.root), "")
    row = Row(agent, case, MODES[sandbox], cell.outcome, reason, f"{cell.seconds:.1f}")
    node.user_properties.append((PROPERTY, "\t".join(row)))


def write_table(reporter: pytest.TerminalReporter) -> None:
    """Print the table; nothing when no cell was tested."""
    reports = (report for outcome in ("passed", "failed") for report in reporter.stats.get(outcome, ()))
    properties = (each for report in reports for each in getattr(report, "user_properties", ()))
    if rows := [Row(*text.split("\t")) for name, text in properties if name == PROPERTY]:
        reporter.section("agents and cases")
        for line in draw_table(rows):
            reporter.write_line(line)


def draw_table(rows: Iterable[Row]) -> Iterator[str]:
    """Give the lines of the table, in Markdown; isolations with the same result share a line."""
    agents, cases = list(PLAYERS), list(CASES)
    found: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (agents.index(row.agent), cases.index(row.case), row.mode)):
        found.setdefault((row.agent, row.case), []).append(row)
    yield "| agent | case | isolation | outcome | reason | s |"
    yield "|---|---|---|---|---|---|"
    for cells in found.values():
        first = cells[0]
        if len(cells) == len(MODES) and len({(cell.outcome, cell.reason) for cell in cells}) == 1:
            seconds = " / ".join(cell.seconds for cell in cells)
            yield f"| {' | '.join(first._replace(mode='both', seconds=seconds))} |"
        else:
            yield from (f"| {' | '.join(cell)} |" for cell in cells)
