"""What a repository's own ``.gitignore`` files ignore, as git decides it (gitignore(5)).

A folder that is ignored is ignored with all that is in it. Else the last pattern that matches counts, of the innermost
``.gitignore`` file that has one. Patterns and paths are compared byte for byte, each byte being a character here.
"""

from __future__ import annotations

import os
import posixpath
import re
import warnings
from collections.abc import Callable, Iterable, Mapping

import pathspec

END = "\u0100"
FILE, FOLDER = f"{END}f", f"{END}d"
"""Stand at the end of a path and say what it is; no byte is such a character."""

_Rules = tuple[tuple[int, pathspec.GitIgnoreSpec], ...]
"""What may decide in a folder, the innermost first, each with where a path begins for it."""


def match_ignored(
    files: Mapping[str, bytes], tracked: Iterable[str], *, below: str = "."
) -> Callable[[str, bool], bool]:
    """Give a test of (path, is folder) for what is ignored; its paths and the *tracked* ones are relative to *below*.

    *files* are contents by the folder that they apply to; these folders and *below* are relative to the repository's
    root, which is ``.``. A tracked file is never ignored, nor a folder that has one below it.
    """
    own = {_spell(folder): read_patterns(content) for folder, content in files.items()}
    start = "" if below == "." else f"{below}/"
    known = {_spell(start + path) for path in tracked}
    around = {""}
    for path in known:
        folder = posixpath.dirname(path)
        while folder not in around:
            around.add(folder)
            folder = posixpath.dirname(folder)
    rules: dict[str, _Rules | None] = {"": ((0, own["."]),) if "." in own else ()}  # None: the folder is ignored

    def find_rules(folder: str) -> _Rules | None:
        ahead = []
        while folder not in rules:
            ahead.append(folder)
            folder = posixpath.dirname(folder)
        found = rules[folder]
        for inner in reversed(ahead):
            if found is None or _decide(found, inner + FOLDER):
                found = None
            elif inner in own:
                found = ((len(inner) + 1, own[inner]), *found)
            rules[inner] = found
        return found

    def is_ignored(path: str, is_folder: bool) -> bool:
        spelled = _spell(start + path)
        if spelled in (around if is_folder else known):
            return False
        found = find_rules(posixpath.dirname(spelled))
        return found is None or _decide(found, spelled + (FOLDER if is_folder else FILE))

    return is_ignored


def read_patterns(content: bytes) -> pathspec.GitIgnoreSpec:
    """Read a ``.gitignore`` file; as for git, a pattern that is malformed matches nothing.

    An escaped slash and bracket expressions with a class (``[[:alpha:]]``), an escape or a slash match nothing here; in
    git they may. A bracket expression that is negated may match a slash, and in git ``a**/b`` may match more.
    """
    text = content.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    patterns = (_end_pattern(line.removesuffix("\r")) for line in text.split("\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # re's, for the brackets above
        return pathspec.GitIgnoreSpec.from_lines(pattern for pattern in patterns if pattern and _is_sound(pattern))


def _is_sound(pattern: str) -> bool:
    try:
        pathspec.GitIgnoreSpec.from_lines([pattern])
    except (ValueError, re.error):
        return False
    return True


def _end_pattern(line: str) -> str | None:
    """Let the pattern of *line* match a path's very end; ``None`` when it has none that can match.

    pathspec's patterns match what is below a folder too. But a folder above that was not ignored decides nothing.
    """
    text = line.rstrip(" ")
    if _ends_escaping(text) and text != line:
        text += " "
    pattern = text.removesuffix("/")
    if text.startswith("#") or pattern.strip("/") in {"", "!"} or _ends_escaping(pattern):
        return None
    within = "/*" if pattern.endswith("/**") else ""
    return pattern + within + (FOLDER if text.endswith("/") else f"{END}?")


def _ends_escaping(text: str) -> bool:
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _decide(rules: _Rules, path: str) -> bool:
    for start, spec in rules:
        if (verdict := spec.check_file(path[start:]).include) is not None:
            return verdict
    return False


def _spell(path: str) -> str:
    return os.fsencode(path).decode("latin-1")
