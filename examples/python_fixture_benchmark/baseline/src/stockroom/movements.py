"""Movements as text, one a line: ``receive 40 bolt M6`` or ``issue 12 bolt M6``."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("receive", "issue")


class MovementError(ValueError):
    """A line that is no movement."""


@dataclass(frozen=True)
class Movement:
    """So many pieces of an item came in (``receive``) or went out (``issue``)."""

    kind: str
    quantity: int
    item: str


def parse_movement(line: str) -> Movement:
    """Return the movement that *line* states.

    :raises MovementError: the line has another form, or its quantity is not positive.
    """
    words = line.split(maxsplit=2)
    if len(words) != 3:
        raise MovementError(f"expected KIND QUANTITY ITEM, got {line.strip()!r}")
    kind, count, item = words
    if kind not in KINDS:
        raise MovementError(f"unknown kind {kind!r}, expected one of {', '.join(KINDS)}")
    if not count.isdecimal() or int(count) == 0:
        raise MovementError(f"quantity must be a positive whole number, got {count!r}")
    return Movement(kind, int(count), " ".join(item.split()))


def read_movements(text: str) -> list[Movement]:
    """Return the movements in *text*; empty lines and lines that begin with ``#`` are left out.

    :raises MovementError: a line is no movement; the message begins with its number.
    """
    movements = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            movements.append(parse_movement(line))
        except MovementError as error:
            raise MovementError(f"line {number}: {error}") from None
    return movements
