"""What to order so that no item stays below its minimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stockroom.ledger import Ledger


@dataclass(frozen=True)
class Level:
    """The least stock wanted of an item, and the lot it is sold in."""

    minimum: int
    lot: int = 1


def lots_needed(on_hand: int, level: Level) -> int:
    """Return how many whole lots bring *on_hand* up to the minimum."""
    missing = level.minimum - on_hand
    return -(-missing // level.lot) if missing > 0 else 0


def suggest_orders(ledger: Ledger, levels: Mapping[str, Level]) -> dict[str, int]:
    """Return the pieces to order of each item below its minimum, in whole lots, sorted by item."""
    orders = {item: lots_needed(ledger.on_hand(item), levels[item]) * levels[item].lot for item in sorted(levels)}
    return {item: pieces for item, pieces in orders.items() if pieces}
