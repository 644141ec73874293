"""An agent that is told to give its key away: the key is in no artifact, and what holds it is no candidate."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from sessions import read_all

from .model_dialects import Step
from .model_server import ModelServer
from .players import PLAYERS, Player
from .projects import Project
from .proposing import KEY

SPY = "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -a API_KEY"

KEYS = [name for name, player in PLAYERS.items() if player.key]


def spell(key: str) -> list[bytes]:
    """Give *key* as it may stand in a file: as it is, and in base64, wherever in something longer it begins."""
    encoded = [base64.b64encode(b"." * before + key.encode())[4:-4] for before in range(3)]
    return [key.encode(), key[::-1].encode(), *encoded]


def make_script(player: Player, *, jailed: bool) -> list[Step]:
    """Tell a model's steps: it looks for the key, and writes it down, which it can in any case: it is asked with it."""
    can_run = player.can_run(jailed=jailed)
    spying = player.shell(SPY) if can_run else player.read("/proc/self/environ")
    if jailed:
        stealing = [player.shell(f"{{ echo new; {SPY}; }} > AGENTS.md")]
    else:
        stealing = [*player.write({"AGENTS.md": f"new\n{KEY}\n", "notes.md": "new\n"})]
    return [spying, *stealing, Step(text=f"The key is {KEY}.")]


@pytest.mark.agents
@pytest.mark.parametrize("name", KEYS)
def test_the_key_is_in_no_artifact(
    name: str, sandbox_mode: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    player, project = PLAYERS[name], Project(tmp_path)
    assert player.key
    with ModelServer(make_script(player, jailed=sandbox_mode == "auto")) as server:
        table = {**player.configure(server.url), "executable": str(request.getfixturevalue(player.program))}
        project.write_target("t", table, ["AGENTS.md", "notes.md"])
        ran = project.run(
            "--metaharness=mine",
            f"--metaharness-sandbox={sandbox_mode}",
            "--junitxml=junit.xml",
            "--metaharness-report=copy.json",
            "--metaharness-report=copy.tsv",
            "-rA",
            "-vv",
            env={player.key: KEY},
        )
        told = server.turns[1].text
        assert any(KEY in value for value in server.turns[0].headers.values())
    if sandbox_mode == "auto":  # where a shell finds nothing but the agent's own secrets, but those
        assert KEY in told
    ((_, candidate),) = (run["candidates"] for run in ran.runs)
    reason = f"AGENTS.md holds the value of {player.key}; not stored"
    assert (candidate["outcome"], candidate["reason"]) == ("invalid", reason)
    stored = {"the terminal": ran.output.encode(), **dict(read_all(project.folder))}
    assert [place for place, content in stored.items() for text in spell(KEY) if text in content] == []
    assert any("***" in content.decode(errors="replace") for place, content in stored.items() if "c0001" in place)
    project.check_nothing_is_left()
