"""Every agent in every case: the real programs, and only the model scripted.

What came of it is what the session's report says; the table of all cells is printed in the summary of the test run.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .matrix import FILES, play
from .matrix_table import note_cell
from .players import CASES, PLAYERS
from .projects import Project

TIMEOUT_S, HANGING_S = 60.0, {"opencode": 8.0}
"""The timeout of a proposal, and where its model hangs: six seconds, or more where it would not be asked until then."""

SPARE_S = 10.0
"""What a candidate may take beyond the timeout of its proposal."""

REFUSALS = 3
"""How often an agent shows a key that was refused, by itself; we do not ask for more."""

CUT = "stream was cut off|stream disconnected|connection was closed|Connection to the API was lost"

EXPECTED = {
    "edits two files": ("keep", r"0\.000 -> 1\.000"),
    "no change": ("no-change", r"the backend changed no file"),
    "401": ("unavailable", r".*status 401\b.*: scripted: this key is not known.*; check the key in {key}"),
    "500": ("unavailable", r".*(scripted: out of order|experiencing high demand).*; try again later"),
    "no login": ("error", r"backend 'mine': no credentials for {program}; set {key} or run `{program}.*`"),
    "tries to write outside": (
        "no-change",
        r"its edits were denied: .*(/canary/new\.txt|outside|read_only_file_system).*",
    ),
    "hangs": ("timeout", r"no answer within \d s: (the model was silent|it said nothing)"),
    "stream cut": ("unavailable", rf".*({CUT}).*; check base_url {{server}}.*"),
}
"""Outcome of each case, and what must be read of its reason."""


@pytest.mark.agents
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PLAYERS)
def test_cell(name: str, case: str, sandbox_mode: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    player = PLAYERS[name]
    program: Path = request.getfixturevalue(player.program)
    project = Project(tmp_path)
    timeout = HANGING_S.get(name, 6.0) if case == "hangs" else TIMEOUT_S
    cell = play(player, case, project, program=program, sandbox=sandbox_mode, timeout=timeout)
    note_cell(request.node, name, case, sandbox_mode, cell)

    outcome, pattern = {**EXPECTED, **player.expected}[case]
    reason = pattern.format(key=player.key, program=player.program, server=re.escape(cell.server))
    assert cell.outcome == outcome, cell.output
    assert re.fullmatch(reason, cell.reason), cell.reason
    assert cell.proposal_s < timeout + SPARE_S
    if cell.outcome == "error":
        assert cell.turns == 0
    else:
        assert cell.turns > 0 or case == "hangs"  # where starting alone took that long
    if case == "401":
        assert cell.turns <= REFUSALS
    if case == "edits two files":
        assert cell.changed_files == list(FILES)
    assert cell.is_kept == (case == "edits two files")

    project.check_nothing_is_left()
