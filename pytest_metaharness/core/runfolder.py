"""The folder of a run, its record: written before the first step, journaled as it goes, finished atomically."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .model import Candidate, Run, RunStatus, Tokens, Verdict

SCHEMA = 1
"""Version of every JSON file we write."""

RUN_FILE = "run.json"
JOURNAL_FILE = "journal.jsonl"
PATCH_FILE = "best.patch"


class RunFolder:
    """Writes the record of one trial into *folder*, which must not exist yet."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.path = folder
        folder.mkdir(parents=True)
        write_json(folder / RUN_FILE, {"schema": SCHEMA, **msgspec.to_builtins(run)})
        self._journal = (folder / JOURNAL_FILE).open("ab", buffering=0)
        asked = {name: getattr(run, name) for name in ("nodeid", "target", "backend", "trial", "budget")}
        self.log("run", **asked)

    def log(self, event: str, **fields: Any) -> None:
        """Append one event to the journal; the write is done when this returns."""
        line = encode_json({"time": round(time.time(), 3), "event": event, **fields})
        self._journal.write(line + b"\n")

    def add(self, candidate: Candidate) -> None:
        """Journal a finished candidate."""
        self.log("candidate", candidate=msgspec.to_builtins(candidate))

    def add_best(self, candidate: str, changed_files: Sequence[str]) -> None:
        """Journal that *candidate* is now the best, and in which files it differs from the baseline."""
        self.log("best", candidate=candidate, changed_files=list(changed_files))

    def open_candidate(self, candidate: str) -> Path:
        """Make the folder for what a candidate leaves behind: brief, prompt, logs, patch."""
        folder = self.path / candidate
        folder.mkdir(exist_ok=True)
        return folder

    def finish(self, run: Run) -> None:
        """Replace the record by its final state, at once."""
        self.log("end", status=run.status, reason=run.reason)
        self._journal.close()
        write_json(self.path / RUN_FILE, {"schema": SCHEMA, **msgspec.to_builtins(run)})


def read_run(folder: Path, *, unfinished: RunStatus, reason: str) -> Run:
    """Read the record in *folder*; one that did not finish gets the status *unfinished* and what its journal tells.

    :raises OSError: there is no record.
    :raises msgspec.MsgspecError: the record is damaged.
    """
    raw = msgspec.json.decode((folder / RUN_FILE).read_bytes())
    raw.pop("schema", None)
    run = msgspec.convert(raw, Run)
    if run.status != "running":
        return run
    candidates: list[Candidate] = []
    changed_files: tuple[str, ...] = ()
    for event in _read_journal(folder / JOURNAL_FILE):
        if event["event"] == "candidate":
            candidates.append(msgspec.convert(event["candidate"], Candidate))
        elif event["event"] == "best":
            changed_files = tuple(event["changed_files"])
    doing = candidates[-1].id if candidates else "nothing"
    reason = f"{reason} after {doing} was finished"
    run = msgspec.structs.replace(run, status=unfinished, reason=reason, gate=Verdict(passed=False, failures=(reason,)))
    return summarize(run, candidates, changed_files=changed_files)


def _read_journal(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_bytes().splitlines():
        try:
            yield msgspec.json.decode(line)
        except msgspec.DecodeError:
            return  # the line that was being written when the process died


def summarize(run: Run, candidates: Sequence[Candidate], *, changed_files: Sequence[str]) -> Run:
    """Fill in what follows from *candidates*; *changed_files* are those of the best against the baseline."""
    baseline = candidates[0].objective if candidates else None
    kept = [candidate for candidate in candidates if candidate.outcome == "keep"]
    best = kept[-1] if kept else (candidates[0] if candidates else None)
    outcomes: dict[str, int] = {}
    for candidate in candidates[1:]:
        outcomes[candidate.outcome] = outcomes.get(candidate.outcome, 0) + 1
    gain = best.objective - baseline if best and best.objective is not None and baseline is not None else None
    patch = PATCH_FILE if kept else None
    return msgspec.structs.replace(
        run,
        baseline_objective=baseline,
        best_objective=best.objective if best else None,
        gain=gain,
        improved=bool(kept),
        best_candidate=best.id if best else None,
        proposals=max(0, len(candidates) - 1),
        cost_usd=_add(candidate.cost_usd for candidate in candidates),
        tokens=_add_tokens(candidates),
        changed_files=tuple(changed_files) if kept else (),
        outcomes=dict(sorted(outcomes.items())),
        patch=f"{run.directory}/{patch}" if patch else None,
        candidates=tuple(candidates),
    )


def _add(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _add_tokens(candidates: Sequence[Candidate]) -> Tokens | None:
    known = [candidate.tokens for candidate in candidates if candidate.tokens is not None]
    if not known:
        return None
    return Tokens(
        input=sum(tokens.input for tokens in known),
        cached=sum(tokens.cached for tokens in known),
        output=sum(tokens.output for tokens in known),
    )


def encode_json(value: object) -> bytes:
    """Give *value* as JSON; bytes in its text that are no UTF-8 (PEP 383: a plugin spoke of a file) become escapes."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_escape_stray(msgspec.to_builtins(value)))


def _escape_stray(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_escape_stray(name): _escape_stray(inner) for name, inner in value.items()}
    return [_escape_stray(inner) for inner in value] if isinstance(value, list | tuple) else value


def write_json(file: Path, value: object) -> None:
    """Write *value* as indented JSON, at once."""
    write_atomically(file, msgspec.json.format(encode_json(value), indent=2) + b"\n")


def write_atomically(file: Path, content: bytes) -> None:
    """Write *content* under a temporary name, then rename: a reader sees the old file or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(name).chmod(0o644)
        os.replace(name, file)  # noqa: PTH105 - the pair is named in one place
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
