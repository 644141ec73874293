"""Good and broken target files, and what is told of the broken ones: the table in ``core/target_cases``, and bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from sessions import make_target

from pytest_metaharness.core.targets.records import Field, Record
from pytest_metaharness.core.targets.schema import Choice, Flag

PROVIDERS = {
    "codex": Record(
        fields={
            "sandbox": Field(Choice(words=("read-only", "workspace-write", "danger-full-access")), "Codex's own jail"),
            "context_files": Field(Flag(), "Whether the workspace's AGENTS.md instructs Codex"),
        }
    ),
    "fake": Record(fields={}),
}
MINIMAL = "goal: x\nchecks: {a: {run: x}}\n"
GOOD_TARGET = "goal: x\nmarks: []\nchecks: {a: {contains: {path: a.txt, all: [a]}}}\n"
_CASES = Path(__file__).parent / "core" / "target_cases"
_SECTIONS = {
    "file": "",
    "key": MINIMAL,
    "check": "goal: x\nchecks:\n  a: ",
    "backend": MINIMAL + "backends:\n  ",
}


class Broken(NamedTuple):
    """The content of a file, and what is told of it: each problem without the file's name; ``...`` is anything."""

    content: bytes
    problems: tuple[str, ...]

    def find_others(self, problems: tuple[str, ...], *, in_words_of_libyaml: bool) -> list[tuple[str, str]]:
        """Give the problems that were expected or told, side by side, where these differ."""
        expected = self.problems if in_words_of_libyaml else tuple(map(_generalize, self.problems))
        told = problems + ("",) * (len(expected) - len(problems))
        missed = expected + ("",) * (len(problems) - len(expected))
        return [pair for pair in zip(missed, told, strict=True) if not _fits(*pair)]


def _fits(expected: str, problem: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, expected.split("..."))), problem) is not None


def _generalize(problem: str) -> str:
    """Take out of a problem what depends on the YAML parser: its words, and sometimes the column."""
    return re.sub(r"(not valid YAML: )column.*?( \([^()]*: .*\)| \(.* be quoted\))?$", r"\1...\2", problem)


def _read_sections(file: str) -> dict[str, str]:
    text = (_CASES / file).read_text(encoding="utf-8")
    cases = {}
    for section in re.split(r"^==== ", text, flags=re.MULTILINE):
        head, _, body = section.partition("\n")
        parts = re.split(r"^#### (.*)\n", body, flags=re.MULTILINE)
        before = _SECTIONS.get(head.partition(":")[0], "")
        cases.update({name: before + part for name, part in zip(parts[1::2], parts[2::2], strict=True)})
    return cases


def _read_table() -> dict[str, Broken]:
    cases = _read_sections("broken.txt")
    del cases["a name"]  # of the explanation
    table = {}
    for name, case in cases.items():
        text, *problems = re.split(r"^=> ", case.rstrip("\n"), flags=re.MULTILINE)
        table[name] = Broken(text.encode(), tuple(problem.rstrip("\n") for problem in problems))
    return table


TABLE = _read_table()
GOOD = _read_sections("good.txt")


# --------------------------------------------------------------------------- what is too long, or unfit for the table

_BOMB = "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20))
_DEEP = "nested too deeply (more than 50 levels)"
_MANY = "too many values (more than 20000; aliases count in full)"
_UTF_16 = "goal: x\n".encode("utf-16")


def _add(text: str, *problems: str, to: str = MINIMAL) -> Broken:
    return Broken((to + text).encode(), problems)


UNFIT = {
    "tab": _add(
        "goal: x\nchecks:\n\ta: {run: x}\n", "3: not valid YAML: column 1: ... (a tab: indent with spaces)", to=""
    ),
    "bell": _add("budget: \a\n", r"3: not valid YAML: control character '\x07' in the text"),
    "nul": _add("budget: 1\0\n", r"3: not valid YAML: control character '\x00' in the text"),
    "escape": _add("# \x1b[2J\n", r"3: not valid YAML: control character '\x1b' in the text"),
    "byte-order-mark": _add("budget: x\n", "3: budget: must be a whole number, got 'x'", to="\ufeff" + MINIMAL),
    "crlf": _add("budget: x\r\nlimits: 3\r\n", "3: budget: ...", "4: limits: ...", to=MINIMAL.replace("\n", "\r\n")),
    "cr": _add("budget: x\rlimits: 3\r", "3: budget: ...", "4: limits: ...", to=MINIMAL.replace("\n", "\r")),
    "line-separators": _add("goal: 'a\u2028b\u2029c\x85'\nbudget: x\n", "1: checks: ...", "2: budget: ...", to=""),
    "line-separator-in-no-yaml": _add("goal: 'a\u2028b'\nbudget: [}\n", "2: not valid YAML: column 10: ...", to=""),
    "right-to-left": _add("\u202ebudget: 1\n", r"3: \u202ebudget: unknown key '\u202ebudget' (known: ...)"),
    "deep-list": _add("marks: " + "[" * 100_000, f"3: {_DEEP}"),
    "deep-mapping": _add("marks: " + "{a: " * 50_000, f"3: {_DEEP}"),
    "deep-block": _add("\n".join(" " * level + "a:" for level in range(300)), f"51: {_DEEP}", to=""),
    "deep-items": _add("marks:\n" + "- " * 50_000, f"4: {_DEEP}"),
    "deep-keys": _add("? " * 50_000, f"3: {_DEEP}"),
    "deep-regex": _add(
        f"goal: x\nchecks:\n  a: {{contains: {{path: x, regex: '{'(' * 9999}'}}}}\n",
        "3: checks.a.contains.regex: must be a regular expression that is nested less deeply, got '((((...",
        to="",
    ),
    "many-values": _add("marks: [" + "a," * 60_000 + "]", f"3: {_MANY}"),
    "alias-bomb": _add("a: &a [x, x, x, x, x, x, x, x, x]\n" + _BOMB, f"5: {_MANY}", to=""),
    "text-bomb": _add(f"a: &a {'x' * 200_000}\nb: [{'*a, ' * 9_000}]\n", f"2: {_MANY}", to=""),
    "long-key": _add(f"{'k' * 500}: x\n", f"3: {'k' * 60}...: unknown key '{'k' * 60}...' (known: ...)"),
    "long-key-of-no-yaml": _add(f"{'k' * 200_000}: x\n", "3: not valid YAML: ..."),
    "long-text": _add(f"baseline: /{'x' * 500}\n", f"3: baseline: must be relative, got '/{'x' * 59}...'"),
    "long-folder": _add(f"baseline: {'x' * 5000}\n", f"3: baseline: no folder '{'x' * 60}...' beside this file"),
    "long-path": _add(f"baseline: {'a/' * 60_000}\n", "3: baseline: no folder 'a/a/a/..."),
    "long-test": _add(
        f"goal: x\nsealed: evaluation\nchecks: {{a: {{pytest: {'t' * 5000}}}}}\n",
        f"3: checks.a.pytest: no '{'t' * 60}...' in the sealed folder 'evaluation'",
        to="",
    ),
    "many-digits": _add(f"budget: {'9' * 100_000}\n", f"3: budget: must be at most 1000000, got {'9' * 60}..."),
    "many-digits-hexadecimal": _add(f"budget: 0x{'f' * 100_000}\n", "3: budget: must be at most 1000000, got 0xfff..."),
    "many-digits-as-key": _add(f"{'9' * 900}: 1\n", "3: a key must be text, got 99999..."),
    "many-digits-after-the-point": _add(
        f"timeout: 0.{'0' * 900}1\n", "3: timeout: must be at most 1000000, got 0.000..."
    ),
    "empty-of-spaces": _add(" \n" * 9000, "1: is empty; a target has at least a goal and checks", to=""),
    "bytes": Broken(b"goal: x\n\xff\xfe", ("2: is not UTF-8 text (byte 0xff)",)),
    "latin-1": Broken("goal: x\r\r\nbudget: é\r\n".encode("latin-1"), ("3: is not UTF-8 text (byte 0xe9)",)),
    "utf-16": Broken(_UTF_16, ("1: is not UTF-8 text (byte 0xff)",)),
    "utf-16-without-mark": Broken(_UTF_16[2:], (r"1: not valid YAML: control character '\x00' in the text",)),
    "utf-32": Broken("goal: x\n".encode("utf-32-be"), (r"1: not valid YAML: control character '\x00' in the text",)),
    "program": Broken(b"\x7fELF\x02\x01\x01\x00\x00", (r"1: not valid YAML: control character '\x7f' in the text",)),
    "zeros": Broken(b"\x00" * 100, (r"1: not valid YAML: control character '\x00' in the text",)),
    "surrogate": Broken(b"goal: \xed\xa0\x80\n", ("1: is not UTF-8 text (byte 0xed)",)),
    "large": Broken(b"# " + b"x" * 256 * 1024, ("is larger than 256 KiB",)),
}
BROKEN = TABLE | UNFIT


def make_folder(folder: Path) -> Path:
    """Make *folder* with what the files name: folders, a file and a link."""
    for name in ("baseline/sub", "evaluation", "around/in"):
        (folder / name).mkdir(parents=True)
    (folder / "a-file").touch()
    (folder / "link").symlink_to("baseline")
    return folder


# ---------------------------------------------------------------------------------------------------------- sessions


def make_good(folder: Path, text: str = GOOD_TARGET) -> Path:
    """Make a target of *text* that its baseline satisfies, as far as the text is good."""
    return make_target(folder, text, a_txt="a")


def check_manners(result: pytest.RunResult, code: int) -> str:
    """See that all is told without a traceback; give what was printed."""
    output = f"{result.stdout}\n{result.stderr}"
    assert result.ret == code, output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    return output
