"""What a scripted model tells opencode to do, and the errand that sends opencode to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .model_dialects import Step, Tool
from .proposing import Errand, SandboxMode, errand_for

if TYPE_CHECKING:
    from pathlib import Path

    from .model_server import ModelServer

DONE = Step(text="All done.\nReally.")


def write(path: str | Path, content: str = "new\n") -> Tool:
    return Tool(name="write", args={"filePath": str(path), "content": content})


def edit(path: str | Path, old: str = "old", new: str = "new") -> Tool:
    return Tool(name="edit", args={"filePath": str(path), "oldString": old, "newString": new})


def read(path: str | Path) -> Tool:
    return Tool(name="read", args={"filePath": str(path)})


def patch(text: str) -> Tool:
    """Patch files, as models called ``gpt-`` do."""
    return Tool(name="apply_patch", args={"patchText": f"*** Begin Patch\n{text}*** End Patch\n"})


def shell(command: str) -> Tool:
    return Tool(name="bash", args={"command": command, "description": "Work."})


def use(*tools: Tool, text: str = "I will.") -> Step:
    return Step(text=text, tools=list(tools))


def make_errand(
    folder: Path, opencode: Path, server: ModelServer, sandbox_mode: SandboxMode, *, timeout: float = 90, **backend: Any
) -> Errand:
    keys = {"model": "lab/model:1", "api": "chat", "api_key": "MY_KEY", "base_url": f"{server.url}/v1", **backend}
    return errand_for("opencode", opencode, folder, sandbox_mode, timeout=timeout, **keys)
