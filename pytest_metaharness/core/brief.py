"""What a backend is told: the brief and the history in its workspace's ``.metaharness/``, and the prompt."""

from __future__ import annotations

import contextlib
import platform
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from .folders import temporary_folder
from .gate import format_objective
from .model import Candidate, Check, CheckRecord, Target
from .processes.process import host_environment, run
from .store.snapshot import BRIEF_FOLDER, CHUNK, Snapshot

BEST, LAST = 5, 5
"""How many of the best and of the last candidates the history shows in full."""

LOG_BYTES, PATCH_BYTES = 20_000, 200_000
"""Bytes of an earlier proposal that the history keeps: of its output from the end, of its patch from the beginning."""

TELLING = 12
"""Characters from which on a line of a sealed file is recognized where it is quoted; shorter ones occur by chance."""

BRIEF, HISTORY = f"{BRIEF_FOLDER}/BRIEF.md", f"{BRIEF_FOLDER}/history"
TOOLS = ("bash", "git", "python", "node", "npm", "uv", "make")
PROMPT = f"""\
Improve the harness in this folder. Read {BRIEF} first: it has the goal, the rules, which files you may
change, and which checks fail and why. {HISTORY}/ has earlier attempts and what came of them.

Edit the files in place, then stop. Your work is judged only by the files as they are when you end: they are copied to a
fresh folder and checked there. Changes below {BRIEF_FOLDER}/ are ignored.
"""


def make_brief(
    target: Target,
    *,
    parent: Candidate,
    candidates: Sequence[Candidate],
    run: Path,
    sealed: Snapshot,
    environment: Sequence[str],
) -> dict[str, bytes]:
    """Give the files that tell a backend what to do with the files of *parent*, by their paths in its workspace.

    *candidates* are all so far, which left their patches and logs in the folder *run*; *environment* describes this
    machine.
    """
    untold = SealedText(target, sealed)
    text = _encode(_brief_lines(target, parent, untold, environment))
    return {BRIEF: text, **dict(_make_history(target, candidates, run, untold))}


class SealedText:
    """What must not be told: the lines of the sealed files, and the names by which commands use them."""

    def __init__(self, target: Target, sealed: Snapshot) -> None:
        self._names = {path.split("/")[0] for path in sealed}
        self._lines: set[str] = set()
        for path, entry in sealed.items():
            if target.sealed_folder is not None and entry.mode != "120000" and entry.size <= CHUNK:
                with contextlib.suppress(FileNotFoundError):  # its author is at work on it
                    text = (target.sealed_folder / path).read_text(encoding="utf-8", errors="replace")
                    self._lines.update(line.strip() for line in text.splitlines() if len(line.strip()) >= TELLING)

    def may_be_in(self, check: Check, feedback: str) -> bool:
        """Tell whether *check* names sealed files, so that its output may say anything of them, or quotes one."""
        if check.pytest is not None:
            return True
        command = check.run or check.score or ""
        return any(name in command for name in self._names) or any(line in feedback for line in self._lines)


def _brief_lines(target: Target, parent: Candidate, sealed: SealedText, environment: Sequence[str]) -> list[str]:
    scope = target.editable
    lines = [f"# Improve the harness of {target.name}", "", "## Goal", "", target.goal.strip(), ""]
    if target.constraints:
        lines += ["## Constraints", "", *(f"- {constraint}" for constraint in target.constraints), ""]
    lines += ["## Files you may change", ""]
    lines += [f"- `{pattern}`" for pattern in scope] if scope is not None else ["All files of this folder."]
    if scope is not None:
        lines.append("\nAny other changed, added, renamed or deleted file makes the whole attempt void.")
    if target.required:
        lines.append(f"\nThese files must exist: {', '.join(f'`{path}`' for path in target.required)}.")
    objective = "invalid" if parent.objective is None else f"objective {format_objective(parent.objective)} of 1.000"
    lines += ["", f"## Where it stands: {objective} ({parent.id})", ""]
    if parent.objective is None:
        lines += [f"Invalid: {parent.reason}", ""]
    lines += describe_checks(target.checks, parent.checks, sealed)
    return [*lines, "", "## Environment", "", *(f"- {line}" for line in environment), ""]


def describe_checks(checks: Sequence[Check], records: Sequence[CheckRecord], sealed: SealedText) -> list[str]:
    """Spell *checks* with their *records*, where they were measured: what misses, and what may be told about why."""
    measured = {record.id: record for record in records}
    passed, missing = [], []
    for check in checks:
        record = measured.get(check.id)
        weight = f"weight {check.weight:g}{', required' if check.required else ''}"
        if check.feedback == "none":
            continue
        if record is None:
            missing.append(f"- not measured: {check.id} ({weight})")
        elif record.value >= 1:
            passed.append(f"- passed: {check.id} ({weight})")
        else:
            missing.append(f"- FAILS: {check.id}: value {record.value:g} of 1 ({weight})")
            missing += _explain_miss(check, record.feedback.strip(), sealed)
    return passed + missing


def _explain_miss(check: Check, feedback: str, sealed: SealedText) -> list[str]:
    lines = []
    if command := check.run or check.score:
        lines.append(f"  command: {' '.join(command.split())}")
    if check.feedback == "verdict":
        return lines
    if feedback and check.feedback is None and sealed.may_be_in(check, feedback):
        lines.append("  feedback: withheld, since it may quote files that are not yours to see")
    elif feedback:
        lines += ["  feedback:", *(f"    {line}" for line in feedback.splitlines())]
    return lines


def _make_history(
    target: Target, candidates: Sequence[Candidate], run: Path, sealed: SealedText
) -> Iterator[tuple[str, bytes]]:
    """Give an index of *candidates*; scores, patch and log of the best and the last ones."""
    index = ["| candidate | parent | outcome | objective | reason |", "|---|---|---|---|---|"]
    index += [
        f"| {one.id} | {one.parent or ''} | {one.outcome} | {format_objective(one.objective) if one.checks else ''} "
        f"| {_first_line(one.reason)} |"
        for one in candidates
    ]
    yield f"{HISTORY}/index.md", _encode(index)
    measured = [one for one in candidates if one.objective is not None]
    best = sorted(measured, key=lambda one: one.objective or 0.0, reverse=True)[:BEST]
    for one in {one.id: one for one in (*best, *candidates[-LAST:])}.values():
        scores = [f"{one.id}: {one.outcome}: {one.reason}", *describe_checks(target.checks, one.checks, sealed)]
        yield f"{HISTORY}/{one.id}/scores.md", _encode(scores)
        left = run / one.id
        if (left / "patch").is_file():
            yield f"{HISTORY}/{one.id}/patch", _read_patch(left / "patch")
        if (left / "stdout").is_file():
            yield f"{HISTORY}/{one.id}/log", (left / "stdout").read_bytes()[-LOG_BYTES:]


def _encode(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _read_patch(file: Path) -> bytes:
    with file.open("rb") as patch:
        begin = patch.read(PATCH_BYTES)
    cut = file.stat().st_size - len(begin)
    return begin + (f"\n[{cut} more bytes are left out]\n".encode() if cut else b"")


def _first_line(text: str) -> str:
    return text.partition("\n")[0].replace("|", "\\|")


def describe_environment() -> tuple[str, ...]:
    """Name the operating system and the tools that checks find here, with their versions; takes a while."""
    lines = [f"operating system: {platform.system()} {platform.release()} ({platform.machine()})"]
    with temporary_folder("probe") as folder:
        (folder / "home").mkdir()
        environment = host_environment(folder / "home", folder)
        found = {tool: shutil.which(tool, path=environment["PATH"]) for tool in TOOLS}
        asking = [
            f"{{ {shlex.quote(program)} --version >{tool} 2>&1; test $? -lt 126 || echo cannot be started >{tool}; }} &"
            for tool, program in found.items()
            if program
        ]
        run(("sh", "-c", f"{' '.join(asking)} wait"), cwd=folder, env=environment, timeout=10)
        for tool, program in found.items():
            answer = (folder / tool).read_text(errors="replace") if (folder / tool).exists() else ""
            unknown = "version unknown" if program else "not found"
            lines.append(f"{tool}: {_first_line(answer) or unknown}")
    return tuple(lines)
