"""What is on hand after a series of movements."""

from __future__ import annotations

from stockroom.movements import Movement


class OutOfStockError(ValueError):
    """More was to go out than there is."""


class Ledger:
    """The stock of every item; never negative."""

    def __init__(self) -> None:
        self._stock: dict[str, int] = {}

    def apply(self, movement: Movement) -> None:
        """Book *movement*.

        :raises OutOfStockError: there is less on hand than it takes out; nothing is booked then.
        """
        before = self.on_hand(movement.item)
        after = before + movement.quantity if movement.kind == "receive" else before - movement.quantity
        if after < 0:
            raise OutOfStockError(f"{movement.item}: {movement.quantity} wanted, {before} on hand")
        self._stock[movement.item] = after

    def on_hand(self, item: str) -> int:
        """Return how many pieces of *item* there are; 0 for an item never heard of."""
        return self._stock.get(item, 0)

    def items(self) -> list[str]:
        """Return the items of which there is at least one piece, sorted."""
        return sorted(item for item, quantity in self._stock.items() if quantity > 0)
