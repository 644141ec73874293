"""The documentation as its tests read it: pages, sections, fenced blocks, and the examples that these make up.

A block after a line that is only a path in backquotes and a colon is the content of that file. A ``console`` block is
run: its lines ``$ command`` in bash, in a folder with the files of its section and of the sections around it; below
each stands what it prints. ``sh`` blocks are not run. In what is printed a line ``...`` stands for any lines, ``...``
in a line for any text; times, names of sessions, hashes, rulers and the widths of columns are not compared.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sessions import LEAN

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""Where the commands of an example are looked for: `pytest` is the one that runs the tests."""

GIT = {f"GIT_{role}_{what}": "you@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

_FENCE = re.compile(r"^```(\w*)$")
_HEADING = re.compile(r"^(#+) (.+)$")
_FILE = re.compile(r"^`([^`]+)`:$")
_VARIABLE = (
    (re.compile(r"\b\d+:\d\d\b(?!:)"), "TIME"),
    (re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{6}\b"), "SESSION"),
    (re.compile(r"\b[0-9a-f]{7,40}\b"), "HASH"),
    (re.compile(r"\b\d+(\.\d+)?s\b"), "SECONDS"),
    (re.compile(r"([=_-])\1{2,}"), " "),
    (re.compile(r"\s+"), " "),
)
_NOT_EVERYWHERE = re.compile(r"(metaharness: )?sandbox: ")
"""What a machine without bubblewrap says beside."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block; *file* is the path that its text is the content of."""

    language: str
    text: str
    file: str | None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with its own blocks; *around* are the sections that it lies in, the outermost first."""

    page: Path
    title: str
    blocks: tuple[Block, ...]
    around: tuple[Section, ...]

    @property
    def id(self) -> str:
        """A name for a test's parameter."""
        return f"{self.page.name}#{slug(self.title)}"

    @property
    def files(self) -> Mapping[str, str]:
        """The files that an example of this section finds, path -> content."""
        own = (self, *self.around)[::-1]
        return {block.file: block.text for section in own for block in section.blocks if block.file}

    @property
    def commands(self) -> tuple[tuple[str, str], ...]:
        """Each command with what it prints."""
        text = "".join(block.text for block in self.blocks if block.language == "console")
        parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
        return tuple(zip(parts[1::2], parts[2::2], strict=True))


def slug(title: str) -> str:
    """Give the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@cache
def read_sections(page: Path) -> tuple[Section, ...]:
    """Give the sections of *page* in order."""
    levels: list[tuple[int, Section]] = []
    sections: list[Section] = []
    for level, title, blocks in _split(page):
        while levels and levels[-1][0] >= level:
            levels.pop()
        around = tuple(section for _, section in levels)
        sections.append(Section(page=page, title=title, blocks=blocks, around=around))
        levels.append((level, sections[-1]))
    return tuple(sections)


def _split(page: Path) -> Iterator[tuple[int, str, tuple[Block, ...]]]:
    level, title, blocks = 0, "", list[Block]()
    file: str | None = None
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if heading := _HEADING.match(line):
            if title:
                yield level, title, tuple(blocks)
            level, title, blocks = len(heading[1]), heading[2], []
        elif fence := _FENCE.match(line):
            inside = []
            for inner in lines:
                if inner == "```":
                    break
                inside.append(f"{inner}\n")
            blocks.append(Block(language=fence[1], text="".join(inside), file=file))
            file = None
        elif line:
            named = _FILE.match(line)
            file = named[1] if named else None
    yield level, title, tuple(blocks)


def find_blocks(*languages: str) -> Iterator[tuple[Section, Block]]:
    """Give every block in one of *languages*, with its section."""
    for page in PAGES:
        for section in read_sections(page):
            yield from ((section, block) for block in section.blocks if block.language in languages)


# ------------------------------------------------------------------------------------------------------- running


def write_example(section: Section, folder: Path) -> None:
    """Put the files of an example into *folder*, and the project's examples where it uses them."""
    for name, content in section.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    if any("examples/" in command for command, _ in section.commands):
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))


def run_example(section: Section, folder: Path, **environment: str) -> str:
    """Run the commands of an example; gives what is not as the page says, "" when all is."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(("LC_", "LANG", "UV_", "SSL_"))}
    plain = {"PATH": PATH, "HOME": str(folder), "COLUMNS": "100", "PYTEST_ADDOPTS": LEAN}
    given = {**plain, **GIT, **passed, **environment}
    for command, expected in section.commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        if missing := find_missing_lines(expected, done.stdout):
            return f"{section.id}: $ {command}\ndoes not print\n{missing}\nbut\n{done.stdout}"
    return ""


def find_missing_lines(expected: str, actual: str) -> str:
    """Give the first lines of *expected* that do not stand together in *actual*, after those before them."""
    printed = [line for line in map(_normalize, actual.splitlines()) if line]
    if "sandbox: " not in expected:
        printed = [line for line in printed if not _NOT_EVERYWHERE.match(line)]
    at = 0
    for group in re.split(r"^ *\.\.\.\n", expected, flags=re.MULTILINE):
        wanted = [_make_pattern(line) for line in group.splitlines() if _normalize(line)]
        for start in range(at, len(printed) - len(wanted) + 1):
            if all(one.fullmatch(line) for one, line in zip(wanted, printed[start:], strict=False)):
                at = start + len(wanted)
                break
        else:
            return group
    return ""


def _make_pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, _normalize(line).split("..."))))


def _normalize(line: str) -> str:
    for pattern, stand_in in _VARIABLE:
        line = pattern.sub(stand_in, line)
    return line.strip()
