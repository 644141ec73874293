"""What ``opencode run --format json`` prints, taken line by line.

Steps (requests to the model) start and finish; a tool is told of once it has ended, most of a step at its end. What
goes on meanwhile is in the log alone, which is on standard error: requests that failed and are tried again, commands
that run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..core.model import Tokens
from .events import cut_line, read_count, read_mapping, read_number, read_text
from .transcript import Transcript

ATTEMPTS = 3
"""How often a request may fail, for seven seconds, before its service is given up. By itself opencode tries six times,
which takes more than a minute, and without end where it gets answers that do not end.
"""

SHOWN = 160
"""Longest piece of a tool's output that is shown in a reason, in characters."""

SHELL = "bash"
NO_SHELL = "opencode has no shell where our jail is not in use"
WRITERS = frozenset({"edit", "write", "apply_patch", SHELL})
"""Tools whose refusal kept the agent from writing."""

_VALUE = r'(?P<value>"(?:[^"\\]|\\.)*"|\S+)'
_STEP = re.compile(r"level=INFO .*message=loop ")
_REQUEST = re.compile(r"level=INFO .*message=stream .* small=false ")
_FAILED_REQUEST = re.compile(
    rf'level=ERROR .*message="stream error" .*small=false (?:.*error\.error(?:\.message)?|.*error\.error\.\w+)={_VALUE}'
)
_COMMAND = re.compile(rf"message=evaluated permission={SHELL} pattern={_VALUE} .*\baction\.action=allow\b")
_ERROR = re.compile(rf"level=ERROR .*\berror(?:\.\w+)?={_VALUE}")
_LOG_LINE = re.compile(r"timestamp=\S+ level=")

_UNAVAILABLE = re.compile(r"tried to call unavailable tool")
_FORBIDDEN = re.compile(r"specified a rule which prevents|rejected permission")
_REFUSED_WRITE = re.compile(
    r"[^\n]*(?:Read-only file system|Permission denied|Operation not permitted|EROFS|EACCES)[^\n]*"
)
_PATCHED = re.compile(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)
_NOISE = re.compile(r"^AI_\w+Error: | \(cause: .*\)$|\s*For more information, pass `verbose: true`[^()]*(?:\(\))?")


class OpencodeTranscript(Transcript):
    """What opencode has said so far."""

    _COMMAND_CALL = "the command that the log tells of"

    def __init__(self) -> None:
        super().__init__()
        self._requests = self._errors = self._unended = 0
        self._logs_steps = False

    def take_event(self, event: Mapping[str, Any]) -> None:
        kind, part = read_text(event, "type"), read_mapping(event, "part")
        if kind == "step_start":
            self.has_begun = True
        elif kind == "text":
            self.message = read_text(part, "text") or self.message
        elif kind == "tool_use":
            self._take_tool(part)
        elif kind == "step_finish":
            self._take_step(part)
        elif kind == "error":
            self.completed = False
            self.failure = _read_failure(read_mapping(event, "error"))

    def take_stderr(self, line: bytes) -> None:
        """Take in one line of the log; after several requests in a row that failed the service is given up."""
        text = line.decode("utf-8", "replace")
        if _STEP.search(text):
            self._logs_steps = True
            self._forget_failures()
        elif _REQUEST.search(text):
            self.has_begun = True
            self._requests += 1
            self._count_failures()
        elif command := _COMMAND.search(text):
            self.start_tool(self._COMMAND_CALL, f"command `{cut_line(_unquote(command['value']), SHOWN)}`")
        elif failed := _FAILED_REQUEST.search(text):
            self.retry = _NOISE.sub("", _unquote(failed["value"]))
            self._errors += 1
            self._count_failures()

    def find_failure(self, stderr: str) -> str:
        """Give the log's error where the event's only refers to it."""
        errors = _ERROR.findall(stderr) if "server logs" in self.failure else []
        return _NOISE.sub("", _unquote(errors[-1])) if errors else self.failure

    def find_complaint(self, stderr: str) -> str:
        """Give the last error of the log, or what was said outside of it."""
        if errors := _ERROR.findall(stderr):
            return cut_line(_NOISE.sub("", _unquote(errors[-1])))
        said = "\n".join(line for line in stderr.splitlines() if not _LOG_LINE.match(line))
        return "it does not understand its args" if "\nOptions:\n" in said else super().find_complaint(said)

    def _count_failures(self) -> None:
        """Give up after ATTEMPTS. Errors are told at once; that a stream was cut is not, only the next request is."""
        failed = max(self._errors, self._requests - 1)
        if failed >= ATTEMPTS:
            self._give_up(self.retry.rstrip(".") or "the stream was cut off", failed)

    def _give_up(self, said: str, failed: int) -> None:
        self.completed, self.is_hopeless = False, True
        self.failure = f"{said} (its service failed {failed} times)"

    def _forget_failures(self) -> None:
        self.retry, self._requests, self._errors = "", 0, 0

    def _go_on(self) -> None:
        """Forget what the log told of: it is over. The events of a step may come after the log of the next one."""
        self.forget_tool(self._COMMAND_CALL)
        if not self._logs_steps:
            self._forget_failures()

    def _take_tool(self, part: Mapping[str, Any]) -> None:
        self._go_on()
        self._unended = 0
        self.end_tool(read_text(part, "callID"))
        if not self.denial and (tool := read_text(part, "tool")) in WRITERS:
            self.denial = _find_denial(tool, read_mapping(part, "state"))

    def _take_step(self, part: Mapping[str, Any]) -> None:
        """Take in the end of a step, which was the last one unless tools were called."""
        self._go_on()
        reason = read_text(part, "reason")
        self.completed = reason not in {"tool-calls", "unknown", ""}
        self._unended = self._unended + 1 if reason == "unknown" else 0
        if self.completed:
            self.failure = ""
        elif self._unended >= ATTEMPTS:
            self._give_up("the stream ended before the answer was over", self._unended)
        used, before = read_mapping(part, "tokens"), self.tokens or Tokens()
        cache = read_mapping(used, "cache")
        read, written = read_count(cache, "read"), read_count(cache, "write")
        tokens = Tokens(
            input=before.input + read_count(used, "input") + read + written,
            cached=before.cached + read,
            output=before.output + read_count(used, "output") + read_count(used, "reasoning"),
        )
        self.tokens = tokens if tokens != Tokens() else None  # a service that tells none makes zeros
        if cost := read_number(part, "cost"):  # 0 for a model whose price is not known
            self.cost_usd = (self.cost_usd or 0.0) + cost


def _find_denial(tool: str, state: Mapping[str, Any]) -> str:
    """Tell how *tool* was kept from writing; "" when it was not."""
    error, given = read_text(state, "error"), read_mapping(state, "input")
    if _UNAVAILABLE.search(error):
        return NO_SHELL if tool == SHELL else ""
    if _FORBIDDEN.search(error):
        paths = [read_text(given, "filePath"), *_PATCHED.findall(read_text(given, "patchText"))]
        return f"{tool} of {cut_line(', '.join(filter(None, paths)), SHOWN) or 'this'} is not allowed"
    found = _REFUSED_WRITE.search(error or read_text(state, "output"))
    return f"{tool} met '{cut_line(found[0], SHOWN)}'" if found else ""


def _read_failure(error: Mapping[str, Any]) -> str:
    data = read_mapping(error, "data")
    message = read_text(data, "message") or read_text(error, "name") or "opencode said that its turn failed"
    status = read_count(data, "statusCode")
    return f"status {status}: {_NOISE.sub('', message)}" if status else _NOISE.sub("", message)


def _unquote(value: str) -> str:
    """Give a value of a log line without its quotes."""
    try:
        said = json.loads(value)
    except ValueError:
        return value
    return said if isinstance(said, str) else value
