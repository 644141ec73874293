from __future__ import annotations

import unittest

from stockroom import Ledger, Movement, OutOfStockError


class LedgerStock(unittest.TestCase):
    def setUp(self) -> None:
        self.ledger = Ledger()
        self.ledger.apply(Movement("receive", 40, "bolt"))

    def test_receipts_add_up(self) -> None:
        self.ledger.apply(Movement("receive", 2, "bolt"))
        self.assertEqual(self.ledger.on_hand("bolt"), 42)

    def test_issues_are_taken_away(self) -> None:
        self.ledger.apply(Movement("issue", 15, "bolt"))
        self.assertEqual(self.ledger.on_hand("bolt"), 25)

    def test_everything_may_go_out(self) -> None:
        self.ledger.apply(Movement("issue", 40, "bolt"))
        self.assertEqual(self.ledger.on_hand("bolt"), 0)
        self.assertEqual(self.ledger.items(), [])

    def test_stock_never_becomes_negative(self) -> None:
        with self.assertRaisesRegex(OutOfStockError, "bolt: 41 wanted, 40 on hand"):
            self.ledger.apply(Movement("issue", 41, "bolt"))
        self.assertEqual(self.ledger.on_hand("bolt"), 40)

    def test_unknown_item_is_not_on_hand(self) -> None:
        self.assertEqual(self.ledger.on_hand("washer"), 0)

    def test_items_are_sorted(self) -> None:
        self.ledger.apply(Movement("receive", 1, "anchor"))
        self.assertEqual(self.ledger.items(), ["anchor", "bolt"])


if __name__ == "__main__":
    unittest.main()
