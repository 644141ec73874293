"""What a scripted model tells gemini to do, and the errand that sends gemini to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .model_dialects import Step, Tool
from .proposing import Errand, SandboxMode, errand_for

if TYPE_CHECKING:
    from pathlib import Path

    from .model_server import ModelServer

DONE = Step(text="All done.\nReally.")


def write(path: str | Path, content: str = "new\n") -> Tool:
    return Tool(name="write_file", args={"file_path": str(path), "content": content})


def edit(path: str | Path, old: str = "old", new: str = "new") -> Tool:
    args = {"file_path": str(path), "instruction": "update", "old_string": old, "new_string": new}
    return Tool(name="replace", args=args)


def read(path: str | Path) -> Tool:
    return Tool(name="read_file", args={"file_path": str(path)})


def shell(command: str) -> Tool:
    return Tool(name="run_shell_command", args={"command": command, "description": "Work."})


def use(*tools: Tool, text: str = "I will.") -> Step:
    return Step(text=text, tools=list(tools))


def make_errand(
    folder: Path, gemini: Path, server: ModelServer, sandbox_mode: SandboxMode, *, timeout: float = 60, **backend: Any
) -> Errand:
    keys = {"model": "gemini-2.5-flash", "base_url": server.url, **backend}
    return errand_for("gemini", gemini, folder, sandbox_mode, timeout=timeout, **keys)
