"""What a good target file gives: its name, its values, its defaults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from broken_targets import GOOD, MINIMAL, PROVIDERS, make_folder

from pytest_metaharness.core.model import Backend, Check, Contains, Gate, Target
from pytest_metaharness.core.targets.load import is_target_file, load_target, target_name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "desk")


def load(folder: Path, text: str) -> Target:
    file = folder / "metaharness.yaml"
    file.write_bytes(text.encode())
    return load_target(file, providers=PROVIDERS)


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
    assert load(folder, GOOD["full"]) == Target(
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
