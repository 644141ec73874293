"""Whatever is wrong with a target file is told: file, line and dotted key, what was found and what is allowed."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest
import yaml
from broken_targets import BROKEN, GOOD, MINIMAL, PROVIDERS, TABLE, make_folder

from pytest_metaharness.core.errors import TargetError
from pytest_metaharness.core.targets import yamltree
from pytest_metaharness.core.targets.load import find_line, guess_folders, load_target

pytestmark = pytest.mark.timeout(120)  # against a file that hangs

LOADERS = {"libyaml": "CBaseLoader", "python": "BaseLoader"}


@pytest.fixture(params=[name for name, loader in LOADERS.items() if hasattr(yaml, loader)])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(yamltree, "_LOADER", getattr(yaml, LOADERS[request.param]))
    return str(request.param)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all, which is told apart from others by the files' names only."""
    return make_folder(tmp_path_factory.mktemp("broken") / "desk")


def find_problems(file: Path) -> tuple[str, ...]:
    with pytest.raises(TargetError) as caught:
        load_target(file, providers=PROVIDERS, shown_as="x.yaml")
    assert all(problem.startswith("x.yaml:") for problem in caught.value.problems)
    return tuple(problem.removeprefix("x.yaml:").lstrip() for problem in caught.value.problems)


def write(folder: Path, content: bytes | str) -> Path:
    file = folder / "metaharness.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_the_table_is_long_and_says_where() -> None:
    assert len(TABLE) > 250
    assert len({broken.content for broken in BROKEN.values()}) == len(BROKEN)
    assert all(broken.problems for broken in BROKEN.values())
    for name, broken in TABLE.items():
        for problem in broken.problems:
            assert re.match(r"\d+: ", problem), name


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_says_where_what_and_what_is_allowed(desk: Path, loader: str, name: str) -> None:
    problems = find_problems(write(desk, BROKEN[name].content))
    assert BROKEN[name].find_others(problems, in_words_of_libyaml=loader == "libyaml") == []
    for problem in problems:
        assert problem.isprintable()
        assert len(problem) < 400


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(desk: Path) -> None:
    text = (
        "goal: no\n"
        "baseline: nope\n"
        "checks:\n"
        "  tests: {run: 5, wieght: 2, weight: -1}\n"
        "  tests: {contains: {path: /x}}\n"
        "budget: -1\n"
        "gate: {best: 2, worst: 0}\n"
        "backends:\n"
        "  codex: {sandbox: x}\n"
        "marks: slow\n"
    )
    assert find_problems(write(desk, text)) == (
        "1: goal: must be text, got false (YAML reads an unquoted no as a boolean: quote it)",
        "2: baseline: no folder 'nope' beside this file",
        "4: checks.tests.run: must be text, got 5 (YAML reads an unquoted 5 as a number: quote it)",
        (
            "4: checks.tests.wieght: unknown key 'wieght' "
            "(known: contains, run, exit_code, score, pytest, use, with, weight, timeout, "
            "required, fresh, network, env, feedback, volatile, repeat; did you mean 'weight'?)"
        ),
        "4: checks.tests.weight: must be > 0, got -1",
        "5: checks.tests: given twice, first on line 4",
        "5: checks.tests.contains.path: must be relative, got '/x'",
        "5: checks.tests.contains: must have at least one of all, any, none, regex, found none",
        "6: budget: must be >= 0, got -1",
        "7: gate.best: must be 0 to 1, got 2",
        "7: gate.worst: unknown key 'worst' (known: baseline, best, gain, checks)",
        "9: backends.codex.sandbox: must be one of read-only, workspace-write, danger-full-access, got 'x'",
        "10: marks: must be a list, got 'slow' (write a list: [...])",
    )


def test_missing_default_baseline_is_told(tmp_path: Path) -> None:
    assert find_problems(write(tmp_path, MINIMAL)) == ("1: baseline: no folder 'baseline' beside this file",)


def test_half_a_surrogate_pair_is_told(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamltree, "_LOADER", yaml.BaseLoader)  # libyaml refuses it as YAML
    problems = find_problems(write(desk, 'goal: "\\ud800"\nchecks: {a: {run: x}}\n'))
    assert problems == ("1: goal: must not contain half of a surrogate pair",)


def test_file_name_with_a_newline_stays_on_one_line(desk: Path) -> None:
    with pytest.raises(TargetError) as caught:
        load_target(write(desk, ""), providers=PROVIDERS, shown_as="a\nb\udcff.yaml")
    assert caught.value.problems == ("a\\nb\\udcff.yaml:1: is empty; a target has at least a goal and checks",)


# ------------------------------------------------------------------------------------- files with much that is wrong

MANY = 2400
COSTLY = {
    "unknown keys": (MINIMAL + "".join(f"chekcs{number}: 1\n" for number in range(MANY)), "3: chekcs0: unknown key"),
    "repeated keys": (MINIMAL + "goal: x\n" * MANY, "3: goal: given twice"),
    "feedback": (
        "goal: x\nchecks:\n" + "".join(f" a{number}: {{run: x, feedback: fulll}}\n" for number in range(MANY)),
        "3: checks.a0.feedback: must be one of",
    ),
    "checks of the gate": (
        "goal: x\nchecks:\n"
        + "".join(f" abcdefgh{number}: {{run: x}}\n" for number in range(MANY))
        + f"gate: {{checks: [{','.join(f'abcdefgx{number}' for number in range(MANY))}]}}\n",
        f"{MANY + 3}: gate.checks: no check 'abcdefgx0' (known: abcdefgh0,",
    ),
    "sealed tests": (
        "goal: x\nsealed: evaluation\nchecks:\n"
        + "".join(f" a{number}: {{pytest: gone.py}}\n" for number in range(MANY)),
        "4: checks.a0.pytest: no 'gone.py' in the sealed folder",
    ),
    "backends": (
        MINIMAL
        + "backends:\n"
        + "".join(f" b{number}: {{provider: codex, sandbox: reed-only}}\n" for number in range(MANY)),
        "4: backends.b0.sandbox: must be one of",
    ),
    "regular expressions": (
        "goal: x\nchecks:\n"
        + "".join(f" a{number}: {{contains: {{path: x, regex: '({number}'}}}}\n" for number in range(MANY)),
        "3: checks.a0.contains.regex: must be a regular expression",
    ),
}


@pytest.mark.timeout(60)  # each takes a tenth of a second; before they were bounded, the gate's took minutes
@pytest.mark.parametrize(("text", "first"), COSTLY.values(), ids=COSTLY)
def test_the_more_is_wrong_the_less_each_problem_costs(desk: Path, text: str, first: str) -> None:
    problems = find_problems(write(desk, text))
    assert problems[0].startswith(first)
    assert len(problems) == 201
    assert problems[-1] == f"and {MANY - 200} more problems"


# ----------------------------------------------------------------------------------------------- what is no such file


def make_odd_files(folder: Path) -> dict[str, str]:
    """Make what is called like a target file and cannot be read as one; give what is told of each."""
    (folder / "folder.metaharness.yaml").mkdir()
    os.mkfifo(folder / "pipe.metaharness.yaml")
    (folder / "loop.metaharness.yaml").symlink_to("loop.metaharness.yaml")
    (folder / "lost.metaharness.yaml").symlink_to("nowhere\n")
    (folder / "inner.metaharness.yaml").symlink_to("baseline")
    (folder / "device.metaharness.yaml").symlink_to("/dev/zero")
    (folder / "large.metaharness.yaml").write_text(MINIMAL)
    os.truncate(folder / "large.metaharness.yaml", 1 << 30)
    return {
        "folder": "must be a regular file, got a folder",
        "pipe": "must be a regular file, got a FIFO",
        "loop": "cannot be read: Too many levels of symbolic links (a link to 'loop.metaharness.yaml')",
        "lost": r"cannot be read: No such file or directory (a link to 'nowhere\n')",
        "inner": "must be a regular file, got a folder",
        "device": "must be a regular file, got a device",
        "large": "is larger than 256 KiB",
        "gone": "cannot be read: No such file or directory",
    }


@pytest.mark.timeout(20)
def test_what_is_no_file_is_told(desk: Path) -> None:
    for name, expected in make_odd_files(desk).items():
        file = desk / f"{name}.metaharness.yaml"
        assert find_problems(file) == (expected,)
        assert find_line(file, "goal") in {None, 1}
        assert list(guess_folders(file)) == [desk / "baseline"]


def test_a_file_without_data_yet_is_told(desk: Path) -> None:
    messages = Path("/proc/kmsg")  # a regular file by its kind, that answers "try again"
    if not os.access(messages, os.R_OK):
        pytest.skip("needs a readable /proc/kmsg")
    (desk / "waiting.metaharness.yaml").symlink_to(messages)
    (problem,) = find_problems(desk / "waiting.metaharness.yaml")
    assert problem.startswith(("cannot be read: ", "is larger than ", "1: "))


def test_a_file_that_changes_meanwhile_is_a_target_or_told(desk: Path) -> None:
    file = desk / "changing.metaharness.yaml"
    other = desk / "new"
    contents = [text.encode() for text in GOOD.values()] + [b"", b"goal: [", b"\xff", b"# x\n" * 100_000]
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            for number, content in enumerate(contents):
                if number % 3 == 0:
                    other.write_bytes(content)
                    other.replace(file)
                elif number % 3 == 1:
                    file.unlink(missing_ok=True)
                    os.mkfifo(file)
                else:
                    file.unlink(missing_ok=True)
                    file.write_bytes(content)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(300):
            problems: tuple[str, ...] = ()
            try:
                assert load_target(file, providers=PROVIDERS).checks
            except TargetError as error:
                problems = error.problems
            assert all(problem.startswith(f"{file}:") for problem in problems)
            assert (desk / "baseline") in guess_folders(file)
            assert find_line(file, "checks") in {None, *range(1, 20)}
    finally:
        ended.set()
        changer.join()


# -------------------------------------------------------------------------- what can still be said of a broken file


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("goal: [\nbaseline: work\nsealed: 'tests/unit'\n", ["baseline", "work", "tests/unit"]),
        ("'baseline' : ./kept/ # the harness\n\xff", ["baseline", "kept"]),
        ("baseline: .\nsealed: ..\n", ["baseline"]),
        ("baseline: /etc\nsealed: a/../..\n", ["baseline"]),
        ("baseline: {git: HEAD}\nsealed:\n", ["baseline"]),
        ("checks: {baseline: a}\n", ["baseline"]),
    ],
)
def test_folders_of_a_broken_file_are_those_below_it(tmp_path: Path, text: str, folders: list[str]) -> None:
    file = write(tmp_path, text.encode("latin-1"))
    assert list(guess_folders(file)) == [tmp_path / folder for folder in folders]


def test_lines_of_keys_are_found(tmp_path: Path) -> None:
    file = write(tmp_path, "goal: x\nchecks:\n  a: {run: x,\n    weight: 2}\nmarks:\n- slow\n")
    assert find_line(file, "marks") == 5
    assert find_line(file, "checks", "a", "weight") == 4
    assert find_line(file, "checks", "b", "weight") == 2
