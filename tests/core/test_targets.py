from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_metaharness.core.errors import TargetError
from pytest_metaharness.core.model import Backend, Check, Contains, Gate, Target
from pytest_metaharness.core.targets import yamltree
from pytest_metaharness.core.targets.load import (
    is_target_file,
    load_target,
    target_name,
)
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


def read_cases(file: str) -> dict[str, str]:
    text = (Path(__file__).parent / "target_cases" / file).read_text(encoding="utf-8")
    parts = re.split(r"^#### (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def read_broken() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Give text and expected fragments by name; the long and the unprintable ones stand here."""
    broken = {}
    for name, case in read_cases("broken.txt").items():
        text, *expected = case.rstrip("\n").split("=> ")
        broken[name] = text, tuple(part.rstrip("\n") for part in expected)
    bomb = "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20))
    check = "goal: x\nchecks:\n  a: "
    return broken | {
        "tab": ("goal: x\nchecks:\n\ta: {run: x}\n", (":3: not valid YAML: column 1: ", "indent with spaces")),
        "control-character": ("goal: x\nchecks: \a\n", (":2: not valid YAML: control character '\\x07'",)),
        "deep-list": (MINIMAL + "marks: " + "[" * 100_000, (":3: nested too deeply (more than 50 levels)",)),
        "deep-block": ("\n".join(" " * level + "a:" for level in range(300)), (":51: nested too deeply",)),
        "many-values": (MINIMAL + "marks: [" + "a," * 110_000 + "]", (":3: too many values (more than 100000",)),
        "alias-bomb": ("a: &a [x, x, x, x, x, x, x, x, x]\n" + bomb, (":6: too many values (more than 100000",)),
        "text-bomb": (f"a: &a {'x' * 500_000}\nb: [{'*a, ' * 20_000}]\n", (":2: too many values",)),
        "long-key": (MINIMAL + f"{'k' * 500}: x\n", (f":3: {'k' * 60}...: unknown key '{'k' * 60}...' (known",)),
        "long-text": (MINIMAL + f"baseline: /{'x' * 500}\n", (f"must be relative, got '/{'x' * 59}...'",)),
        "long-folder": (MINIMAL + f"baseline: {'x' * 5000}\n", (":3: baseline: no folder 'xxxx",)),
        "many-digits": (MINIMAL + f"budget: {'9' * 100_000}\n", (f"must be at most 1000000, got {'9' * 60}...",)),
        "deep-regex": (check + f"{{contains: {{path: x, regex: '{'(' * 9999}'}}}}\n", ("nested less deeply",)),
    }


GOOD = read_cases("good.txt")
BROKEN = read_broken()
FULL = GOOD["full"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "desk")


def make_folder(folder: Path) -> Path:
    for name in ("baseline/sub", "evaluation", "around/in"):
        (folder / name).mkdir(parents=True)
    (folder / "a-file").write_text("", encoding="utf-8")
    (folder / "link").symlink_to("baseline")
    return folder


def load(folder: Path, text: str | bytes, **kwargs: Any) -> Target:
    file = folder / "metaharness.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_target(file, providers=PROVIDERS, **kwargs)


def find_problems(folder: Path, text: str | bytes, **kwargs: Any) -> tuple[str, ...]:
    with pytest.raises(TargetError) as caught:
        load(folder, text, **kwargs)
    return caught.value.problems


# --------------------------------------------------------------------------------------------------- good files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("metaharness.yaml", True),
        ("router.metaharness.yaml", True),
        ("metaharness.yml", False),
        ("xmetaharness.yaml", False),
        ("metaharness.yaml.bak", False),
    ],
)
def test_target_files_are_known_by_name(name: str, expected: bool) -> None:
    assert is_target_file(name) is expected


def test_target_is_named_after_its_folder_or_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    assert target_name(tmp_path / "desk" / "metaharness.yaml") == "desk"
    assert target_name(tmp_path / "desk" / "router.v2.metaharness.yaml") == "router.v2"
    assert target_name(Path("metaharness.yaml")) == "desk"
    assert target_name(Path(os.fsdecode(b"/x/caf\xe9/metaharness.yaml"))) == "caf\ufffd"


def test_full_file_gives_every_value(folder: Path) -> None:
    assert load(folder, FULL) == Target(
        name="desk",
        file=folder / "metaharness.yaml",
        goal="Make bootstrap, validation and tests of this repository work for a coding agent.",
        constraints=("Keep the workflow deterministic.",),
        baseline="baseline",
        editable=("AGENTS.md", "GEMINI.md", "scripts/", "**/*.md"),
        required=("AGENTS.md",),
        sealed="evaluation",
        transient=("build/", "*.log"),
        budget=2,
        timeout=240.0,
        checks=(
            Check(
                id="git-safety",
                contains=Contains(path="AGENTS.md", all=("git reset --hard",), regex=r"^\d+"),
            ),
            Check(
                id="bootstrap",
                run="bash scripts/bootstrap.sh && test -x .venv/bin/python",
                exit_code=3,
                weight=1.5,
            ),
            Check(id="accuracy", score="python score.py", weight=4.0, required=True),
            Check(
                id="7.own",
                use="my-check",
                with_={"names": ("a", 2), "nested": {"x": 0.5, "y": None, "z": True}},
            ),
        ),
        gate=Gate(baseline=0.0, best=0.9, gain=-0.1),
        backends={
            "codex-20b": Backend(
                name="codex-20b",
                provider="codex",
                model="gpt-oss:20b",
                timeout=240.0,
                options={"sandbox": "read-only"},
            ),
            "codex": Backend(
                name="codex",
                provider="codex",
                env={"HTTPS_PROXY": None},
                args=("--level", ""),
                api_key="MY_KEY",
                api="responses",
                options={"context_files": False},
            ),
            "house": Backend(
                name="house",
                provider="our-own",
                base_url="http://127.0.0.1:8080/v1",
                executable="~/bin/agent",
                env={"MODE": "fast", "TOKEN": None},
                options={"temperature": (0.5, {"a": "b"})},
            ),
        },
        marks=("slow",),
        sandbox_read=("~/data", "/opt/sdk"),
    )


def test_absent_keys_have_the_defaults_of_the_model(folder: Path) -> None:
    target = load(folder, MINIMAL)
    assert target == Target(name="desk", file=folder / "metaharness.yaml", goal="x", checks=(Check(id="a", run="x"),))


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good_files_load(folder: Path, text: str) -> None:
    target = load(folder, text)
    assert target.checks[0].id in {"a", "git-safety"}
    assert load(folder, "\ufeff" + text.replace("\n", "\r\n")) == target


def test_aliases_share_values(folder: Path) -> None:
    first, second = load(folder, GOOD["aliases"]).checks
    assert (first.id, second.id) == ("a", "b")
    assert first.weight == second.weight == 2.0


def test_checks_keep_their_order(folder: Path) -> None:
    ids = [f"c{number}" for number in (3, 1, 2, 10, 0)]
    text = "goal: x\nchecks:\n" + "".join(f"  {name}: {{run: x}}\n" for name in ids)
    assert [check.id for check in load(folder, text).checks] == ids


# -------------------------------------------------------------------------------------------------- broken files


@pytest.fixture(params=["c-loader", "python-loader"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "python-loader":
        monkeypatch.setattr(yamltree, "_LOADER", yaml.BaseLoader)
    return str(request.param)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(("text", "expected"), BROKEN.values(), ids=BROKEN)
def test_broken_file_says_where_what_and_what_is_allowed(folder: Path, text: str, expected: tuple[str, ...]) -> None:
    problems = find_problems(folder, text, shown_as="a/metaharness.yaml")
    assert expected
    for fragment in expected:
        assert fragment in "\n".join(problems)
    for problem in problems:
        assert re.match(r"a/metaharness\.yaml:\d+: \S", problem), problem
        assert problem.isprintable()
        assert len(problem) < 400


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(folder: Path) -> None:
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
    assert find_problems(folder, text, shown_as="x.yaml") == (
        "x.yaml:1: goal: must be text, got false (YAML reads an unquoted no as a boolean: quote it)",
        "x.yaml:2: baseline: no folder 'nope' beside this file",
        "x.yaml:4: checks.tests.run: must be text, got 5 (YAML reads an unquoted 5 as a number: quote it)",
        (
            "x.yaml:4: checks.tests.wieght: unknown key 'wieght' "
            "(known: contains, run, exit_code, score, pytest, use, with, weight, timeout, "
            "required, fresh, network, env, feedback, volatile, repeat; did you mean 'weight'?)"
        ),
        "x.yaml:4: checks.tests.weight: must be > 0, got -1",
        "x.yaml:5: checks.tests: given twice, first on line 4",
        "x.yaml:5: checks.tests.contains.path: must be relative, got '/x'",
        "x.yaml:5: checks.tests.contains: must have at least one of all, any, none, regex, found none",
        "x.yaml:6: budget: must be >= 0, got -1",
        "x.yaml:7: gate.best: must be 0 to 1, got 2",
        "x.yaml:7: gate.worst: unknown key 'worst' (known: baseline, best, gain, checks)",
        "x.yaml:9: backends.codex.sandbox: must be one of read-only, workspace-write, danger-full-access, got 'x'",
        "x.yaml:10: marks: must be a list, got 'slow' (write a list: [...])",
    )


def test_missing_default_baseline_is_told(tmp_path: Path) -> None:
    assert find_problems(tmp_path, MINIMAL, shown_as="x") == ("x:1: baseline: no folder 'baseline' beside this file",)


def test_problems_beyond_two_hundred_are_counted(folder: Path) -> None:
    problems = find_problems(folder, MINIMAL + "".join(f"k{number}: 1\n" for number in range(1000)), shown_as="x")
    assert len(problems) == 201
    assert problems[-1] == "x: and 800 more problems"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"goal: x\n\xff\xfe", "x:2: is not UTF-8 text (byte 0xff)"),
        ("goal: x\n".encode("utf-16"), "x:1: is not UTF-8 text (byte 0xff)"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "x:1: not valid YAML: control character '\\x7f' in the text"),
        (b"\x00" * 100, "x:1: not valid YAML: control character '\\x00' in the text"),
        (b"goal: \xed\xa0\x80\n", "x:1: is not UTF-8 text (byte 0xed)"),
        (b"# " + b"x" * 1024 * 1024, "x: is larger than 1024 KiB"),
    ],
    ids=["bytes", "utf-16", "program", "zeros", "surrogate", "large"],
)
def test_bytes_that_are_no_text_are_told(folder: Path, content: bytes, expected: str) -> None:
    assert find_problems(folder, content, shown_as="x") == (expected,)


def test_half_a_surrogate_pair_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamltree, "_LOADER", yaml.BaseLoader)  # the C loader refuses it as YAML
    problems = find_problems(folder, 'goal: "\\ud800"\nchecks: {a: {run: x}}\n', shown_as="x")
    assert problems == ("x:1: goal: must not contain half of a surrogate pair",)


def test_what_is_no_file_is_told(folder: Path) -> None:
    (folder / "metaharness.yaml").mkdir()
    os.mkfifo(folder / "pipe.metaharness.yaml")
    (folder / "loop.metaharness.yaml").symlink_to("loop.metaharness.yaml")
    found = {}
    for name in ("metaharness.yaml", "pipe.metaharness.yaml", "loop.metaharness.yaml", "gone.metaharness.yaml"):
        with pytest.raises(TargetError) as caught:
            load_target(folder / name, providers=PROVIDERS, shown_as=name)
        found[name] = str(caught.value)
    assert found["metaharness.yaml"] == "metaharness.yaml: is a folder"
    assert found["pipe.metaharness.yaml"] == "pipe.metaharness.yaml: is no regular file"
    assert found["loop.metaharness.yaml"].startswith("loop.metaharness.yaml: cannot be read: ")
    assert found["gone.metaharness.yaml"] == "gone.metaharness.yaml: cannot be read: No such file or directory"


def test_file_name_with_a_newline_stays_on_one_line(folder: Path) -> None:
    assert find_problems(folder, "", shown_as="a\nb\udcff.yaml") == (
        "a\\nb\\udcff.yaml:1: is empty; a target has at least a goal and checks",
    )


# ---------------------------------------------------------------------------------------------------- any mutation

EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("drop line"), st.integers(0, 40), st.just("")),
        st.tuples(st.just("repeat line"), st.integers(0, 40), st.just("")),
        st.tuples(
            st.just("put"), st.integers(0, 2000), st.sampled_from([*"\t\n:-[]{}&*!|>'\"%@#,?~=<0", "yes", "\0", "\x85"])
        ),
        st.tuples(st.just("put"), st.integers(0, 2000), st.text(max_size=3)),
        st.tuples(st.just("cut"), st.integers(0, 2000), st.text(max_size=6)),
    ),
    min_size=1,
    max_size=4,
)


def edit(text: str, edits: list[tuple[str, int, str]]) -> str:
    for kind, place, inserted in edits:
        lines = text.splitlines(keepends=True)
        if kind == "drop line":
            text = "".join(lines[:place] + lines[place + 1 :])
        elif kind == "repeat line":
            text = "".join(lines[: place + 1] + lines[place:])
        elif kind == "put":
            text = text[:place] + inserted + text[place:]
        else:
            text = text[:place] + text[place + len(inserted) :]
    return text


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("mutation") / "desk")


@given(edits=EDITS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_edit_gives_a_target_or_its_problems(shared_folder: Path, edits: list[tuple[str, int, str]]) -> None:
    content = edit(FULL, edits).encode("utf-8", "surrogatepass")
    problems: tuple[str, ...] = ()
    try:
        target = load(shared_folder, content, shown_as="x.yaml")
    except TargetError as error:
        problems = error.problems
    assert problems or (target.goal.strip() and target.checks)
    for problem in problems:
        assert re.match(r"x\.yaml(:\d+)?: \S", problem)
        assert problem.isprintable()


@given(content=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_a_target_error(shared_folder: Path, content: bytes) -> None:
    with pytest.raises(TargetError):
        load(shared_folder, content)
