"""Schemas of single values: each reads its node, notes every problem, and gives its own JSON Schema.

Reading never stops at the first problem: a value that cannot be had is ``INVALID``, and ``Problems.check`` raises once
everything has been read. Lists and mappings are in ``records``.
"""

from __future__ import annotations

import difflib
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import TargetError
from .nodes import Faulty, Node, Pairs, Scalar, cut, escape, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INVALID: Final = object()
"""Given in place of a value that has problems."""

MAX_PROBLEMS = 200
"""Problems that are told one by one; of the rest only the number."""


class Problems:
    """The problems found so far in one file, each a line ``file:line: key: what is wrong``."""

    def __init__(self, shown_as: str) -> None:
        self._file = shown_as
        self._found: list[tuple[int, str]] = []
        self._untold = 0

    def __len__(self) -> int:
        return len(self._found) + self._untold

    @property
    def are_too_many(self) -> bool:
        """Whether further problems are only counted."""
        return len(self._found) >= MAX_PROBLEMS

    def add(self, line: int | None, key: str, text: str) -> None:
        """Note one problem of the value whose dotted name is *key* ("" for the file)."""
        if self.are_too_many:
            self._untold += 1
            return
        place = self._file if line is None else f"{self._file}:{line}"
        self._found.append((line or 0, escape(f"{place}: {key}: {text}" if key else f"{place}: {text}")))

    def check(self) -> None:
        """Return if there is no problem.

        :raises TargetError: with all problems, in the order of their lines.
        """
        if not self._found:
            return
        lines = [text for _, text in sorted(self._found, key=lambda found: found[0])]
        if self._untold:
            lines.append(escape(f"{self._file}: and {self._untold} more problems"))
        raise TargetError(tuple(lines))


class Schema(ABC):
    """What one value must be."""

    @property
    @abstractmethod
    def expects(self) -> str:
        """What completes the sentence "must be ..."."""

    @abstractmethod
    def read(self, node: Node, key: str, problems: Problems) -> Any:
        """Give the value of *node*, whose dotted name is *key*, or ``INVALID`` after noting its problems."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """Give the JSON Schema (draft 2020-12) of what ``read`` accepts, as far as JSON Schema can say it."""

    def refuse(self, node: Node, key: str, problems: Problems, advice: str = "") -> object:
        """Note that *node* is of another type, or cannot be had at all, and give ``INVALID``."""
        if isinstance(node, Faulty):
            problems.add(node.line, key, node.fault)
        else:
            problems.add(node.line, key, f"must be {self.expects}, got {show(node)}{advice}")
        return INVALID


@dataclass(frozen=True, kw_only=True)
class Text(Schema):
    """Text, not blank unless *least* says less, that matches *pattern* as a whole and survives *parse*.

    *meaning* says in words what *pattern* stands for. *parse* gives the value, or raises ``ValueError`` with words that
    follow "must"; *outline* tells editors roughly what it takes. The value of a *secret* is never shown.
    """

    least: Literal["nothing", "a character", "a word"] = "a word"
    pattern: str | None = None
    meaning: str = "text"
    parse: Callable[[str], str] | None = None
    outline: str | None = None
    secret: bool = False

    @property
    def expects(self) -> str:
        return self.meaning

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar) or node.type != "text":
            return self.refuse(node, key, problems, advise_quotes(node))
        text: str = node.value
        if self.least != "nothing" and not (text.strip() if self.least == "a word" else text):
            problems.add(node.line, key, "must not be empty")
            return INVALID
        if self.pattern is not None and re.fullmatch(self.pattern, text) is None:
            problems.add(node.line, key, f"must be {self.meaning}, got {self._show(node)}")
            return INVALID
        try:
            return text if self.parse is None else self.parse(text)
        except ValueError as error:
            problems.add(node.line, key, f"must {error}, got {self._show(node)}")
            return INVALID

    def _show(self, node: Scalar) -> str:
        return f"{len(node.value)} characters of text" if self.secret else show(node)

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        if pattern := self.pattern or self.outline:
            schema["pattern"] = f"^(?:{pattern})$"
        elif self.least == "a word":
            schema["pattern"] = r"\S"
        elif self.least == "a character":
            schema["minLength"] = 1
        return schema


@dataclass(frozen=True, kw_only=True)
class Choice(Schema):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expects(self) -> str:
        return f"one of {', '.join(self.words)}"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar) or node.type != "text":
            return self.refuse(node, key, problems, advise_quotes(node))
        if node.value in self.words:
            return node.value
        nearest = None if problems.are_too_many else find_nearest(node.value, self.words)
        return self.refuse(node, key, problems, f" (did you mean '{nearest}'?)" if nearest else "")

    def json_schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclass(frozen=True, kw_only=True)
class Flag(Schema):
    """``true`` or ``false``."""

    @property
    def expects(self) -> str:
        return "true or false"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if isinstance(node, Scalar) and node.type == "boolean":
            return node.value
        is_quoted = isinstance(node, Scalar) and node.written is None and node.value in {"true", "false"}
        return self.refuse(node, key, problems, " (remove the quotes)" if is_quoted else "")

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class Number(Schema):
    """A finite number within its bounds. *limit* is an upper bound that is named only where it is broken."""

    whole: bool = False
    above: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    limit: float = 1e100

    @property
    def expects(self) -> str:
        return "a whole number" if self.whole else "a number"

    def read(self, node: Node, key: str, problems: Problems) -> Any:
        if not isinstance(node, Scalar) or node.type != "number":
            return self.refuse(node, key, problems, _advise_number(node))
        demand = self._find_broken(node)
        if demand:
            problems.add(node.line, key, f"must be {demand}, got {show(node)}")
            return INVALID
        if is_ambiguous(node):
            advice = f"got {cut(str(node.written))} (YAML reads it as {node.value})"
            problems.add(node.line, key, f"must be a plain decimal number, {advice}")
            return INVALID
        return node.value if self.whole else float(node.value)

    def _find_broken(self, node: Scalar) -> str:
        number = node.value
        if math.isnan(number) or (math.isinf(number) and (node.written is None or "inf" in node.written.lower())):
            return "a finite number"
        if self.whole and isinstance(number, float) and math.isfinite(number):
            return "a whole number"
        if self.above is not None and number <= self.above:
            return f"> {_plain(self.above)}"
        is_below = self.minimum is not None and number < self.minimum
        is_beyond = self.maximum is not None and number > self.maximum
        if self.minimum is not None and self.maximum is not None and (is_below or is_beyond):
            return f"{_plain(self.minimum)} to {_plain(self.maximum)}"
        if self.minimum is not None and is_below:
            return f">= {_plain(self.minimum)}"
        if self.maximum is not None and is_beyond:
            return f"<= {_plain(self.maximum)}"
        return f"at most {_plain(self.limit)}" if abs(number) > self.limit else ""

    def json_schema(self) -> dict[str, Any]:
        largest = self.limit if self.maximum is None else self.maximum
        bounds = {"exclusiveMinimum": self.above, "minimum": self.minimum, "maximum": largest}
        given = {name: bound for name, bound in bounds.items() if bound is not None}
        return {"type": "integer" if self.whole else "number"} | given


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) and abs(bound) < 1e15 else f"{bound:g}"


# --------------------------------------------------------------------------------------------------------- advice


def find_nearest(word: str, known: Iterable[str]) -> str | None:
    """Give the one of *known* that *word* is most likely a slip of, or ``None``."""
    by_folded = {name.lower().replace("-", "_"): name for name in known}
    if len(word) > 40 or len(by_folded) > 100:  # no slip of the pen; and the comparison is slow
        return None
    nearest = difflib.get_close_matches(word.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[nearest[0]] if nearest else None


def advise_quotes(node: Node) -> str:
    """Give the reason why a value meant as text is none."""
    if isinstance(node, Pairs) and node.line is not None:
        return " (text with ': ' in it must be quoted)"
    if not isinstance(node, Scalar) or node.type == "text" or (node.type == "nothing" and not node.written):
        return ""
    if node.written is None:
        return " (quote it)"
    made = {"boolean": "a boolean", "number": "a number", "date": "a date", "nothing": "no value"}[node.type]
    return f" (YAML reads an unquoted {cut(node.written)} as {made}: quote it)"


def is_ambiguous(node: Scalar) -> bool:
    """Whether YAML 1.1 reads a number otherwise than most people: ``010`` is 8, ``1:30`` is 90."""
    return node.written is not None and (":" in node.written or re.match(r"[-+]?0[0-7_]", node.written) is not None)


def _advise_number(node: Node) -> str:
    if not isinstance(node, Scalar) or node.type != "text" or len(node.value) > 40:
        return ""
    try:
        number = float(node.value)
    except ValueError:
        return ""
    if not math.isfinite(number):
        return ""
    return " (remove the quotes)" if node.written is None else f" (YAML reads it as text: write {number})"
