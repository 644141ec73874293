"""Time sheets as text, one entry a line: ``2024-03-04 08:30-12:00 garden  pruned the hedge``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

ENTRY = re.compile(r"(\d{4}-\d\d-\d\d)\s+(\d\d):(\d\d)-(\d\d):(\d\d)\s+(\S+)(?:\s+(.*))?")


class SheetError(ValueError):
    """A line that is no entry."""


@dataclass(frozen=True)
class Entry:
    """So many minutes of one day were spent on a project."""

    day: date
    minutes: int
    project: str
    note: str = ""


def parse_entry(line: str) -> Entry:
    """Return the entry that *line* states.

    :raises SheetError: the line has another form, there is no such day or time, or it ends before it begins.
    """
    found = ENTRY.fullmatch(line.strip())
    if found is None:
        raise SheetError(f"expected DAY BEGIN-END PROJECT NOTE, got {line.strip()!r}")
    try:
        day = date.fromisoformat(found[1])
    except ValueError:
        raise SheetError(f"there is no day {found[1]}") from None
    begin, end = (_read_minutes(hours, minutes) for hours, minutes in ((found[2], found[3]), (found[4], found[5])))
    if end <= begin:
        raise SheetError(f"{found[4]}:{found[5]} is not after {found[2]}:{found[3]}")
    return Entry(day, end - begin, found[6], found[7] or "")


def _read_minutes(hours: str, minutes: str) -> int:
    if int(minutes) > 59 or int(hours) * 60 + int(minutes) > 24 * 60:
        raise SheetError(f"there is no time {hours}:{minutes}")
    return int(hours) * 60 + int(minutes)


def read_sheet(text: str) -> list[Entry]:
    """Return the entries in *text*; empty lines and comments are left out.

    :raises SheetError: a line is no entry; the message begins with its number.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entries.append(parse_entry(line))
        except SheetError as error:
            raise SheetError(f"line {number}: {error}") from None
    return entries
