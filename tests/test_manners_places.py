"""Where pytest looks for things: ini files, root folder, arguments; and the folders in which it never runs anything."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from sessions import LEAN, find_session, make_target, read_report, serial_and_xdist, write_files

TARGET = """\
goal: Say yes.
checks: {a: {contains: {path: a.txt, all: ["yes"]}}}
"""
FAKE = '[{files: {a.txt: sure}}, {files: {a.txt: "yes"}}]'


def read_settings(root: Path) -> dict[str, list[Any]]:
    """Give the settings of the only run, with their origin."""
    (run,) = read_report(root)["runs"]
    return {name: [setting["value"], setting["from"]] for name, setting in run["settings"].items()}


def list_items(result: pytest.RunResult) -> list[str]:
    """Give the node ids that ``--co -q`` printed."""
    return [line for line in result.outlines if "::" in line]


# ------------------------------------------------------------------------------------------------------- ini files

INI = """\
metaharness_budget = 2
metaharness_timeout = 30.5
metaharness_sandbox = auto
metaharness_sandbox_read = more
"""
TOML = """\
metaharness_budget = 2
metaharness_timeout = 30.5
metaharness_sandbox = "auto"
metaharness_sandbox_read = ["more"]
"""
ADDOPTS_INI = "addopts = --metaharness=fake --metaharness-name=mine\n"
ADDOPTS_TOML = 'addopts = ["--metaharness=fake", "--metaharness-name=mine"]\n'


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("pytest.ini", f"[pytest]\n{INI}{ADDOPTS_INI}"),
        (".pytest.ini", f"[pytest]\n{INI}{ADDOPTS_INI}"),
        ("tox.ini", f"[tox]\n[pytest]\n{INI}{ADDOPTS_INI}"),
        ("setup.cfg", f"[tool:pytest]\n{INI}{ADDOPTS_INI}"),
        ("pytest.toml", f"[pytest]\n{TOML}{ADDOPTS_TOML}"),
        (".pytest.toml", f"[pytest]\n{TOML}{ADDOPTS_TOML}"),
        ("pyproject.toml", f"[tool.pytest]\n{TOML}{ADDOPTS_TOML}"),
        ("pyproject.toml", f"[tool.pytest.ini_options]\n{TOML}{ADDOPTS_TOML}"),
    ],
    ids=lambda value: value if "\n" not in value else value.partition("\n")[0].strip("[]"),
)
def test_ini_files_of_every_kind(pytester: pytest.Pytester, file: str, content: str) -> None:
    make_target(pytester.path / "small", TARGET, fake=FAKE, a_txt="no")
    (pytester.path / file).write_text(content)
    result = pytester.runpytest_subprocess("small")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"configfile: {file}", "small/metaharness.yaml::fake * 1.000 *2/2*"])
    assert find_session(pytester.path).name == "mine"
    assert read_settings(pytester.path) == {
        "budget": [2, "ini metaharness_budget"],
        "timeout": [30.5, "ini metaharness_timeout"],
        "sandbox": ["auto", "ini metaharness_sandbox"],
        "retries": [2, "default"],
        "trials": [1, "default"],
    }


@serial_and_xdist
def test_options_from_everywhere(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    make_target(pytester.path / "small", TARGET, fake=FAKE, a_txt="no")
    (pytester.path / "other.ini").write_text("[pytest]\nmetaharness_budget = 5\naddopts = --metaharness=codex\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", f"{LEAN} --metaharness-trials=2 --metaharness-timeout=20")
    args = ("-c", "other.ini", "-o", "metaharness_budget=2", "--metaharness=fake", "--metaharness-trials=1")
    pytester.runpytest_subprocess(*args, *workers).assert_outcomes(passed=1)
    assert read_settings(pytester.path) == {
        "budget": [2, "ini metaharness_budget"],
        "timeout": [20.0, "--metaharness-timeout"],
        "sandbox": ["auto", "default"],
        "retries": [2, "default"],
        "trials": [1, "--metaharness-trials"],
    }


# ----------------------------------------------------------------------------------------------- places and names


SAME = """\
from pytest_metaharness import Check, Contains, Target

def test_same(metaharness):
    check = Check(id="a", contains=Contains(path="a.txt", all=["yes"]))
    metaharness(Target(goal="Say yes.", baseline="same/baseline", checks=[check]))
"""


@serial_and_xdist
def test_the_root_folder_is_elsewhere(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    root = pytester.mkdir("root")
    (root / "pytest.ini").write_text("[pytest]\nmetaharness_budget = 2\n")
    (root / "pyproject.toml").write_text('[tool.metaharness.backends.canned]\nprovider = "fake"\n')
    for folder in ("one", "two"):
        make_target(pytester.path / folder / "same", TARGET, fake=FAKE, a_txt="no")
        write_files(pytester.path / folder, {"test_x.py": SAME, "fake.yaml": f"proposals: {FAKE}\n"})
    args = ("--rootdir=root", "-c", "root/pytest.ini", "--import-mode=importlib", "--metaharness=canned")
    result = pytester.runpytest_subprocess(*args, "--metaharness-report=here.json", *workers, "one", "two")
    result.assert_outcomes(passed=4)
    runs = read_report(root)["runs"]
    assert [(run["nodeid"], run["target"], run["best"]) for run in runs] == [
        ("../one/same/metaharness.yaml::canned", "same", 1.0),
        ("../one/test_x.py::test_same[canned]", "same", 1.0),
        ("../two/same/metaharness.yaml::canned", "same", 1.0),
        ("../two/test_x.py::test_same[canned]", "same", 1.0),
    ]
    assert all((root / run["patch"]).is_file() for run in runs)
    assert not (pytester.path / ".metaharness").exists()
    assert (pytester.path / "here.json").is_file()


@pytest.mark.parametrize(
    ("cwd", "args", "items"),
    [
        (".", "", ["one", "two/deep"]),
        (".", "two", ["two/deep"]),
        (".", "two/deep/metaharness.yaml one", ["two/deep", "one"]),
        (".", "one/metaharness.yaml::baseline", ["one"]),
        (".", "{path}/two/deep", ["two/deep"]),
        (".", "./two/../one//metaharness.yaml", ["one"]),
        ("two/deep", "", ["two/deep"]),
        ("two/deep", "metaharness.yaml::baseline", ["two/deep"]),
        ("two", "../one", ["one"]),
    ],
)
def test_targets_are_found_as_they_are_given(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cwd: str, args: str, items: list[str]
) -> None:
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    make_target(pytester.path / "one", TARGET, a_txt="no")
    make_target(pytester.path / "two" / "deep", TARGET, a_txt="no")
    monkeypatch.chdir(pytester.path / cwd)
    result = pytester.runpytest_subprocess("--co", "-q", *shlex.split(args.format(path=pytester.path)))
    assert list_items(result) == [f"{item}/metaharness.yaml::baseline" for item in items]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("one/metaharness.yaml::codex", "*not found: */one/metaharness.yaml::codex"),
        ("two/metaharness.yaml", "*file or directory not found: two/metaharness.yaml"),
    ],
)
def test_what_is_not_there_is_a_usage_error(pytester: pytest.Pytester, argument: str, message: str) -> None:
    make_target(pytester.path / "one", TARGET, a_txt="no")
    result = pytester.runpytest_subprocess("--metaharness=fake", argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert not (pytester.path / ".metaharness").exists()


@serial_and_xdist
def test_targets_of_one_name_are_kept_apart(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    for folder in ("one", "two"):
        make_target(pytester.path / folder / "same", TARGET, fake=FAKE, a_txt=f"{folder}\n")
        (pytester.path / folder / "same" / "same.metaharness.yaml").write_text(TARGET)
        write_files(pytester.path / folder, {"__init__.py": "", "test_x.py": SAME, "fake.yaml": f"proposals: {FAKE}\n"})
    args = ("--metaharness=fake", "--metaharness-budget=2", *workers)
    pytester.runpytest_subprocess(*args).assert_outcomes(passed=6)
    runs = read_report(pytester.path)["runs"]
    assert {run["target"] for run in runs} == {"same"}
    assert len({run["directory"] for run in runs}) == 6
    git = ("git", f"--git-dir={find_session(pytester.path) / 'store.git'}")
    for run in runs:
        branch = Path(run["directory"]).name
        content = pytester.run(*git, "show", f"{branch}/c0000:a.txt").outlines
        assert content == [run["nodeid"].partition("/")[0]]


# ---------------------------------------------------------------------------- folders in which nothing is ever run

NOTE = """\
with open({file!r}, "a") as file:
    file.write(__file__ + "\\n")
"""


@pytest.fixture
def guarded(pytester: pytest.Pytester) -> Path:
    """Two targets with tests in their baselines and sealed folders; by name some invite pytest to load a conftest."""
    root = pytester.path / "project"
    make_target(root / "x", f"{TARGET}sealed: tests\n", a_txt="no")
    make_target(root / "x" / "test_y", f"{TARGET}baseline: test_base\n", a_txt="no")
    (root / "x" / "test_y" / "baseline").rename(root / "x" / "test_y" / "test_base")
    note = NOTE.format(file=str(pytester.path / "ran"))
    for folder in ("baseline", "baseline/tests", "tests", "test_y/test_base", "test_y/test_base/tests"):
        files = {
            "__init__.py": note,
            "conftest.py": note,
            "test_a.py": f"{note}def test_a(): pass\n",
            "README.md": ">>> 1",
        }
        write_files(root / "x" / folder, files)
    return write_files(
        root, {"x/test_own.py": "def test_own(): pass\n", "x/conftest.py": "", "pytest.ini": "[pytest]\n"}
    )


def list_runs(root: Path) -> list[str]:
    """Give the files of the measured that pytest ran, relative to the target."""
    file = root.parent / "ran"
    lines = file.read_text().splitlines() if file.exists() else []
    return [str(Path(line).relative_to(root / "x")) for line in lines]


@pytest.mark.parametrize(
    ("cwd", "args", "tests"),
    [
        (".", "", 3),
        (".", "-n2", 3),
        (".", "--metaharness=off", 1),
        (".", "--doctest-modules --doctest-glob=*.md -o python_files=*.py", 3),
        (".", "x x/test_y -p no:xdist", 3),
        ("x", "", 3),
        ("x", "-n2 --metaharness=fake", 3),
        ("x", "--metaharness=off --import-mode=importlib", 1),
        ("x/test_y", "", 1),
        ("x/test_y", "metaharness.yaml", 1),
        ("x/test_y", "../test_own.py --rootdir=.", 1),
    ],
)
def test_nothing_of_a_target_is_run(  # noqa: PLR0917
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, guarded: Path, cwd: str, args: str, tests: int
) -> None:
    monkeypatch.chdir(guarded / cwd)
    result = pytester.runpytest_subprocess(*shlex.split(args))
    assert list_runs(guarded) == []
    assert sum(result.parseoutcomes().values()) == tests
    assert result.ret in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}


@pytest.mark.parametrize(
    ("cwd", "args", "named", "owner"),
    [
        (".", "x/baseline", "x/baseline", "x/metaharness.yaml"),
        (".", "x/test_own.py x/baseline/tests/test_a.py::test_a", "x/baseline/tests/test_a.py", "x/metaharness.yaml"),
        (".", "-n2 --metaharness=fake x/tests", "x/tests", "x/metaharness.yaml"),
        (".", "-o testpaths=x/test*s", "x/tests", "x/metaharness.yaml"),
        ("x", "test_y/test_base/conftest.py", "test_y/test_base/conftest.py", "x/test_y/metaharness.yaml"),
        ("x/baseline", "", "{cwd}", "x/metaharness.yaml"),
        ("x/baseline/tests", "test_a.py", "test_a.py", "x/metaharness.yaml"),
        ("x/tests", "-c /dev/null --rootdir=.", "{cwd}", "{root}/x/metaharness.yaml"),
    ],
)
def test_to_name_it_is_a_usage_error(  # noqa: PLR0917
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    guarded: Path,
    cwd: str,
    args: str,
    named: str,
    owner: str,
) -> None:
    monkeypatch.chdir(guarded / cwd)
    result = pytester.runpytest_subprocess(*shlex.split(args))
    named, owner = (text.format(cwd=guarded / cwd, root=guarded) for text in (named, owner))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: {named} belongs to target {owner} and is never run as tests; -p no:metaharness lets pytest run it"]
    )
    assert list_runs(guarded) == []


def test_without_the_plugin_it_is_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, guarded: Path
) -> None:
    monkeypatch.chdir(guarded / "x" / "baseline")
    pytester.runpytest_subprocess("-p", "no:metaharness", "test_a.py").assert_outcomes(passed=1)
    assert "baseline/test_a.py" in list_runs(guarded)


@pytest.mark.parametrize("args", [(), ("--metaharness-dir=store",)], ids=["default", "elsewhere"])
def test_nothing_in_the_session_store_is_run(pytester: pytest.Pytester, args: tuple[str, ...]) -> None:
    make_target(pytester.path / "x", TARGET, a_txt="no")
    note = NOTE.format(file=str(pytester.path / "ran"))
    for store in (".metaharness", "store"):
        write_files(pytester.path / store / "one", {"test_left.py": note, "conftest.py": note})
    result = pytester.runpytest_subprocess(*args, "--ignore=store", "-o", "norecursedirs=")
    result.assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess(".metaharness/one/test_left.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: .metaharness/one/test_left.py belongs to the session store and is never run*"])
    assert not (pytester.path / "ran").exists()
