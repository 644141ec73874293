"""Many agents in one session: all of them on the real benchmarks, several of the same kind, and no more than may be."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from .model_dialects import Body, Step
from .model_server import ModelServer
from .players import DONE, MODEL, PLAYERS, Player
from .projects import Project
from .proposing import KEY

pytestmark = pytest.mark.agents

EXAMPLES = Path(__file__).parents[2] / "examples"
BENCHMARKS = {"python_fixture_benchmark": "Stockroom", "python_cli_benchmark": "Hourglass"}
"""The real benchmarks, and what their goals speak of."""

AGENTS = ("codex", "gemini", "opencode", "pi", "claude")
NAMES = ("one", "two", "three")


def read_solution(benchmark: str) -> Mapping[str, str]:
    """Give the files that make *benchmark* perfect."""
    played = yaml.safe_load((EXAMPLES / benchmark / "fake.yaml").read_text())
    solution: Mapping[str, str] = played["proposals"][0]["files"]
    return solution


class Solver:
    """The script of a model that reads the brief, as it is told to, and then knows which benchmark it is about."""

    def __init__(self, player: Player) -> None:
        self._begin = [player.read(".metaharness/BRIEF.md")]
        self._ends = {word: [*player.write(read_solution(benchmark)), DONE] for benchmark, word in BENCHMARKS.items()}

    def __call__(self, body: Body) -> Sequence[Step]:
        text = json.dumps(body)
        return [*self._begin, *next((steps for word, steps in self._ends.items() if word in text), [])]


def test_all_agents_make_both_benchmarks_perfect(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    project = Project(tmp_path)
    players = {name: PLAYERS[name] for name in AGENTS}
    with ModelServer({name: Solver(player) for name, player in players.items()}) as server:
        tables = [
            {**player.configure(f"{server.url}/s/{name}"), "executable": str(request.getfixturevalue(player.program))}
            for name, player in players.items()
        ]
        project.write({"pyproject.toml": "[tool.pytest]\n" + "".join(map(write_table, tables))})
        for benchmark in BENCHMARKS:
            shutil.copytree(EXAMPLES / benchmark, project.folder / "examples" / benchmark)
        folders = [f"examples/{benchmark}" for benchmark in BENCHMARKS]
        keys = {player.key: KEY for player in players.values() if player.key}
        ran = project.run(f"--metaharness={','.join(AGENTS)}", "-n5", *folders, env=keys)
    assert ran.returncode == 0, ran.output
    assert KEY not in ran.output
    assert sorted((run["target"], run["backend"]) for run in ran.runs) == sorted(
        (benchmark, agent) for benchmark in BENCHMARKS for agent in AGENTS
    )
    for run in ran.runs:
        assert (run["best"], run["proposals"], run["outcomes"]) == (1.0, 1, {"keep": 1}), run
        assert run["changed_files"] == sorted(read_solution(run["target"]))
        assert run["provider"] == run["backend"]
        assert run["candidates"][1]["tool_calls"] > 1
        assert run["tokens"]["input"] > run["tokens"]["cached"] > 0
        assert run["tokens"]["output"] > 0
    project.check_nothing_is_left()


def write_table(table: Mapping[str, Any]) -> str:
    """Write a backend called like its provider, as in a ``pyproject.toml``."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    return "\n".join([f"[tool.metaharness.backends.{table['provider']}]", *lines, ""])


class Meeting:
    """The scripts of three models who do nothing before all have been asked."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._asked: set[str] = set()
        self._changed = threading.Condition()

    def make_script(self, name: str) -> Any:
        def give(_body: Body) -> Sequence[Step]:
            with self._changed:
                self._asked.add(name)
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: len(self._asked) == len(NAMES), timeout=50)
            return [*self._player.write({f"{name}.md": "new\n"}), DONE]

        return give


@pytest.mark.parametrize("name", PLAYERS)
def test_three_of_the_same_agent_at_once(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    player, project = PLAYERS[name], Project(tmp_path)
    meeting = Meeting(player)
    with ModelServer({each: meeting.make_script(each) for each in NAMES}, models=[MODEL]) as server:
        write_targets(project, player, server, request, {})
        environ = {player.key: KEY} if player.key else {}
        ran = project.run("--metaharness=mine", "--metaharness-sandbox=off", "-n3", env=environ)
    assert ran.returncode == 0, ran.output
    assert {run["target"]: (run["best"], run["changed_files"]) for run in ran.runs} == {
        each: (1.0, [f"{each}.md"]) for each in NAMES
    }
    project.check_nothing_is_left()


def write_targets(
    project: Project, player: Player, server: ModelServer, request: pytest.FixtureRequest, keys: Mapping[str, Any]
) -> None:
    """Write three targets, each with a file of its own to edit and a script of its own."""
    program = str(request.getfixturevalue(player.program))
    for each in NAMES:
        table = player.configure(f"{server.url}/s/{each}")
        project.write_target(each, {**table, **keys, "executable": program}, [f"{each}.md"])


def test_one_seat_is_never_taken_twice(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    player, project = PLAYERS["codex"], Project(tmp_path)
    scripts = {each: [*player.write({f"{each}.md": "new\n"}), DONE] for each in NAMES}
    with ModelServer(scripts) as server:
        write_targets(project, player, server, request, {"parallel": 1})
        ran = project.run("--metaharness=mine", "-n3", env={player.key: KEY} if player.key else {})
        asked = [turn.script for turn in server.turns]
    assert ran.returncode == 0, ran.output
    assert [run["best"] for run in ran.runs] == [1.0] * 3
    in_turn = [each for number, each in enumerate(asked) if number == 0 or asked[number - 1] != each]
    assert (len(asked), sorted(in_turn)) == (6, sorted(NAMES))  # the turns of each are in one piece


def test_a_service_that_recovers_is_asked_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    player, project = PLAYERS["claude"], Project(tmp_path)
    requests: list[str] = []

    def give(_body: Body) -> Sequence[Step]:
        requests.append("")
        if len(requests) <= 3:  # what claude makes of one failure
            return [Step(status=500)]
        return [*player.write({"one.md": "new\n"}), DONE]

    with ModelServer(give) as server:
        table = {**player.configure(server.url), "executable": str(request.getfixturevalue(player.program))}
        project.write_target("one", table, ["one.md"])
        ran = project.run("--metaharness=mine", "--metaharness-retries=1", env={player.key: KEY} if player.key else {})
    (run,) = ran.runs
    assert (run["best"], run["proposals"], run["outcomes"]) == (1.0, 1, {"keep": 1}), ran.output
    (journal,) = ran.folder.glob("*/journal.jsonl")
    events = map(json.loads, journal.read_text().splitlines())
    (refused,) = (event["reason"] for event in events if event["event"] == "proposal-refused")
    assert refused == "status 500: scripted 500; try again later"
    project.check_nothing_is_left()
