"""What tests that go through the front door share: small targets, and readers of what a session leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from pytest_metaharness.reports import build_schema

serial_and_xdist = pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "xdist"])

Run = dict[str, Any]


def make_target(folder: Path, text: str, *, fake: str = "", **files: str) -> Path:
    """Make a target of *text* with baseline *files*; ``{"a_txt": ...}`` is the file ``a.txt``."""
    baseline = folder / "baseline"
    baseline.mkdir(parents=True)
    (folder / "metaharness.yaml").write_text(text)
    if fake:
        (folder / "fake.yaml").write_text(f"proposals: {fake}\n")
    for name, content in files.items():
        (baseline / name.replace("_", ".")).write_text(content)
    return folder


def find_session(root: Path) -> Path:
    """Give the folder of the only session under *root*."""
    (file,) = root.glob(".metaharness/*/session.json")
    return file.parent


def read_report(root: Path) -> dict[str, Any]:
    """Give the content of the only session's ``report.json``, which fits its schema."""
    return read_report_file(find_session(root) / "report.json")


def read_report_file(file: Path) -> dict[str, Any]:
    """Give the content of a ``report.json``, which fits its schema."""
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(build_schema()).validate(report)
    return report


def read_runs(root: Path) -> dict[str, Run]:
    """Give the runs of the only session, by the name of the target."""
    return {run["target"]: run for run in read_report(root)["runs"]}


def read_table(file: Path) -> list[dict[str, str]]:
    """Give the rows of a TSV file as its heading names them."""
    heading, *lines = (line.split("\t") for line in file.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    return [dict(zip(heading, line, strict=True)) for line in lines]


def read_outcomes(run: Run) -> list[str]:
    """Give the outcome of every candidate, in order."""
    return [candidate["outcome"] for candidate in run["candidates"]]


def read_junit(file: Path) -> Mapping[str, ElementTree.Element]:
    """Give the test cases of a JUnit file, by class and name."""
    return {
        "{classname}::{name}".format(**case.attrib): case for case in ElementTree.parse(file).getroot().iter("testcase")
    }
