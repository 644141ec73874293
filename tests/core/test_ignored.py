"""What ``.gitignore`` files ignore, compared with what git itself says."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repositories import git

from pytest_metaharness.core.store.ignored import match_ignored

Paths = set[tuple[str, bool]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ignored")
    git(folder, "init", "-q")
    git(folder, "config", "core.excludesFile", os.devnull)
    git(folder, "config", "core.ignoreCase", "false")
    (folder / ".git" / "info" / "exclude").unlink(missing_ok=True)
    return folder


def make_tree(repository: Path, paths: Iterable[str], ignores: Mapping[str, bytes]) -> dict[str, bytes]:
    """Put empty files at *paths* as far as they can be, and *ignores* where there are folders; gives the latter."""
    for item in repository.iterdir():
        if item.is_dir() and item.name != ".git":
            shutil.rmtree(item)
        elif not item.is_dir():
            item.unlink()
    for path in paths:
        file = repository / path
        if not file.is_dir() and not any(folder.is_file() for folder in file.parents):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    made = {folder: content for folder, content in ignores.items() if (repository / folder).is_dir()}
    for folder, content in made.items():
        (repository / folder / ".gitignore").write_bytes(content)
    return made


def list_all(repository: Path) -> Paths:
    found: Paths = set()
    for folder, names, files in os.walk(repository):
        if folder == str(repository):
            names.remove(".git")
        found |= {(os.path.relpath(os.path.join(folder, name), repository), True) for name in names}
        found |= {(os.path.relpath(os.path.join(folder, name), repository), False) for name in files}
    return found


def ask_git(repository: Path, paths: Paths) -> Paths:
    """Give those of *paths* that patterns ignore, whether tracked or not."""
    (repository / ".git" / "asked").write_bytes(b"".join(os.fsencode(path) + b"\0" for path, _ in sorted(paths)))
    alias = "alias.ask=!git check-ignore --no-index --stdin -z <.git/asked || test $? = 1"
    told = {os.fsdecode(path) for path in git(repository, "-c", alias, "ask").split(b"\0")[:-1]}
    return {(path, is_folder) for path, is_folder in paths if path in told}


def ask_us(paths: Paths, ignores: Mapping[str, bytes], tracked: Iterable[str] = (), below: str = ".") -> Paths:
    is_ignored = match_ignored(ignores, tracked, below=below)
    start = "" if below == "." else f"{below}/"
    return {
        (path, is_folder)
        for path, is_folder in paths
        if path.startswith(start) and path != start and is_ignored(path.removeprefix(start), is_folder)
    }


TREE = (
    "AGENTS.md", "a.log", "keep.log", "build/x.o", "src/a.py", "src/build/x.o", "src/build/keep.log", "src/keep/b.log",
    "src/deep/er/c.log", "docs/_build/i.html", "docs/build", "dist/w.whl", "pkg.egg-info/PKG-INFO", ".coverage",
    ".coverage.host", "with space", "trailing ", "#hash", "!bang", "back\\slash", "caf\u00e9.txt", "1.tmp", "x.tmp",
    "a/b/c/d", "a/c", "Upper.LOG", "new\nline",
)  # fmt: skip


@pytest.mark.parametrize(
    "ignores",
    [
        {".": b"*.log\n!keep.log\n/build/\ndist\n*.egg-info/\n.coverage*\n"},
        {".": b"/*\n!/src/\nbuild/\n"},
        {".": b"build/\n!/src/\n"},
        {".": b"*.log\n", "src": b"!keep/\n"},
        {".": b"*\n!*/\n!*.py\n"},
        {".": b"src/\n", "src": b"!a.py\n"},
        {".": b"*.log\n", "src": b"!*.log\n", "src/keep": b"b.log\n", "src/deep": b"/er/*\n!/er/c.log"},
        {".": b"src/build\n!src/build/keep.log\n"},
        {".": b"src/**\n!src/keep/\n"},
        {".": b"**/build\na/**/c\n/**/er\n"},
        {".": b"a/**/\n"},
        {".": b"/**\n!/a/**\n"},
        {".": b"build\n", "docs": b"!build/\n"},
        {".": b"\\#hash\n\\!bang\nback\\\\slash\n# comment\n\n   \n"},
        {".": b"with space  \ntrailing\\ \n"},
        {".": b"\xef\xbb\xbf*.log\r\nbuild/\r\n"},
        {".": "caf\u00e9.txt".encode()},
        {".": b"caf?.txt\n"},
        {".": b"caf??.txt\n"},
        {".": b"[0-9].tmp\n[Uu]pper.*\n[[ab]\n[z-a]*\n[x"},
        {".": b"[!0-9].tmp\n"},
        {".": b"!\n/\n//\n!/\n\\\n*\\\n***\n!src/**/*\n"},
        {".": b"src/*.py\nb/c\n"},
        {".": b"new*\na.l?g\n"},
        {"src": b"*\n!.gitignore\n", "a/b": b"/c/"},
    ],
    ids=lambda ignores: str(b" ".join(ignores.values()))[2:-1],
)
def test_patterns_mean_what_they_mean_to_git(repository: Path, ignores: dict[str, bytes]) -> None:
    make_tree(repository, TREE, ignores)
    everything = list_all(repository)
    assert ask_us(everything, ignores) == ask_git(repository, everything)


NAMES = ["a", "b", "ab", "a.b", "b c", "\u00e9", "[a]", "!a", "#a", "a ", "-", "^"]
PATHS = st.lists(st.sampled_from([*NAMES, "a\\"]), min_size=1, max_size=4).map("/".join)
LISTED = st.tuples(
    st.sampled_from(["", "!", "/", "!/"]),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join),
    st.sampled_from(["", "/", "/*", "/**"]),
)
PIECES = [*"ab*?/!#^- \t\r\u00e9", "//", "**", "/**", "**/", "*.b", "a*", "[ab]", "[a-b]", "[b"]
ESCAPES = ["\\\\", "\\ ", "\\!", "\\#", "\\*", "\\?", "\\a"]
LINES = (
    st.lists(st.sampled_from([*PIECES, *ESCAPES]), min_size=1, max_size=5).map("".join) | LISTED.map("".join)
).filter(lambda line: all("**" not in part or part == "**" for part in line.lstrip("!").split("/")))
IGNORES = st.lists(LINES, min_size=1, max_size=5).map(lambda lines: "\n".join(lines).encode())


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    paths=st.lists(st.tuples(PATHS, st.booleans()), min_size=1, max_size=8),
    ignores=st.dictionaries(st.just(".") | PATHS, IGNORES, min_size=1, max_size=3),
    below=st.sampled_from([".", "a", "a/b"]),
)
def test_any_patterns_mean_what_they_mean_to_git(
    repository: Path, paths: list[tuple[str, bool]], ignores: dict[str, bytes], below: str
) -> None:
    ignores = make_tree(repository, [path for path, _ in paths], ignores)
    everything = list_all(repository)
    start = "" if below == "." else f"{below}/"
    tracked = {
        path for path, is_tracked in paths if is_tracked and path.startswith(start) and (path, False) in everything
    }
    around = {path[:end] for path in tracked for end in range(len(path)) if path[end] == "/"}
    wanted = {
        (path, is_folder)
        for path, is_folder in ask_git(repository, everything)
        if path.startswith(start) and path not in (around if is_folder else tracked)
    }
    assert ask_us(everything, ignores, [path.removeprefix(start) for path in tracked], below) == wanted


def test_a_tracked_file_is_never_ignored_nor_a_folder_around_it() -> None:
    is_ignored = match_ignored({".": b"*\n"}, ["build/sub/keep", "a\udcff"])
    assert not is_ignored("build", True)
    assert not is_ignored("build/sub", True)
    assert not is_ignored("build/sub/keep", False)
    assert not is_ignored("a\udcff", False)
    assert is_ignored("build/sub/new", False)
    assert is_ignored("build", False), "the folder is tracked, no file of this name"
    assert is_ignored("a\udcff", True)
    assert is_ignored("b\udcff", False)


def test_many_files_below_many_ignore_files() -> None:
    patterns = b"".join(b"*.x%d\n/out%d/**/*.o\nbuild-%d/\n" % (number, number, number) for number in range(50))
    ignores = {".": patterns, **{f"d{number}": b"*.tmp\n!keep.tmp\nbuild/\n" for number in range(500)}}
    is_ignored = match_ignored(ignores, [])
    ignored = sum(is_ignored(f"d{number % 500}/sub/file-{number}.py", False) for number in range(10_000))
    assert ignored == 0
    assert is_ignored("d7/sub/a.tmp", False)
    assert not is_ignored("d7/sub/keep.tmp", False)


def test_deep_folders_are_no_trouble() -> None:
    deep = posixpath.join(*["d"] * 2000)
    is_ignored = match_ignored({".": b"x\n"}, [f"{deep}/tracked"])
    assert is_ignored(f"{deep}/x", False)
    assert not is_ignored(f"{deep}/y", False)
