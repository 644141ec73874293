"""Reading what agents print: JSON lines, and the words in which they say that their service refused them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

LINE = 300
"""Longest reason or summary taken from a program's output, in characters."""

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_STATUS = re.compile(r"\bstatus(?: code)?:? (?P<code>[1-5]\d\d)\b")

_REFUSALS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"refresh token|could not be refreshed|sign in again|not logged in|missing environment variable", "login"),
        (r"api[ _-]?key.{0,40}(invalid|not valid|expired|not found)|(invalid|incorrect).{0,20}api[ _-]?key", "login"),
        (r"(invalid|no).{0,20}credentials|authentication[ _](failed|error)|unauthenticated", "login"),
        (r"no api key|manual authorization is required|must specify the \w+_KEY", "login"),
        (r"newer version of|is too old", "outdated"),
        (r"usage limit|quota|billing|out of credits|credit balance|not included|upgrade to (plus|pro)", "quota"),
        (r"(hit|reached) your .{0,40}limit|out of usage credits", "quota"),
        (r"model.{0,120}(not supported|(does|may) not exist|not found|do not have access|not available)", "model"),
        (r"model_not_found", "model"),
        (r"unknown (provider|model)\b", "model"),
        (r"rate[ _-]?limit|too many requests|resource[ _]exhausted", "rate"),
        (r"high demand|overloaded|at capacity|capacity unavailable", "busy"),
        (r"connection (error|failed|refused|reset)|error sending request|timed out|no running", "network"),
        (r"unable to connect", "network"),
        (r"(cannot|unable to) connect|socket connection was closed", "network"),
        (
            r"lookup address|ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|fetch failed|socket hang up",
            "network",
        ),
        (r"stream (disconnected|ended|was cut)|network error|error while reading the server response", "network"),
        (r"its service failed \d+ times", "busy"),
    )
)


def read_object(line: bytes) -> dict[str, Any] | None:
    """Read one line as a JSON object; ``None`` when it is none."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def read_text(mapping: Mapping[str, Any], *keys: str) -> str:
    """Give the text found by following *keys* from *mapping*, "" where there is none."""
    value: Any = mapping
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def read_mapping(mapping: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Give the object under *key*, an empty one where there is none."""
    value = mapping.get(key)
    return value if isinstance(value, Mapping) else {}


def read_count(mapping: Mapping[str, Any], key: str) -> int:
    """Give the whole number >= 0 under *key*, 0 where there is none."""
    value = mapping.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def strip_escapes(text: str) -> str:
    """Give *text* without the sequences that colour it in a terminal."""
    return _ESCAPE.sub("", text)


def read_number(mapping: Mapping[str, Any], key: str) -> float:
    """Give the number >= 0 under *key*, 0 where there is none."""
    value = mapping.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0.0


def cut_line(text: str, limit: int = LINE) -> str:
    """Give *text* as one line of at most *limit* characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3].rstrip()}..."


def find_refusal(message: str) -> str | None:
    """Tell which kind of refusal by the service *message* is; ``None`` when the service is not to blame.

    Kinds: ``login``, ``forbidden``, ``model``, ``missing``, ``rate``, ``quota``, ``busy``, ``network``, ``outdated``.
    """
    kind = next((kind for pattern, kind in _REFUSALS if pattern.search(message)), None)
    found = _STATUS.search(message)
    if found is None:
        return kind
    code = int(found["code"])
    if code in {401, 407}:
        return "login"
    if code == 402:
        return "quota"
    if code == 403:
        return kind if kind in {"quota", "model"} else "forbidden"
    if code == 404:
        return "model" if kind == "model" else "missing"
    if code == 429:
        return "quota" if kind == "quota" else "rate"
    return "busy" if code >= 500 else kind


def unwrap_error(message: str) -> str:
    """Give the sentence inside a service's JSON error, or *message* itself."""
    found = read_object(message.encode("utf-8", "replace"))
    if found is None:
        return message
    return read_text(found, "error", "message") or read_text(found, "message") or read_text(found, "detail") or message
