"""What ``claude -p --output-format stream-json`` prints, taken line by line.

One event of the session's begin, then the model's messages (an event for each part) and the results of its tools, as
messages of the user's, and one ``result``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ..core.model import Tokens
from .events import cut_line, read_count, read_mapping, read_number, read_text, unwrap_error
from .transcript import Transcript

SHOWN = 80
"""Longest piece of a command that is shown in a reason, in characters."""

WRITERS = frozenset({"Bash", "Edit", "NotebookEdit", "Write"})
"""Tools whose refusal kept the agent from writing."""

_AROUND = re.compile(
    r"(?:Failed to authenticate\. )?API Error: (?:\d{3} )?| This is a server-side issue, .*", re.DOTALL
)
"""What Claude puts around a service's own sentence."""

_NO_SHELL = "No such tool available: Bash"
_REFUSED = re.compile(
    r"[^\n]*(?:is outside of the workspace|Claude requested permissions|requires approval|haven't granted"
    r"|Read-only file system|Permission denied|EROFS|EACCES)[^\n]*",
    re.IGNORECASE,
)
_MARK = re.compile(r"</?tool_use_error>")


class ClaudeTranscript(Transcript):
    """What Claude Code has said so far."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, str] = {}

    def take_event(self, event: Mapping[str, Any]) -> None:
        kind = read_text(event, "type")
        if kind == "system":
            self.has_begun = True
            if read_text(event, "subtype") == "api_retry":
                self.retry = _tell_retry(event)
        elif kind == "assistant":
            self.retry = ""
            for block in _list_blocks(event):
                self._take_block(block)
        elif kind == "user":
            for block in _list_blocks(event):
                self._take_result(block)
        elif kind == "result":
            self._take_end(event)

    def _take_block(self, block: Mapping[str, Any]) -> None:
        if read_text(block, "type") == "text":
            self.message = read_text(block, "text") or self.message
        elif read_text(block, "type") == "tool_use":
            call, name = read_text(block, "id"), read_text(block, "name")
            self._names[call] = name
            self.start_tool(call, _name_tool(name, read_mapping(block, "input")))

    def _take_result(self, block: Mapping[str, Any]) -> None:
        if read_text(block, "type") != "tool_result":
            return
        call = read_text(block, "tool_use_id")
        self.end_tool(call)
        if self.denial or self._names.get(call) not in WRITERS:
            return
        said = _MARK.sub("", _read_content(block))
        if _NO_SHELL in said:
            self.denial = "claude has no shell where our jail is not in use"
        elif found := _REFUSED.search(said):
            self.denial = cut_line(found[0], 2 * SHOWN)

    def _take_end(self, event: Mapping[str, Any]) -> None:
        """Take in the event of the end. Its ``subtype`` is ``success`` also when the service failed."""
        said = read_text(event, "result")
        if event.get("is_error") is False and not read_text(event, "subtype").startswith("error"):
            self.completed, self.failure = True, ""
            self.message = said or self.message
        else:
            self.completed = False
            self.failure = _tell_failure(event, said or self.message)
            self.message = ""  # a complaint, not the model's
        if _is_counted(event):
            self.tokens, self.cost_usd = _read_tokens(event), read_number(event, "total_cost_usd")


def _is_counted(event: Mapping[str, Any]) -> bool:
    """Whether the service was used at all."""
    return bool(read_mapping(event, "modelUsage") or read_count(read_mapping(event, "usage"), "output_tokens"))


def _read_tokens(event: Mapping[str, Any]) -> Tokens:
    """Add up what all models used: ``usage`` leaves out what was answered without a stream."""
    models = [model for model in read_mapping(event, "modelUsage").values() if isinstance(model, Mapping)]
    usage = read_mapping(event, "usage")

    def count(name: str, own: str) -> int:
        return sum(read_count(model, own) for model in models) if models else read_count(usage, name)

    cached = count("cache_read_input_tokens", "cacheReadInputTokens")
    stored = count("cache_creation_input_tokens", "cacheCreationInputTokens")
    return Tokens(
        input=count("input_tokens", "inputTokens") + cached + stored,
        cached=cached,
        output=count("output_tokens", "outputTokens"),
    )


def _tell_failure(event: Mapping[str, Any], said: str) -> str:
    errors = event.get("errors")
    if not said and isinstance(errors, list):
        said = "; ".join(error for error in errors if isinstance(error, str))
    said = unwrap_error(_AROUND.sub("", said)) or f"claude said that its turn failed ({read_text(event, 'subtype')})"
    status = read_count(event, "api_error_status")
    return f"status {status}: {said}" if status else said


def _tell_retry(event: Mapping[str, Any]) -> str:
    status, error = read_count(event, "error_status"), read_text(event, "error")
    told = f"status {status} {error}" if status else error or "unknown error"
    return f"{told}, try {read_count(event, 'attempt')} of {read_count(event, 'max_retries')} after the first"


def _list_blocks(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = read_mapping(event, "message").get("content")
    if isinstance(content, list):
        yield from (block for block in content if isinstance(block, Mapping))


def _read_content(block: Mapping[str, Any]) -> str:
    content = block.get("content")
    if isinstance(content, list):
        return "\n".join(read_text(part, "text") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _name_tool(name: str, given: Mapping[str, Any]) -> str:
    if name == "Bash":
        return f"command `{cut_line(read_text(given, 'command'), SHOWN)}`"
    path = read_text(given, "file_path")
    return f"tool `{name}`" + (f" on {PurePath(path).name}" if path else "")
