"""A small stock ledger: read movements, know what is on hand, suggest what to order."""

from __future__ import annotations

from stockroom.ledger import Ledger, OutOfStockError
from stockroom.movements import Movement, MovementError, parse_movement, read_movements
from stockroom.reorder import Level, lots_needed, suggest_orders

__all__ = [
    "Ledger",
    "Level",
    "Movement",
    "MovementError",
    "OutOfStockError",
    "lots_needed",
    "parse_movement",
    "read_movements",
    "suggest_orders",
]
