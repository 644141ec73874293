from __future__ import annotations

import unittest

from stockroom import Movement, MovementError, parse_movement, read_movements


class ParseMovement(unittest.TestCase):
    def test_item_may_have_spaces(self) -> None:
        self.assertEqual(parse_movement("receive 40  bolt   M6"), Movement("receive", 40, "bolt M6"))

    def test_unknown_kind_is_refused(self) -> None:
        with self.assertRaisesRegex(MovementError, "unknown kind 'lose'"):
            parse_movement("lose 3 bolt")

    def test_quantity_must_be_positive(self) -> None:
        for count in ("0", "-4", "two", "1.5"):
            with self.subTest(count=count), self.assertRaisesRegex(MovementError, "positive whole number"):
                parse_movement(f"issue {count} bolt")

    def test_item_must_be_named(self) -> None:
        with self.assertRaisesRegex(MovementError, "expected KIND QUANTITY ITEM"):
            parse_movement("receive 40")


class ReadMovements(unittest.TestCase):
    def test_comments_and_empty_lines_are_left_out(self) -> None:
        text = "# March\n\nreceive 40 bolt\n  # returned\nissue 2 nut\n"
        self.assertEqual(read_movements(text), [Movement("receive", 40, "bolt"), Movement("issue", 2, "nut")])

    def test_error_names_the_line(self) -> None:
        with self.assertRaisesRegex(MovementError, "^line 3: unknown kind"):
            read_movements("receive 1 bolt\n\nborrow 1 bolt\n")


if __name__ == "__main__":
    unittest.main()
