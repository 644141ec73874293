from __future__ import annotations

import unittest

from stockroom import Ledger, Level, Movement, lots_needed, suggest_orders


class LotsNeeded(unittest.TestCase):
    def test_part_of_a_lot_is_a_whole_lot(self) -> None:
        self.assertEqual(lots_needed(15, Level(minimum=31, lot=10)), 2)

    def test_exact_lots_are_not_rounded_up(self) -> None:
        self.assertEqual(lots_needed(10, Level(minimum=30, lot=10)), 2)

    def test_nothing_is_needed_at_the_minimum_or_above(self) -> None:
        self.assertEqual(lots_needed(30, Level(minimum=30)), 0)
        self.assertEqual(lots_needed(31, Level(minimum=30)), 0)


class SuggestOrders(unittest.TestCase):
    def test_only_items_below_their_minimum_in_whole_lots(self) -> None:
        ledger = Ledger()
        ledger.apply(Movement("receive", 15, "nut"))
        ledger.apply(Movement("receive", 50, "bolt"))
        levels = {"washer": Level(5, lot=100), "nut": Level(30, lot=10), "bolt": Level(50)}
        self.assertEqual(list(suggest_orders(ledger, levels).items()), [("nut", 20), ("washer", 100)])


if __name__ == "__main__":
    unittest.main()
