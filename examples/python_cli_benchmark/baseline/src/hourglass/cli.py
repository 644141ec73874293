"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hourglass.entries import Entry, SheetError, read_sheet
from hourglass.report import render_report, sum_minutes

GROUPS = {
    "project": lambda entry: entry.project,
    "day": lambda entry: entry.day.isoformat(),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that *arguments*, by default those of the program, ask for; return its exit code."""
    parser = argparse.ArgumentParser(prog="hourglass", description="Sum up time sheets.")
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser("report", help="print where the time of a sheet went")
    report.add_argument("sheet", type=Path)
    report.add_argument("--by", choices=sorted(GROUPS), default="project")
    check = commands.add_parser("check", help="tell which sheets cannot be read")
    check.add_argument("sheets", type=Path, nargs="+")

    options = parser.parse_args(arguments)
    if options.command == "check":
        return check_sheets(options.sheets)
    return print_report(options.sheet, options.by)


def print_report(sheet: Path, by: str) -> int:
    """Print the report on *sheet*; 1 when it cannot be read."""
    entries = load_entries(sheet)
    if entries is None:
        return 1
    sys.stdout.write(render_report(sum_minutes(entries, GROUPS[by])))
    return 0


def check_sheets(sheets: Sequence[Path]) -> int:
    """Return 1 when one of *sheets* cannot be read, 0 otherwise."""
    loaded = [load_entries(sheet) for sheet in sheets]
    return 1 if None in loaded else 0


def load_entries(sheet: Path) -> list[Entry] | None:
    """Return the entries of *sheet*; ``None``, after a message, when it cannot be read."""
    try:
        return read_sheet(sheet.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SheetError) as error:
        print(f"hourglass: {sheet}: {error}", file=sys.stderr)
        return None
