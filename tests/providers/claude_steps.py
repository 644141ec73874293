"""What a scripted model tells claude to do, and the errand that sends claude to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .model_dialects import Step, Tool
from .proposing import Errand, SandboxMode, errand_for

if TYPE_CHECKING:
    from pathlib import Path

    from .model_server import ModelServer

DONE = Step(text="All done.\nReally.")


def read(path: str | Path) -> Tool:
    return Tool(name="Read", args={"file_path": str(path)})


def write(path: str | Path, content: str = "new\n") -> Tool:
    return Tool(name="Write", args={"file_path": str(path), "content": content})


def edit(path: str | Path, old: str = "old", new: str = "new") -> Tool:
    """Edit a file that was read in an earlier turn."""
    return Tool(name="Edit", args={"file_path": str(path), "old_string": old, "new_string": new})


def shell(command: str) -> Tool:
    return Tool(name="Bash", args={"command": command, "description": "Work."})


def use(*tools: Tool, text: str = "I will.") -> Step:
    return Step(text=text, tools=list(tools))


def make_errand(
    folder: Path, claude: Path, server: ModelServer, sandbox_mode: SandboxMode, *, timeout: float = 60, **backend: Any
) -> Errand:
    keys = {"model": "claude-sonnet-4-5", "base_url": server.url, **backend}
    return errand_for("claude", claude, folder, sandbox_mode, timeout=timeout, **keys)
