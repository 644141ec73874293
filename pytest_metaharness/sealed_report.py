"""Run sealed tests with pytest and report each case over a pipe: a program that ``core/checks/sealed_tests.py`` starts.

Its arguments are the folder that holds pytest, the root of the sealed files and the tests in it; its standard input is
the key that its reports are signed with; they leave by its standard output, all else goes to standard error. It is run
as a copy, by ``python -I``, so it imports nothing of this package.

Tests that import the candidate's code share this process with it, and what is in a process can change all of it. So
this makes tampering show rather than impossible; tests that start the candidate as a program are out of its reach.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import site
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType

if __name__ == "__main__" and sys.argv[1] not in sys.path:
    sys.path.append(sys.argv[1])  # a folder of the user, maybe, which an isolated interpreter does not look into

import pytest

_PR_SET_DUMPABLE = 4  # prctl(2)
_MESSAGE_CHARACTERS = 100_000  # so that no line of the report gets too long
_GUARDED = re.compile(
    r"pytest|pluggy(\..+)?|unittest\.case|_pytest\.(main|nodes|python|fixtures|unittest|runner|reports|outcomes|skipping"
    r"|raises|approx|python_api|recwarn|assertion|assertion\.rewrite)"
)  # what decides about outcomes; all of it would take too long to look at after each test
_VOLATILE = frozenset({"__annotations__", "__annotations_cache__", "__doc__", "__weakref__", "__dict__", "_abc_impl"})


class Channel:
    """Sends records to who has started us, numbered and signed; a fork of this process sends nothing.

    Only C code that nobody can replace takes part: what the candidate does to ``json`` or ``hmac`` changes no record.
    """

    def __init__(self, key: bytes, descriptor: int) -> None:
        count, owner = 0, os.getpid()
        getpid, write, spell, sign = os.getpid, os.write, ascii, hashlib.blake2b

        def send(*record: object) -> None:
            nonlocal count
            if getpid() != owner:
                return
            text = spell(record).encode()
            signature = sign(b"%d %b" % (count, text), key=key, digest_size=16).hexdigest().encode()
            line = b"\n%b %b\n" % (signature, text)
            count += 1
            while line:
                line = line[write(descriptor, line) :]

        self.send = send


class Reporter:
    """The plugin that reports.

    The records are ``settings``, ``planned`` (function, case), ``case`` (case, outcome, message), ``trouble`` (where,
    message), ``tampered`` (with what), ``foreign`` (module, whose) and, as the last one, ``end`` (exit code).
    """

    def __init__(self, channel: Channel, *, root: Path, checkout: Path) -> None:
        self._send = channel.send
        self._root = root
        self._checkout = checkout
        self._phases: dict[str, dict[str, tuple[str, str]]] = {}
        self._guard: Guard | None = None

    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> None:
        """Tell the settings, and remember what pytest is like, before anything of the candidate can be imported."""
        names = ("python_files", "python_classes", "python_functions", "norecursedirs")
        self._send("settings", {name: tuple(early_config.getini(name)) for name in names})
        at = sys.path.index(str(self._checkout))
        sys.path[at:at] = self._find_import_folders(early_config)
        self._guard = Guard(early_config, self._checkout)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Refuse to run the tests in other processes, where we would not see them."""
        if session.config.pluginmanager.has_plugin("dsession"):
            message = "sealed tests run in one process: leave out '-n'"
            raise pytest.UsageError(message)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of files that give no tests."""
        if report.outcome != "passed":
            self._send("trouble", report.nodeid, _explain(report))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell each case that is going to run."""
        self._look_for_tampering()
        for item in session.items:
            self._send("planned", self._name_function(item), item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what each phase of a case came to; of several attempts the last one counts."""
        outcome = "xfailed" if report.outcome == "skipped" and hasattr(report, "wasxfail") else report.outcome
        self._phases.setdefault(report.nodeid, {})[report.when or ""] = (outcome, _explain(report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Tell what a case came to: passed if all its phases did."""
        self._look_for_tampering()
        phases = self._phases.pop(nodeid, {})
        misses = [phase for phase in phases.values() if phase[0] != "passed"]
        is_complete = phases.keys() == {"setup", "call", "teardown"}
        self._send("case", nodeid, *(misses[0] if misses else ("passed" if is_complete else "incomplete", "")))

    def pytest_sessionfinish(self) -> None:
        """Look a last time, before pytest is taken down."""
        self._look_for_tampering()

    def finish(self, code: int) -> None:
        """Tell that this was all."""
        for name, owner in self._find_foreign():
            self._send("foreign", name, owner)
        self._send("end", code)

    def _find_import_folders(self, config: pytest.Config) -> list[str]:
        """Find the folders of the checkout that the author's setting ``pythonpath`` names: it holds for both places."""
        folders = config.getini("pythonpath")
        inner = [folder.relative_to(self._root) for folder in folders if folder.is_relative_to(self._root)]
        return [str(self._checkout / folder) for folder in inner if folder.parts]

    def _name_function(self, item: pytest.Item) -> str:
        """Name the function of *item* as its node id does, without parameters; nothing if it is not a sealed one."""
        module = item.getparent(pytest.Module)
        is_sealed = module is not None and getattr(module.obj, "__file__", None) == str(item.path)
        if not (is_sealed and item.path.is_relative_to(self._root)):
            return ""
        classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
        name = getattr(item, "originalname", None) or item.name
        return "::".join([item.path.relative_to(self._root).as_posix(), *classes, name])

    def _look_for_tampering(self) -> None:
        if self._guard is not None and (what := self._guard.find_change()):
            self._send("tampered", what)

    def _find_foreign(self) -> Iterator[tuple[str, str]]:
        """Name the modules that the candidate has too, but that were taken from elsewhere, and from where."""
        names = {path.stem for path in self._checkout.glob("*.py")}
        names |= {path.parent.name for path in self._checkout.glob("*/__init__.py")}
        for name in sorted((names & sys.modules.keys()) - sys.stdlib_module_names - _OURS):
            file = getattr(sys.modules[name], "__file__", None)
            folders = [*getattr(sys.modules[name], "__path__", ())]
            if file and not any(Path(file).is_relative_to(place) for place in (self._checkout, self._root)):
                yield name, "installed"
            elif not file and str(self._root / name) in folders:  # pytest has made a package of it (--import-mode)
                yield name, "sealed"


class Guard:
    """Finds out whether somebody has changed pytest: its functions, or the hooks that steer it."""

    def __init__(self, config: pytest.Config, checkout: Path) -> None:
        self._hooks = config.hook
        self._places = (f"{checkout}{os.sep}", "<")  # the latter of code that stands in no file
        self._classes: list[tuple[type, frozenset[str]]] = []
        self._parts: list[tuple[str, Mapping[str, object], str, object, object]] = []
        for name, module in [each for each in sys.modules.items() if _GUARDED.fullmatch(each[0])]:
            self._parts.append(("sys.modules", sys.modules, name, module, None))
            for key, part in list(vars(module).items()):
                if isinstance(part, FunctionType | type):
                    self._watch(name, vars(module), key, part)
                if isinstance(part, type) and part.__module__ == name:
                    self._classes.append((part, frozenset(vars(part))))
                    for attribute, member in vars(part).items():
                        self._watch(f"{name}.{key}", vars(part), attribute, member)

    def _watch(self, owner: str, names: Mapping[str, object], name: str, part: object) -> None:
        if _is_behaviour(name, part):
            self._parts.append((owner, names, name, part, getattr(part, "__code__", None)))

    def find_change(self) -> str | None:
        """Name what is changed first of all."""
        for place, names, name, part, code in self._parts:
            if names.get(name) is not part or getattr(part, "__code__", None) is not code:
                return f"{place}.{name}"
        for owner, before in self._classes:
            for name in vars(owner).keys() - before:
                if _is_behaviour(name, vars(owner)[name]):
                    return f"{owner.__module__}.{owner.__name__}.{name}"
        for hook in vars(self._hooks).values():
            for implementation in hook.get_hookimpls():
                code = getattr(implementation.function, "__code__", None)
                if code is not None and code.co_filename.startswith(self._places):
                    return f"the hook {hook.name}"
        return None


def _is_behaviour(name: str, part: object) -> bool:
    """Tell whether what stands in a module or class decides what happens: functions, properties, classes."""
    return name not in _VOLATILE and (isinstance(part, type) or hasattr(type(part), "__get__"))


def _explain(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Tell in a few lines why *report* is not one of success."""
    reason = report.longrepr
    if isinstance(reason, tuple):  # of a skip: file, line and reason
        text = reason[2].removeprefix("Skipped: ")
    elif (crash := getattr(reason, "reprcrash", None)) is not None:
        text = crash.message
    else:
        lines = str(reason or getattr(report, "wasxfail", "")).splitlines()
        errors = [line[1:].strip() for line in lines if line.startswith("E ")]
        text = "\n".join(errors or lines[-3:])
    return str(text)[:_MESSAGE_CHARACTERS]


def _insert_checkout(checkout: Path) -> None:
    """Make the candidate's modules importable.

    After the standard library and what is installed, so that a candidate cannot put itself in the place of what pytest
    or the tests import; before what ``.pth`` files name ("editable" packages), so that the copy that somebody works on
    is not taken for the candidate.
    """
    installed = {*site.getsitepackages(), sys.argv[1]}
    at = max(index for index, folder in enumerate(sys.path) if folder in installed)
    sys.path.insert(at + 1, str(checkout))


def main() -> None:
    """Run the tests, and leave at once: what candidates have put off until the end of the process does not happen."""
    root, path = Path(sys.argv[2]), sys.argv[3]
    checkout = Path.cwd()
    channel = Channel(sys.stdin.buffer.read(), os.dup(1))
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)  # no program of the same user can look into this process
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # also what the tests start leaves the sealed files as they are
    _insert_checkout(checkout)
    leave = os._exit
    reporter = Reporter(channel, root=root, checkout=checkout)
    code = pytest.main(
        [
            *(f"--rootdir={root}", f"--confcutdir={root}", "--import-mode=importlib", "--disable-plugin-autoload"),
            *("-p", "no:cacheprovider", "--maxfail=0", "--continue-on-collection-errors", "--color=no", "--tb=short"),
            str(root / path),
        ],
        plugins=[reporter],
    )
    reporter.finish(int(code))
    sys.stdout.flush()
    sys.stderr.flush()
    leave(int(code))


_OURS = frozenset(sys.modules)

if __name__ == "__main__":
    main()
