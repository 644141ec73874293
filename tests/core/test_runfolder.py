from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pytest_metaharness.core.model import Candidate, Outcome, Run, Setting
from pytest_metaharness.core.runfolder import (
    JOURNAL_FILE,
    RESERVE_FILE,
    RUN_FILE,
    RecordError,
    RunFolder,
    decode_run,
    encode_run,
    end_run,
    find_process,
    free_space,
    keep_space,
    read_run,
    restore_run,
)

RUN = Run(
    nodeid="x/metaharness.yaml::mine",
    target="x",
    backend="mine",
    provider="mine",
    model=None,
    trial=1,
    budget=9,
    status="running",
    settings={"budget": Setting(value=9, origin="metaharness.yaml")},
    directory="sessions/x",
)


def make_candidate(number: int) -> Candidate:
    outcome: Outcome = "keep" if number else "baseline"
    return Candidate(id=f"c{number:04}", parent=None, outcome=outcome, reason="r" * 500, objective=number / 10)


@contextmanager
def full_disk(file: Path, *, room: int) -> Iterator[None]:
    """Let *file* grow by *room* bytes and no more, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + room if file.exists() else room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    folder = RunFolder(tmp_path / "session" / "x", RUN)
    yield folder
    with suppress(ValueError):  # the test has finished it
        folder.finish(RUN)


def list_candidates(folder: RunFolder) -> list[str]:
    return [candidate.id for candidate in read_run(folder.path).candidates]


def test_a_record_reads_back_as_it_was() -> None:
    assert decode_run(encode_run(RUN)) == RUN


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"schema": 1, "nodeid": 3}', r"Expected `str`, got `int` - at `\$.nodeid`"),
        (b'{"\xff": 1}', "utf-8"),
        (b'{"":' * 100000, "recursion"),
        (encode_run(RUN).replace(b'"schema": 1', b'"schema": 2'), "it has schema 2 instead of 1"),
        (encode_run(RUN).replace(b'"schema": 1,', b""), "it has schema None instead of 1"),
        (encode_run(RUN).replace(b'"schema": 1', b'"schema": "%s"' % (b"x" * 1000)), "it has schema 'xxxxx"),
    ],
)
def test_a_damaged_record_is_refused(record: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=f"(?i){message}") as caught:
        decode_run(record)
    assert len(str(caught.value)) < 200


def test_what_was_journaled_before_and_after_a_line_that_was_cut_is_read(folder: RunFolder) -> None:
    folder.add(make_candidate(0))
    journal = folder.path / JOURNAL_FILE
    for room in (0, 1, 300):
        with full_disk(journal, room=room), pytest.raises(OSError, match=JOURNAL_FILE):
            folder.add(make_candidate(1))
        assert list_candidates(folder) == ["c0000"]
    folder.add(make_candidate(2))
    folder.add_best("c0002", ["a.txt"])
    run = read_run(folder.path)
    assert [candidate.id for candidate in run.candidates] == ["c0000", "c0002"]
    assert (run.status, run.best_candidate, run.changed_files) == ("running", "c0002", ("a.txt",))


def test_space_is_kept_for_the_end(folder: RunFolder) -> None:
    reserve = folder.path / RESERVE_FILE
    assert reserve.stat().st_blocks * 512 >= RunFolder.RESERVE
    folder.finish(end_run(RUN, "completed", ""))
    assert not reserve.exists()
    free_space(folder.path)
    with full_disk(reserve, room=1000), pytest.raises(OSError, match=RESERVE_FILE):
        keep_space(folder.path, 5000)
    assert not reserve.exists()


def test_the_record_is_written_also_when_the_journal_cannot_be(folder: RunFolder) -> None:
    folder.add(make_candidate(0))
    journal = folder.path / JOURNAL_FILE
    journal.write_bytes(journal.read_bytes() + b" " * 100_000)
    with full_disk(journal, room=0), pytest.raises(OSError, match=JOURNAL_FILE):
        folder.finish(end_run(RUN, "failed", "out of luck"))
    run = read_run(folder.path)
    assert (run.status, run.reason, run.gate.failures) == ("failed", "out of luck", ("out of luck",))


def test_a_record_that_is_gone_is_put_together(folder: RunFolder) -> None:
    folder.add(make_candidate(0))
    folder.add(make_candidate(0))  # as a copy of a line would
    (folder.path / RUN_FILE).unlink()
    run = restore_run(folder.path)
    assert run is not None
    assert (run.nodeid, run.provider, run.budget, run.directory) == (RUN.nodeid, "mine", 9, "sessions/x")
    assert [candidate.id for candidate in run.candidates] == ["c0000"]
    (folder.path / JOURNAL_FILE).write_text('{"event": "run", "nodeid": 3}\n[]\n{"event": {}}\n\n"x"\n')
    assert restore_run(folder.path) is None
    (folder.path / JOURNAL_FILE).unlink()
    assert restore_run(folder.path) is None


def test_the_process_of_a_run_is_known_until_its_end(folder: RunFolder) -> None:
    assert find_process(folder.path) is not None
    folder.finish(end_run(RUN, "completed", ""))
    assert find_process(folder.path) is None
