"""However a good target file is changed, it gives a target, or problems that say where: never another exception."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from broken_targets import GOOD, PROVIDERS, make_folder
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutated_targets import MUTATIONS, Edit, mutate

from pytest_metaharness.core.errors import TargetError
from pytest_metaharness.core.targets import yamltree
from pytest_metaharness.core.targets.load import guess_folders, load_target

pytestmark = pytest.mark.timeout(300)  # against a file that hangs; a slow one is told by DEADLINE

DEADLINE = timedelta(seconds=30)
"""Of one file, which takes some milliseconds: only what grows out of all proportion may break it."""

EDITS = st.lists(
    st.tuples(st.sampled_from(sorted(MUTATIONS)), st.integers(0, 2**16), st.integers(0, 2**16)), min_size=1, max_size=5
)

WHOLE = re.compile(
    r"x\.yaml: is larger than 256 KiB"
    r"|x\.yaml: and \d+ more problems"
    r"|x\.yaml:(?P<line>\d+): (?:"
    r"not valid YAML: \S|is empty;|is not UTF-8 text \(byte 0x|must be a mapping, got|a second document begins here"
    r"|nested too deeply|too many values|a key |has the YAML tag|\*.* refers to an anchor|alias \*.* stands inside)"
)
"""What is told of a whole file."""

KEYED = re.compile(
    r"x\.yaml:(?P<line>\d+): \S.*?: (?:"
    r"must |unknown key '|is required and missing; |given twice, first on line \d|no folder '|no check '|no '"
    r"|a key |is allowed only together with |merge keys are not supported: write|has the YAML tag "
    r"|takes its tests from the sealed folder|\*.* refers to an anchor|alias \*.* stands inside|nested too deeply)"
)
"""What is told of a key, after its dotted name."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("mutation") / "desk")


def check_file(desk: Path, content: bytes) -> bool:
    """Load a file of *content* and look at what is told; tell whether it is good."""
    file = desk / "metaharness.yaml"
    file.write_bytes(content)
    assert desk / "baseline" in guess_folders(file)
    problems: tuple[str, ...] = ()
    try:
        target = load_target(file, providers=PROVIDERS, shown_as="x.yaml")
    except TargetError as error:
        problems = error.problems
    else:
        assert target.goal.strip()
        assert target.checks
        return True
    lines = len(re.split(rb"\r\n|\n|\r", content))
    assert problems
    for problem in problems:
        found = WHOLE.match(problem) or KEYED.match(problem)
        assert found, problem
        assert problem.isprintable()
        assert len(problem) < 600
        assert found["line"] is None or 1 <= int(found["line"]) <= lines
    return False


@given(name=st.sampled_from(sorted(GOOD)), edits=EDITS)
@settings(max_examples=400, deadline=DEADLINE, suppress_health_check=[HealthCheck.too_slow])
@example(name="full", edits=[("repeat without end", 0, 399)])
def test_any_edit_gives_a_target_or_its_problems(desk: Path, name: str, edits: list[Edit]) -> None:
    check_file(desk, mutate(GOOD[name].encode(), edits))


@given(name=st.sampled_from(sorted(GOOD)), edits=EDITS)
@settings(max_examples=150, deadline=DEADLINE, suppress_health_check=[HealthCheck.too_slow])
@example(name="minimal", edits=[("replace a value", 0, 41)])
def test_any_edit_is_told_without_libyaml_too(desk: Path, name: str, edits: list[Edit]) -> None:
    with patch.object(yamltree, "_LOADER", yaml.BaseLoader):
        check_file(desk, mutate(GOOD[name].encode(), edits))


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutation_breaks_some_file(desk: Path, mutation: str) -> None:
    harmless = {"byte order mark", "CRLF", "CR"}
    content = GOOD["full"].encode()
    kept = [check_file(desk, mutate(content, [(mutation, step * 13, step)])) for step in range(25)]
    assert mutation in harmless or not all(kept)


@given(content=st.binary(max_size=200))
@settings(max_examples=100, deadline=DEADLINE)
def test_any_bytes_give_a_target_error(desk: Path, content: bytes) -> None:
    assert not check_file(desk, content)


@given(text=st.text(st.sampled_from(" \n\t-:?[]{}&*!|>'\"%@`#,~=<0ab\x85\u2028"), max_size=80))
@settings(max_examples=300, deadline=DEADLINE)
def test_any_words_of_yaml_give_a_target_error(desk: Path, text: str) -> None:
    assert not check_file(desk, text.encode())
