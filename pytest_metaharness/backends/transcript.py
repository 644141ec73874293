"""What an agent has said so far, read from its events line by line; each agent's own events are read by a subclass."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .events import cut_line, read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.model import Tokens


class Transcript(ABC):
    """What an agent has said so far.

    *completed* and *failure* are set by the events that end its work, and by no other: a notice that a request is
    tried again is neither, but *retry*. Unknown events and lines that are no JSON objects are passed over. *tokens*
    and *cost_usd* stay ``None`` where the agent tells none. *failure* is the service's sentence or the agent's own,
    with ``status NNN`` in it where there was an HTTP status. *is_hopeless* is set, with *failure*, by an agent that
    would go on for minutes when its service is dead: it is ended then.
    """

    def __init__(self) -> None:
        self.completed = False
        self.is_hopeless = False
        self.failure = ""
        self.message = ""
        self.tokens: Tokens | None = None
        self.cost_usd: float | None = None
        self.denial = ""
        self.retry = ""
        self.has_begun = False
        self._tools: set[str] = set()
        self._running: dict[str, tuple[str, float]] = {}
        self._state = ""

    @property
    def tool_calls(self) -> int:
        """How many tools were called, those that never came back included."""
        return len(self._tools)

    def take(self, line: bytes) -> None:
        """Take in one line of standard output."""
        event = read_object(line)
        if event is not None:
            self.take_event(event)

    def take_stderr(self, line: bytes) -> None:  # noqa: B027 - few agents need it
        """Take in one line of standard error, for agents that say there what they do not say in events."""

    @abstractmethod
    def take_event(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""

    def start_tool(self, call: str, what: str) -> None:
        """Note that *call* (its id) has begun; *what* is shown if it never ends, such as ``command `make```."""
        self._tools.add(call)
        self._running[call] = what, time.monotonic()

    def end_tool(self, call: str) -> None:
        """Note that *call* is over, also when it was never said to have begun."""
        self._tools.add(call)
        self._running.pop(call, None)

    def forget_tool(self, call: str) -> None:
        """Take back that *call* was made, where an event under its real id tells of it."""
        self._tools.discard(call)
        self._running.pop(call, None)

    def keep_state(self) -> None:
        """Keep what the agent is doing: it is being stopped, and what it says from now on tells only of that."""
        self._state = self._state or self.tell_state()

    def tell_state(self) -> str:
        """Tell what the agent was doing when it was stopped."""
        if self._state:
            return self._state
        if self.completed or self.failure:
            return "its turn was over, but it did not end"
        if self._running:
            what, since = min(self._running.values(), key=lambda running: running[1])
            return f"its {what} had been running for {time.monotonic() - since:.0f} s"
        if self.retry:
            return f"its service could not be used ({cut_line(self.retry)})"
        return "the model was silent" if self.has_begun else "it said nothing"

    def find_denial(self, stderr: str) -> str | None:  # noqa: ARG002 - for agents that say it there
        """Tell what kept the agent from writing, from its events and its *stderr*; ``None`` when nothing did."""
        return self.denial or None

    def find_failure(self, stderr: str) -> str:  # noqa: ARG002 - for agents that say more there
        """Give *failure*, with what *stderr* knows more about it, such as the HTTP status."""
        return self.failure

    def find_complaint(self, stderr: str) -> str:
        """Give the line of *stderr* that says most: the last that calls itself an error, or the last at all."""
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"error\b", line, re.IGNORECASE)]
        return cut_line((errors or lines or ["it said nothing"])[-1])
