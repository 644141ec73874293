"""The matrix of agents and cases: what the scripted model tells each agent, and a session for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .model_dialects import Step
from .model_server import ModelServer
from .players import DONE, MODEL, Player
from .projects import Project
from .proposing import KEY

FILES = ("AGENTS.md", "notes.md")
"""What the baseline has, and what a script that edits makes better."""

SYSTEM_FILE = Path("/usr/metaharness-test.txt")
"""What nobody but root may write, and no agent."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What came of one session: *outcome* is that of its candidate, or ``error`` of an item that did not begin.

    *seconds* is what the session took, *proposal_s* what its candidate did; *turns* is how often the model was asked,
    *changed_files* what the best candidate changed.
    """

    root: Path
    server: str
    outcome: str
    reason: str
    seconds: float
    proposal_s: float
    turns: int
    output: str
    changed_files: Sequence[str] = ()
    is_kept: bool = False


def write_script(player: Player, case: str, project: Project, *, jailed: bool) -> Sequence[Step]:
    """Tell what the model says in *case*."""
    edits = player.write(dict.fromkeys(FILES, "new\n"))
    outside = dict.fromkeys((str(project.canary / "new.txt"), "../new.txt", str(project.home / "new.txt")), "new\n")
    leaving = [*player.write(outside)]
    if player.can_run(jailed=jailed):
        leaving.append(player.shell("; ".join(f"echo new > {path}" for path in (*outside, SYSTEM_FILE))))
    return {
        "edits two files": [*edits, DONE],
        "no change": [Step(text="Nothing to change.")],
        "401": [Step(status=401, message="scripted: this key is not known")],
        "500": [Step(status=500, message="scripted: out of order")],
        "no login": [*edits, DONE],
        "tries to write outside": [*leaving, DONE],
        "hangs": [Step(hang=True, text="I will")],
        "stream cut": [*edits, Step(torn=True, text="I have")],  # what was edited until then must not count
    }[case]


def play(player: Player, case: str, project: Project, *, program: Path, sandbox: str, timeout: float) -> Cell:
    """Run pytest on a target, with the real program and the scripted model."""
    has_login = case != "no login"
    with ModelServer(write_script(player, case, project, jailed=sandbox == "auto"), models=[MODEL]) as server:
        table = player.configure(server.url) if has_login else player.without_login
        project.write_target("t", {"executable": str(program), **table}, FILES)
        before = project.list_files()
        ran = project.run(
            "-pno:xdist",
            "--metaharness=mine",
            f"--metaharness-sandbox={sandbox}",
            f"--metaharness-timeout={timeout}",
            env={player.key: KEY} if player.key and has_login else {},
        )
        turns = len(server.turns)
    assert project.list_files() == before
    assert not SYSTEM_FILE.exists()
    if not ran.runs:
        outcome, reason, proposal_s, run = "error", "; ".join(dict.fromkeys(ran.problems)), 0.0, {}
    else:
        assert project.read_neighbours() == (["state", "workspace"],) * 2
        (run,) = ran.runs
        outcome, reason, proposal_s = (run["candidates"][1][key] for key in ("outcome", "reason", "duration_s"))
    return Cell(
        root=project.root,
        server=server.url,
        outcome=outcome,
        reason=reason,
        seconds=ran.seconds,
        proposal_s=proposal_s,
        turns=turns,
        output=ran.output,
        changed_files=run.get("changed_files", ()),
        is_kept=run.get("improved", False),
    )
