"""What ``pi --mode json`` prints, taken line by line.

Messages (the model's are turns) and calls of tools start, go on and end. Lines that tell how they go on, or repeat what
was said before, make up nearly all of the output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..core.model import Tokens
from .events import cut_line, read_count, read_mapping, read_number, read_text, unwrap_error
from .transcript import Transcript

SHOWN = 80
"""Longest piece of a command that is shown in a reason, in characters."""

SHELL = "bash"
WRITERS = frozenset({"edit", "write", SHELL})
"""Tools whose refusal kept the agent from writing."""

_REPETITIONS = tuple(
    f'{{"type":"{kind}"'.encode()
    for kind in ("message_update", "message_start", "tool_execution_update", "turn_end", "agent_end")
)
_ERROR = re.compile(r"^(?P<status>[45]\d\d)(?: status code)?\b[ :]*(?P<what>.*)$", re.DOTALL)
_OUTSIDE = re.compile(r".* is outside the workspace\b")
_REFUSED_WRITE = re.compile(
    r"[^\n]*(?:Read-only file system|Permission denied|Operation not permitted|EROFS|EACCES)[^\n]*"
)


class PiTranscript(Transcript):
    """What pi has said so far."""

    def take(self, line: bytes) -> None:
        if not line.startswith(_REPETITIONS):
            super().take(line)

    def take_event(self, event: Mapping[str, Any]) -> None:
        kind = read_text(event, "type")
        if kind == "turn_start":
            self.has_begun = True
        elif kind == "message_end":
            message = read_mapping(event, "message")
            if read_text(message, "role") == "assistant":
                self._take_message(message)
        elif kind == "tool_execution_start":
            name, call = read_text(event, "toolName"), read_text(event, "toolCallId")
            self.start_tool(call, _name_tool(name, read_mapping(event, "args")))
        elif kind == "tool_execution_end":
            self.end_tool(read_text(event, "toolCallId"))
            if not self.denial and read_text(event, "toolName") in WRITERS:
                self.denial = _find_denial(read_text(event, "toolName"), read_mapping(event, "result"))
        elif kind == "auto_retry_start":
            self.retry, self.failure = _read_error(read_text(event, "errorMessage")), ""

    def _take_message(self, message: Mapping[str, Any]) -> None:
        """Take in a message of the model's: the last one, unless it calls tools, or failed and is asked for again."""
        self.retry = ""
        usage, before = read_mapping(message, "usage"), self.tokens or Tokens()
        read, written = read_count(usage, "cacheRead"), read_count(usage, "cacheWrite")
        used = Tokens(
            input=before.input + read_count(usage, "input") + read + written,
            cached=before.cached + read,
            output=before.output + read_count(usage, "output"),
        )
        self.tokens = used if used != Tokens() else None  # a request that fails reports none, as zeros
        if cost := read_number(read_mapping(usage, "cost"), "total"):  # 0 for a model whose price is not known
            self.cost_usd = (self.cost_usd or 0.0) + cost
        self.message = _read_texts(message) or self.message
        reason = read_text(message, "stopReason")
        failed = reason in {"error", "aborted"}
        self.completed = not failed and reason not in {"toolUse", ""}
        said = _read_error(read_text(message, "errorMessage")) or "pi said that its turn failed"
        self.failure = said if failed else ""


def _find_denial(tool: str, result: Mapping[str, Any]) -> str:
    """Tell how *tool* was kept from writing; "" when it was not."""
    said = _read_texts(result)
    if tool == SHELL and said == f"Tool {SHELL} not found":
        return "pi has no shell where our jail is not in use"
    if found := _OUTSIDE.match(said):
        return f"{tool}: {cut_line(found[0], 2 * SHOWN)}"
    found = _REFUSED_WRITE.search(said)
    return f"{tool} met '{cut_line(found[0], 2 * SHOWN)}'" if found else ""


def _read_texts(holder: Mapping[str, Any]) -> str:
    """Give the texts among the parts of a message, or of a tool's result."""
    content = holder.get("content")
    parts = content if isinstance(content, list) else []
    return "\n".join(filter(None, (read_text(part, "text") for part in parts if isinstance(part, Mapping))))


def _read_error(message: str) -> str:
    """Give the service's sentence after its HTTP status, with which messages of most services begin."""
    if message == "terminated":
        return "the stream was cut off (terminated)"
    found = _ERROR.match(message.strip())
    return f"status {found['status']}: {unwrap_error(found['what']) or 'no reason given'}" if found else message


def _name_tool(name: str, args: Mapping[str, Any]) -> str:
    if name == SHELL:
        return f"command `{cut_line(read_text(args, 'command'), SHOWN)}`"
    path = read_text(args, "path")
    return f"tool `{name}`" + (f" on {PurePath(path).name}" if path else "")
