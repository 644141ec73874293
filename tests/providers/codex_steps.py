"""What a scripted model tells codex to do, and the errand that sends codex to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .model_dialects import Step, Tool
from .proposing import Errand, SandboxMode, errand_for

if TYPE_CHECKING:
    from pathlib import Path

    from .model_server import ModelServer

PATCH = "*** Begin Patch\n*** Update File: AGENTS.md\n@@\n-old\n+new\n*** End Patch\n"
DONE = Step(text="All done.\nReally.")


def patch(text: str = PATCH) -> Step:
    return Step(tools=[Tool(name="apply_patch", input=text)])


def shell(command: str, **more: Any) -> Step:
    return Step(tools=[Tool(name="exec_command", args={"cmd": command, **more})])


def javascript(call: str) -> Step:
    return Step(tools=[Tool(name="exec", input=f"const r = await tools.{call}; text(r);")])


def make_errand(
    folder: Path, codex: Path, server: ModelServer, sandbox_mode: SandboxMode, *, timeout: float = 60, **backend: Any
) -> Errand:
    keys = {"model": "gpt-5.5", "base_url": f"{server.url}/v1", **backend}
    return errand_for("codex", codex, folder, sandbox_mode, timeout=timeout, **keys)
