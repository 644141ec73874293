"""What ``codex exec --json`` prints, taken line by line.

Every line is one event. Items (messages, commands, patches, ...) start and complete; the turn completes or fails.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..core.model import Tokens
from .events import cut_line, read_count, read_mapping, read_text, unwrap_error
from .transcript import Transcript

TOOLS = frozenset({"command_execution", "file_change", "mcp_tool_call", "collab_tool_call", "web_search"})
"""Types of items that are calls of tools."""

SHOWN = 80
"""Longest piece of a command that is shown in a reason, in characters."""

ATTEMPTS = 3
"""How often a service may fail, for ten seconds, before it is given up; by itself codex takes half a minute."""

BREAK = "stream disconnected"
"""An answer that breaks off. Codex asks again five times in six seconds, which may save the work of an hour."""

_RETRY = re.compile(r"Reconnecting\.\.\. (?P<number>\d+)/\d+(?: \((?P<reason>.*)\))?", re.DOTALL)
_REFUSED = re.compile(r"unexpected status 4\d\d\b")

_DENIALS = (
    (re.compile(r"patch rejected: (?P<what>[^;\n]+)"), "{}"),
    (re.compile(r"(?P<what>Refusing to create helper binaries[^(\n]*)"), "codex could not set up its sandbox: {}"),
    (re.compile(r"(?P<what>Failed to write file [^\n]+)"), "{}"),
    (re.compile(r"sandbox violation: resource=filesystem.* reason=(?P<what>\w+)"), "codex's own sandbox refused: {}"),
)


class CodexTranscript(Transcript):
    """What codex has said so far."""

    def __init__(self) -> None:
        super().__init__()
        self._complaint = ""
        self._has_left_socket = False

    def take_event(self, event: Mapping[str, Any]) -> None:
        kind = read_text(event, "type")
        if kind.startswith("item."):
            self._take_item(kind, read_mapping(event, "item"))
        elif kind == "turn.started":
            self.has_begun = True
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
            if again := _RETRY.match(message):
                self._take_retry(message, int(again["number"]), again["reason"] or "its answers broke off")
            else:
                self._complaint = message

    def _take_retry(self, message: str, number: int, reason: str) -> None:
        """Note that a request is made again; *number* counts from 1, and anew once one has succeeded.

        Codex tries a WebSocket first, and HTTP where that fails as often; the first failure of a WebSocket is not told.
        """
        self.retry = message
        self._has_left_socket |= number == 1
        if self._has_left_socket and number >= ATTEMPTS and not reason.startswith(BREAK):
            self.completed, self.is_hopeless = False, True
            is_refused = _REFUSED.match(reason)  # which says all: it is not that the service is busy
            self.failure = reason if is_refused else f"{reason.rstrip('.')} (its service failed {number} times)"

    def find_denial(self, stderr: str) -> str | None:
        for pattern, text in _DENIALS:
            if found := pattern.search(stderr):
                return cut_line(text.format(found["what"].strip()))
        return super().find_denial(stderr)

    def _take_item(self, kind: str, item: Mapping[str, Any]) -> None:
        self.retry = ""
        of_type, name = read_text(item, "type"), read_text(item, "id")
        if of_type == "agent_message":
            self.message = read_text(item, "text") or self.message
        if of_type not in TOOLS:
            return
        if kind == "item.started":
            self.start_tool(name, _name_tool(item))
        elif kind == "item.completed":
            self.end_tool(name)
            if of_type == "command_execution" and not self.denial:
                self.denial = _find_refused_write(read_text(item, "aggregated_output"))


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
