"""Where the time went."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hourglass.entries import Entry


def sum_minutes(entries: Iterable[Entry], by: Callable[[Entry], str]) -> dict[str, int]:
    """Return the minutes of each group that *by* puts entries into, sorted by its name."""
    minutes: dict[str, int] = {}
    for entry in entries:
        group = by(entry)
        minutes[group] = minutes.get(group, 0) + entry.minutes
    return dict(sorted(minutes.items()))


def format_hours(minutes: int) -> str:
    """Return *minutes* as hours and minutes, ``7:05``."""
    return f"{minutes // 60}:{minutes % 60:02d}"


def render_report(minutes: Mapping[str, int]) -> str:
    """Return a table, a line per group and one for the total."""
    rows = [*minutes.items(), ("total", sum(minutes.values()))]
    return "".join(f"{name:<12}{format_hours(count):>7}\n" for name, count in rows)
