"""What ``gemini --output-format stream-json`` prints, taken line by line.

The user's message comes first, then pieces of the model's, uses of tools with their results, and one ``result``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..core.model import Tokens
from .events import cut_line, read_count, read_mapping, read_object, read_text
from .transcript import Transcript

SHOWN = 80
"""Longest piece of a command that is shown in a reason, in characters."""

SHELL = "run_shell_command"
WRITERS = frozenset({"write_file", "replace", SHELL})
"""Tools whose refusal kept the agent from writing."""

_API_ERROR = re.compile(r"\[API Error: (?P<what>.*?)\](?:\n.*)?", re.DOTALL)
"""The service's error, and maybe advice for those who sit at the terminal."""

_STATUS = re.compile(r"^(?:Attempt \d+ failed with status |\s*(?:status|code): )(?P<code>[45]\d\d)\b", re.MULTILINE)
_NOISE = re.compile(r"Warning:|Ripgrep is not|\[STARTUP\]|at |[{}]|(?:status|code): |Attempt \d+ failed|Approval mode")
_DENIAL = re.compile(
    r"[^\n]*(?:not in workspace|denied by policy|requires explicit user|Blocked:"
    r"|Read-only file system|Permission denied|Operation not permitted|EROFS|EACCES)[^\n]*"
)


class GeminiTranscript(Transcript):
    """What Gemini CLI has said so far."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, str] = {}
        self._is_new_message = True

    def take_event(self, event: Mapping[str, Any]) -> None:
        kind = read_text(event, "type")
        if kind == "message":
            self.has_begun = True
            if read_text(event, "role") == "assistant":
                self.message = ("" if self._is_new_message else self.message) + read_text(event, "content")
                self._is_new_message = False
        elif kind == "tool_use":
            self._is_new_message = True
            call, name = read_text(event, "tool_id"), read_text(event, "tool_name")
            self._names[call] = name
            self.start_tool(call, _name_tool(name, read_mapping(event, "parameters")))
        elif kind == "tool_result":
            self._take_result(event)
        elif kind == "result":
            self._take_end(event)

    def find_failure(self, stderr: str) -> str:
        """Add the HTTP status, which gemini leaves out where it knows a sentence of the error."""
        found = None if "status " in self.failure else next(reversed([*_STATUS.finditer(stderr)]), None)
        return f"status {found['code']}: {self.failure}" if self.failure and found else self.failure

    def find_complaint(self, stderr: str) -> str:
        """Give the first line of *stderr* that is no notice of every run: advice and stack traces follow it."""
        lines = [line.strip() for line in stderr.splitlines()]
        told = [line for line in lines if line and not _NOISE.match(line)]
        return cut_line(told[0]) if told else "it said nothing"

    def _take_result(self, event: Mapping[str, Any]) -> None:
        call = read_text(event, "tool_id")
        self.end_tool(call)
        name = self._names.get(call)
        if self.denial or name not in WRITERS:
            return
        if name == SHELL and read_text(event, "error", "type") == "tool_not_registered":
            self.denial = "gemini has no shell where our jail is not in use"
        elif found := _DENIAL.search(read_text(event, "error", "message") or read_text(event, "output")):
            self.denial = cut_line(found[0], 2 * SHOWN)

    def _take_end(self, event: Mapping[str, Any]) -> None:
        self.completed = read_text(event, "status") == "success"
        if not self.completed:
            self.failure = _read_failure(read_text(event, "error", "message")) or "gemini said that its turn failed"
        stats = read_mapping(event, "stats")
        total, given = read_count(stats, "total_tokens"), read_count(stats, "input_tokens")
        if total:  # which alone has the tokens of the model's thoughts
            output = max(read_count(stats, "output_tokens"), total - given)
            self.tokens = Tokens(input=given, cached=read_count(stats, "cached"), output=output)


def _read_failure(message: str) -> str:
    """Give the service's own sentence, which may be wrapped in JSON more than once, after its HTTP status."""
    found = _API_ERROR.fullmatch(message.strip())
    said = found["what"] if found else message
    status = ""
    while (inner := read_object(said.encode("utf-8", "replace"))) is not None:
        error = read_mapping(inner, "error") or inner
        code, said = error.get("code"), read_text(error, "message")
        if isinstance(code, int):
            status = f"status {code} {read_text(error, 'status')}".strip()
    if said == "terminated":
        said = "the stream was cut off (terminated)"
    return ": ".join(part for part in (status, said) if part)


def _name_tool(name: str, parameters: Mapping[str, Any]) -> str:
    if name == SHELL:
        return f"command `{cut_line(read_text(parameters, 'command'), SHOWN)}`"
    path = read_text(parameters, "file_path")
    return f"tool `{name}`" + (f" on {PurePath(path).name}" if path else "")
