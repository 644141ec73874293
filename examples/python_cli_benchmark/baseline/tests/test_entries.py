from __future__ import annotations

import unittest
from datetime import date

from hourglass import Entry, SheetError, parse_entry, read_sheet


class ParseEntry(unittest.TestCase):
    def test_note_may_have_spaces(self) -> None:
        entry = parse_entry("2024-03-04 08:30-12:00 garden  pruned the hedge")
        self.assertEqual(entry, Entry(date(2024, 3, 4), 210, "garden", "pruned the hedge"))

    def test_note_may_be_left_out(self) -> None:
        self.assertEqual(parse_entry("2024-03-04 08:30-08:31 garden").note, "")

    def test_day_may_end_at_midnight(self) -> None:
        self.assertEqual(parse_entry("2024-03-04 23:00-24:00 garden").minutes, 60)

    def test_entry_must_end_after_it_begins(self) -> None:
        for times in ("08:30-08:30", "08:30-08:29"):
            with self.subTest(times=times), self.assertRaisesRegex(SheetError, "is not after 08:30"):
                parse_entry(f"2024-03-04 {times} garden")

    def test_day_and_times_must_exist(self) -> None:
        for line in ("2024-02-30 08:00-09:00 x", "2024-03-04 08:60-09:00 x", "2024-03-04 08:00-24:01 x"):
            with self.subTest(line=line), self.assertRaisesRegex(SheetError, "there is no"):
                parse_entry(line)

    def test_project_must_be_named(self) -> None:
        with self.assertRaisesRegex(SheetError, "expected DAY BEGIN-END PROJECT NOTE"):
            parse_entry("2024-03-04 08:00-09:00")


class ReadSheet(unittest.TestCase):
    def test_comments_and_empty_lines_are_left_out(self) -> None:
        text = "# March\n\n2024-03-04 08:00-09:00 garden\n  # rain\n"
        self.assertEqual(len(read_sheet(text)), 1)

    def test_error_names_the_line(self) -> None:
        with self.assertRaisesRegex(SheetError, "^line 3: expected"):
            read_sheet("# March\n\nall day garden\n")


if __name__ == "__main__":
    unittest.main()
