"""Permissions in the way of a user who is not root: they are no part of a candidate and do not hide it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hostile import make_project
from providers.plain_user import become_plain_user
from sessions import LEAN, read_report

TARGET = {"goal": "Write words.", "checks": {"words": {"score": "python -I measure/words.py"}}}
BASELINE = {"words.txt": "word\n" * 10, "play/ball.txt": "round\n", "play/deep/er.txt": "er\n"}
PLANT = """
os.symlink('er.txt', 'play/deep/link-{words}')
write('words.txt', 'word ' * {words})
for path in ('words.txt', 'play/deep', 'play', '.'):
    os.chmod(path, {mode})
"""
MODES = (0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600, 0o700)


def test_permissions_without_privileges(sandbox_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plants = [(PLANT.format(words=20 + number, mode=mode), False) for number, mode in enumerate(MODES)]
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hostile-") as name:
        project = make_project(Path(name), sandbox_mode, monkeypatch)
        project.write({**TARGET, "budget": len(plants)}, plants, BASELINE)
        prefix, env = become_plain_user(project.root)
        options = ["--metaharness=mine", f"--metaharness-sandbox={sandbox_mode}", "--metaharness-name=tested"]
        done = subprocess.run(
            [*prefix, "-m", "pytest", "-pno:cacheprovider", "-rA", *options, "project"],
            cwd=project.root,
            env={**env, **project.environment, "PYTEST_ADDOPTS": LEAN},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        (run,) = read_report(project.root)["runs"]
        project.check_nothing_is_left()
    for number, candidate in enumerate(run["candidates"][1:]):
        assert (candidate["outcome"], candidate["objective"]) == ("keep", (20 + number) / 100)
