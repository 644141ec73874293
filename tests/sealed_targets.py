"""Targets with sealed tests: how they are written, and one whose tests import a program and start it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sessions import write_files

RULER = {
    "tests/conftest.py": "import pytest\n@pytest.fixture\ndef two(): return 2\n",
    "tests/test_app.py": """
import pytest
import app

def test_imports(): assert app.__name__ == "app"

@pytest.mark.parametrize("number", [1, 2])
def test_in_process(number, two): assert app.double(number) == number * two

class TestClass:
    def test_raises(self):
        with pytest.raises(TypeError):
            app.double(None)
""",
    "tests/test_program.py": """
import csv, subprocess, sys

def test_another(): assert next(csv.reader(["a,b"])) == ["a", "b"]

def test_program():
    done = subprocess.run([sys.executable, "app.py", "2"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "4\\n"), done.stderr
""",
}
WRONG = """
import os, sys
def double(number): return number
if __name__ == '__main__': print(double(int(sys.argv[1])))
"""
RIGHT = WRONG.replace("return number", "return number * 2")


def make_target(
    pytester: pytest.Pytester, target: dict[str, Any], sealed: dict[str, str], files: dict[str, str]
) -> None:
    write_files(pytester.path, {"metaharness.yaml": json.dumps({"goal": "Pass.", "sealed": "sealed"} | target)})
    write_files(pytester.path, {f"sealed/{path}": content for path, content in sealed.items()})
    write_files(pytester.path, files)
