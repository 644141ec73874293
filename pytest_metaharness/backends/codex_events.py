"""What ``codex exec --json`` prints, taken line by line.

Every line is one event. Items (messages, commands, patches, ...) start and complete; the turn completes or fails.
Unknown events and lines that are no objects are passed over.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..core.model import Tokens
from .events import cut_line, read_count, read_mapping, read_object, read_text, unwrap_error

TOOLS = frozenset({"command_execution", "file_change", "mcp_tool_call", "collab_tool_call", "web_search"})
"""Types of items that are calls of tools."""

SHOWN = 80
"""Longest piece of a command that is shown in a reason, in characters."""

_RETRY = re.compile(r"Reconnecting\.\.\. ")

_DENIALS = (
    (re.compile(r"patch rejected: (?P<what>[^;\n]+)"), "{}"),
    (re.compile(r"(?P<what>Refusing to create helper binaries[^(\n]*)"), "codex could not set up its sandbox: {}"),
    (re.compile(r"(?P<what>Failed to write file [^\n]+)"), "{}"),
    (re.compile(r"sandbox violation: resource=filesystem.* reason=(?P<what>\w+)"), "codex's own sandbox refused: {}"),
)


class Transcript:
    """What codex has said so far.

    *completed* and *failure* are set by the events that end a turn; a notice that a request is tried again is neither.
    """

    def __init__(self) -> None:
        self.completed = False
        self.failure = ""
        self.message = ""
        self.tokens: Tokens | None = None
        self._started = False
        self._complaint = ""
        self._retry = ""
        self._tools: set[str] = set()
        self._running: dict[str, tuple[str, float]] = {}
        self._denial = ""

    @property
    def tool_calls(self) -> int:
        """How many tools were called, those that never came back included."""
        return len(self._tools)

    def take(self, line: bytes) -> None:
        """Take in one line of standard output."""
        event = read_object(line)
        if event is None:
            return
        kind = read_text(event, "type")
        if kind.startswith("item."):
            self._take_item(kind, read_mapping(event, "item"))
        elif kind == "turn.started":
            self._started = True
        elif kind == "turn.completed":
            self.completed, self.failure = True, ""
            usage = read_mapping(event, "usage")
            self.tokens = Tokens(
                input=read_count(usage, "input_tokens"),
                cached=read_count(usage, "cached_input_tokens"),
                output=read_count(usage, "output_tokens"),
            )
        elif kind == "turn.failed":
            self.completed = False
            message = read_text(event, "error", "message") or self._complaint or "codex said that its turn failed"
            self.failure = unwrap_error(message)
        elif kind == "error":
            message = read_text(event, "message")
            if _RETRY.match(message):
                self._retry = message
            else:
                self._complaint = message

    def tell_state(self) -> str:
        """Tell what codex was doing when it was stopped."""
        if self.completed or self.failure:
            return "its turn was over, but it did not end"
        if self._running:
            what, since = min(self._running.values(), key=lambda running: running[1])
            return f"its {what} had been running for {time.monotonic() - since:.0f} s"
        if self._retry:
            return f"its service could not be used ({cut_line(self._retry)})"
        return "the model was silent" if self._started else "it said nothing"

    def find_denial(self, stderr: str) -> str | None:
        """Tell what kept codex from writing, from its events and its *stderr*; ``None`` when nothing did."""
        for pattern, text in _DENIALS:
            if found := pattern.search(stderr):
                return cut_line(text.format(found["what"].strip()))
        return self._denial or None

    def _take_item(self, kind: str, item: Mapping[str, Any]) -> None:
        self._retry = ""
        of_type, name = read_text(item, "type"), read_text(item, "id")
        if of_type == "agent_message":
            self.message = read_text(item, "text") or self.message
        if of_type not in TOOLS:
            return
        self._tools.add(name)
        if kind == "item.started":
            self._running[name] = _name_tool(item), time.monotonic()
        elif kind == "item.completed":
            self._running.pop(name, None)
            if of_type == "command_execution" and not self._denial:
                self._denial = _find_refused_write(read_text(item, "aggregated_output"))


def _find_refused_write(output: str) -> str:
    """Tell how a sandbox kept a command from writing; "" when it did not."""
    if found := re.match(r"bwrap: [^\n]*", output):
        return f"codex's own sandbox cannot start here ({cut_line(found[0], 120)}); set `sandbox: danger-full-access`"
    found = re.search(r"[^\n]*Read-only file system", output)
    return f"a command met '{cut_line(found[0], 2 * SHOWN)}'" if found else ""


def _name_tool(item: Mapping[str, Any]) -> str:
    kind = read_text(item, "type")
    if kind == "command_execution":
        return f"command `{cut_line(_strip_shell(read_text(item, 'command')), SHOWN)}`"
    if kind == "file_change":
        changes = item.get("changes")
        paths = [read_text(change, "path") for change in changes if isinstance(change, Mapping)] if changes else []
        return f"patch of {', '.join(PurePath(path).name for path in paths[:3]) or 'files'}"
    if kind == "mcp_tool_call":
        return f"tool `{read_text(item, 'server')}.{read_text(item, 'tool')}`"
    return "search of the web" if kind == "web_search" else f"tool `{read_text(item, 'tool') or kind}`"


def _strip_shell(command: str) -> str:
    """Give *command* without the shell that codex puts around it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    is_wrapped = len(words) == 3 and words[1] in {"-c", "-lc"} and PurePath(words[0]).name in {"bash", "sh", "zsh"}
    return words[2] if is_wrapped else command
