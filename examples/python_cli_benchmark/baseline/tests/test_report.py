from __future__ import annotations

import unittest
from datetime import date

from hourglass import Entry, format_hours, render_report, sum_minutes


class SumMinutes(unittest.TestCase):
    def test_minutes_of_a_group_add_up_and_groups_are_sorted(self) -> None:
        entries = [Entry(date(2024, 3, 4), minutes, project) for minutes, project in ((30, "b"), (20, "a"), (12, "b"))]
        self.assertEqual(list(sum_minutes(entries, lambda entry: entry.project).items()), [("a", 20), ("b", 42)])


class FormatHours(unittest.TestCase):
    def test_minutes_have_two_digits(self) -> None:
        self.assertEqual([format_hours(minutes) for minutes in (5, 59, 60, 725)], ["0:05", "0:59", "1:00", "12:05"])


class RenderReport(unittest.TestCase):
    def test_table_ends_with_the_total(self) -> None:
        table = "a              0:30\nbb             0:45\ntotal          1:15\n"
        self.assertEqual(render_report({"a": 30, "bb": 45}), table)


if __name__ == "__main__":
    unittest.main()
