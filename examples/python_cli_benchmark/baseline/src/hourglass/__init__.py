"""Sum up time sheets."""

from __future__ import annotations

from hourglass.entries import Entry, SheetError, parse_entry, read_sheet
from hourglass.report import format_hours, render_report, sum_minutes

__all__ = ["Entry", "SheetError", "format_hours", "parse_entry", "read_sheet", "render_report", "sum_minutes"]
