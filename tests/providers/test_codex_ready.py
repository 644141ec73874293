"""Whether codex can be tried at all is told before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_metaharness.backends.codex import check_ready
from pytest_metaharness.core.errors import BackendError
from pytest_metaharness.core.model import Backend, Target

from .proposing import KEY

TARGET = Target(name="target", file=Path("metaharness.yaml"), goal="Improve.", checks=())


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has a program called codex, and no credentials."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "codex"
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}


def refuse(environ: dict[str, str], **keys: Any) -> str:
    with pytest.raises(BackendError) as refused:
        check_ready(Backend(name="mine", provider="codex", **keys), target=TARGET, environ=environ)
    return str(refused.value)


def accept(environ: dict[str, str], **keys: Any) -> None:
    check_ready(Backend(name="mine", provider="codex", **keys), target=TARGET, environ=environ)


def test_missing_program_is_told(installed: dict[str, str], tmp_path: Path) -> None:
    fix = "install it with `npm install -g @openai/codex`, or set executable"
    nowhere = {**installed, "PATH": str(tmp_path)}
    assert refuse(nowhere) == f"backend 'mine': codex was not found; {fix}"
    assert (
        refuse(installed, executable="/no/codex") == f"backend 'mine': its executable '/no/codex' was not found; {fix}"
    )


def test_missing_credentials_are_told(installed: dict[str, str]) -> None:
    assert refuse(installed) == "backend 'mine': no credentials for codex; set CODEX_API_KEY or run `codex login`"
    assert refuse({**installed, "CODEX_API_KEY": ""}).endswith("set CODEX_API_KEY or run `codex login`")
    named = refuse({**installed, "CODEX_API_KEY": KEY}, api_key="MY_KEY")
    assert named == "backend 'mine': its api_key MY_KEY is not set; set it, or leave api_key out for CODEX_API_KEY"


def test_credentials_are_found(installed: dict[str, str], home: Path, tmp_path: Path) -> None:
    accept({**installed, "CODEX_API_KEY": KEY})
    accept({**installed, "MY_KEY": KEY}, api_key="MY_KEY")
    accept(installed, env={"CODEX_API_KEY": KEY})
    accept(installed, base_url="http://127.0.0.1:1234/v1")  # a local server may need none
    file = home / ".codex" / "auth.json"
    file.parent.mkdir()
    file.write_text("{}", encoding="utf-8")
    accept(installed)
    file.rename(tmp_path / "auth.json")
    assert "no credentials" in refuse(installed)
    accept({**installed, "CODEX_HOME": str(tmp_path)})
