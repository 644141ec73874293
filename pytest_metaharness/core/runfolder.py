"""The folder of a run, its record: written before the first step, journaled as it goes, finished atomically."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .errors import StoreError
from .model import Candidate, Run, RunStatus, Verdict, add_tokens
from .processes.interrupts import postponed_interrupts

SCHEMA = 1
"""Version of every JSON file we write."""

RUN_FILE = "run.json"
JOURNAL_FILE = "journal.jsonl"
PATCH_FILE = "best.patch"
RESERVE_FILE = ".reserve"
ASKED = ("nodeid", "target", "backend", "provider", "model", "trial", "budget", "directory")
"""What the journal repeats of the record, which may get lost."""


class RecordError(StoreError):
    """A record that cannot be read: damaged, or of another version of this package."""


class RunFolder:
    """Writes the record of one trial into *folder*, which must not exist yet.

    Space is kept back for its end, so that a disk that fills up meanwhile costs nothing of what was found.
    """

    RESERVE = 128 * 1024
    """Bytes; a record takes some 1.5 kB per candidate and whatever its checks have to say."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.path = folder
        folder.mkdir(parents=True)
        write_run(folder, run)
        keep_space(folder, self.RESERVE)
        self._file = folder / JOURNAL_FILE
        self._journal = self._file.open("ab", buffering=0)
        self._is_torn = False
        self.log("run", pid=os.getpid(), **{name: getattr(run, name) for name in ASKED})

    def log(self, event: str, **fields: Any) -> None:
        """Append one event to the journal; the write is done when this returns.

        :raises OSError: it cannot be written.
        """
        line = encode_json({"time": round(time.time(), 3), "event": event, **fields}) + b"\n"
        if self._is_torn:  # what there was no space for ends in the middle
            line = b"\n" + line
        self._is_torn = True
        try:
            while line:
                line = line[self._journal.write(line) :]
        except OSError as error:
            error.filename = str(self._file)
            raise
        self._is_torn = False

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
        """Replace the record by its final state, at once.

        :raises OSError: it cannot be written, in the journal or at all.
        """
        with postponed_interrupts():  # a second Ctrl-C
            free_space(self.path)
            try:
                self.log("end", status=run.status, reason=run.reason)
            finally:
                self._journal.close()
                write_run(self.path, run)


def keep_space(folder: Path, size: int) -> None:
    """Take *size* bytes of the disk that :func:`free_space` gives back.

    :raises OSError: there are not that many.
    """
    file = folder / RESERVE_FILE
    with file.open("xb", buffering=0) as stream:
        try:
            written = 0
            while written < size:
                written += stream.write(bytes(size - written))
        except OSError as error:
            file.unlink()
            error.filename = str(file)
            raise


def free_space(folder: Path) -> None:
    """Give back what is kept in *folder*, if anything and if it can be."""
    with contextlib.suppress(OSError):
        (folder / RESERVE_FILE).unlink()


def write_run(folder: Path, run: Run) -> None:
    """Write the record of *run*, at once."""
    write_atomically(folder / RUN_FILE, encode_run(run))


def encode_run(run: Run) -> bytes:
    """Give the record of *run* as it is stored."""
    return format_json({"schema": SCHEMA, **msgspec.to_builtins(run)})


def decode_run(record: bytes) -> Run:
    """Read a record as it is.

    :raises RecordError: it is none, or of another version of this package.
    """
    try:
        raw = msgspec.json.decode(record, type=dict[str, Any])
        if (schema := raw.pop("schema", None)) != SCHEMA:
            message = f"it has schema {schema!r:.20} instead of {SCHEMA}"
            raise RecordError(message)
        return msgspec.convert(raw, Run)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(str(error)) from error


def read_run(folder: Path) -> Run:
    """Read the record in *folder*; one that is ``running`` has what its journal tells.

    :raises OSError: there is no record.
    :raises RecordError: the record is damaged.
    """
    run = decode_run((folder / RUN_FILE).read_bytes())
    return run if run.status != "running" else _complete(run, folder)


def restore_run(folder: Path) -> Run | None:
    """Put a run whose record is gone or damaged together from its journal; ``None`` when that tells nothing either."""
    for event in _read_journal(folder / JOURNAL_FILE):
        if event.get("event") == "run":
            with contextlib.suppress(msgspec.ValidationError):
                run = msgspec.convert({"status": "running", **{name: event.get(name) for name in ASKED}}, Run)
                return _complete(run, folder)
    return None


def end_run(run: Run, status: RunStatus, reason: str) -> Run:
    """Give *run*, which did not come to its own end, this one."""
    verdict = Verdict(passed=False, failures=(reason,))
    return msgspec.structs.replace(run, status=status, reason=reason, gate=verdict)


def describe_progress(run: Run) -> str:
    """Say how far *run* got, to follow what ended it."""
    return f"after {run.candidates[-1].id if run.candidates else 'nothing'} was finished"


def find_process(folder: Path) -> int | None:
    """Name the process that runs the trial in *folder*; ``None`` when it is over, or nobody knows."""
    pid: object = None
    for event in _read_journal(folder / JOURNAL_FILE):
        pid = event.get("pid", pid) if event.get("event") != "end" else None
    return pid if isinstance(pid, int) else None


def _complete(run: Run, folder: Path) -> Run:
    """Fill in what the journal knows of a run that has no end."""
    candidates: dict[str, Candidate] = {}
    changed_files: tuple[str, ...] = ()
    for event in _read_journal(folder / JOURNAL_FILE):
        with contextlib.suppress(msgspec.ValidationError):  # as good as a line that cannot be read
            if event.get("event") == "candidate":
                candidate = msgspec.convert(event.get("candidate"), Candidate)
                candidates[candidate.id] = candidate
            elif event.get("event") == "best":
                changed_files = msgspec.convert(event.get("changed_files"), tuple[str, ...])
    return summarize(run, list(candidates.values()), changed_files=changed_files)


def _read_journal(file: Path) -> Iterator[dict[str, Any]]:
    """Give the events in *file*, which need not be there; damaged lines are passed over.

    Such is the last one when the process died while it wrote it.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return
    yield from (event for event in map(decode_object, lines) if event is not None)


def decode_object(text: bytes) -> dict[str, Any] | None:
    """Read a JSON object, such as a line of a journal; ``None`` when it is none, or damaged."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


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
        tokens=add_tokens(candidate.tokens for candidate in candidates),
        changed_files=tuple(changed_files) if kept else (),
        outcomes=dict(sorted(outcomes.items())),
        patch=f"{run.directory}/{patch}" if patch else None,
        candidates=tuple(candidates),
    )


def _add(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


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
    write_atomically(file, format_json(value))


def format_json(value: object) -> bytes:
    """Give *value* as indented JSON."""
    return msgspec.json.format(encode_json(value), indent=2) + b"\n"


def write_atomically(file: Path, content: bytes) -> None:
    """Write *content* under a temporary name, then rename: a reader sees the old file or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(name).chmod(0o644)
        os.replace(name, file)  # noqa: PTH105 - the pair is named in one place
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(file)
        raise
