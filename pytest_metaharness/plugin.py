"""The entry module: options and collection by file name. It imports pytest only; all else is imported at first use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from .core.targets.complete import Metaharness
    from .items import TargetFile
    from .options import Options

TARGET_FILE = "metaharness.yaml"
TARGET_SUFFIX = ".metaharness.yaml"
HOOKS = (
    "pytest_metaharness_propose",
    "pytest_metaharness_check",
    "pytest_metaharness_objective",
    "pytest_metaharness_candidate",
    "pytest_metaharness_report",
)
INI_VALUES: dict[str, tuple[Literal["int", "float", "string", "linelist"], str]] = {
    "metaharness_budget": ("int", "Proposals per trial"),
    "metaharness_trials": ("int", "Repetitions of each target with each backend"),
    "metaharness_timeout": ("float", "Seconds for one proposal"),
    "metaharness_dir": ("string", "Where sessions are stored"),
    "metaharness_sandbox": ("string", "Isolation: auto, bwrap or off"),
    "metaharness_sandbox_read": ("linelist", "Paths that the jail shows read-only"),
}

RECORD = "metaharness"
"""The attribute of a test report that holds a run's record as JSON; empty before the trial began."""

options_key = pytest.StashKey["Options"]()
session_name_key = pytest.StashKey[str]()
excluded_key = pytest.StashKey["_Excluded"]()


# -------------------------------------------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; ``options.py`` reads them."""
    group = parser.getgroup("metaharness", "harness optimization (pytest-metaharness)")
    group.addoption(
        "--metaharness",
        metavar="NAMES",
        help="Search with these backends, comma-separated: built-in (codex, claude, fake, ...), configured, or with a "
        "model (codex:gpt-5.2). 'baseline', the default, measures the baselines only; 'off' collects no target",
    )
    group.addoption(
        "--metaharness-budget",
        metavar="N",
        help="Proposals per trial, 0 measures only (default: that of the target, or 1)",
    )
    group.addoption(
        "--metaharness-trials", metavar="N", help="Repetitions of each target with each backend (default: 1)"
    )
    group.addoption(
        "--metaharness-timeout",
        metavar="SECONDS",
        help="Time for one proposal (default: that of the backend or the target, or 600)",
    )
    group.addoption(
        "--metaharness-retries",
        metavar="N",
        help="How often a proposal is tried again while its service is unavailable (default: 2)",
    )
    group.addoption(
        "--metaharness-fail-under",
        metavar="X",
        help="Fail a trial whose best objective is below X, 0 to 1 (without a search: its baseline)",
    )
    group.addoption(
        "--metaharness-report",
        metavar="PATH",
        action="append",
        help="Write the report there too, as JSON or TSV by suffix; repeatable",
    )
    group.addoption(
        "--metaharness-dir", metavar="DIR", help="Where sessions are stored (default: .metaharness in the rootdir)"
    )
    group.addoption(
        "--metaharness-name",
        metavar="NAME",
        help="Name of the session's folder (default: the UTC time and a short random part)",
    )
    group.addoption(
        "--metaharness-sandbox",
        metavar="auto|bwrap|off",
        help="Isolation of checks and backends: bwrap where it works (auto, the default), bwrap or nothing, or off",
    )
    group.addoption(
        "--metaharness-probe",
        action="store_true",
        default=None,
        help="Only look whether the backends are ready (program, credentials, model server, sandbox), and print a "
        "table; runs nothing, spends nothing",
    )
    for name, (kind, text) in INI_VALUES.items():
        parser.addini(name, text, type=kind, default=None)  # without a default an unset "int" reads 0


def pytest_configure(config: pytest.Config) -> None:
    """Refuse malformed options and ini values before anything runs."""
    config.addinivalue_line("markers", "metaharness: the trials of pytest-metaharness (every one has it)")
    if any(name.startswith("metaharness") and value is not None for name, value in vars(config.option).items()) or any(
        _is_set(config, name) for name in INI_VALUES
    ):
        options = get_options(config)
        options.check_session(is_worker=is_worker(config))
        _get_excluded(config).add(str(options.directory), "the session store")


def _is_set(config: pytest.Config, name: str) -> bool:
    try:
        return config.getini(name) is not None
    except (TypeError, ValueError, pytest.UsageError):
        return True  # malformed, which get_options says


def get_options(config: pytest.Config) -> Options:
    """Give the session's options, read once.

    :raises pytest.UsageError: one is malformed.
    """
    if options_key not in config.stash:
        from .options import read_options

        config.stash[options_key] = read_options(config)
    return config.stash[options_key]


def is_worker(config: pytest.Config) -> bool:
    """Tell whether this process is a worker of pytest-xdist: it runs trials, and the controller reports them."""
    return hasattr(config, "workerinput")


def get_session_name(config: pytest.Config) -> str:
    """Give the name of the session's folder: the controller makes it, workers receive it."""
    if session_name_key not in config.stash:
        name = getattr(config, "workerinput", {}).get("metaharness_session")
        if name is None and (name := config.getoption("metaharness_name")) is None:
            import secrets
            from datetime import UTC, datetime

            name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        config.stash[session_name_key] = name
    return config.stash[session_name_key]


# -------------------------------------------------------------------------------------------- hooks of our own, xdist


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Declare our hooks with the first plugin or conftest that implements one: unused they cost nothing."""
    if any(hasattr(plugin, name) for name in HOOKS):
        add_hooks(manager)


def add_hooks(manager: pytest.PytestPluginManager) -> None:
    """Declare our hooks, and register the built-in providers, once."""
    if manager.has_plugin("metaharness-providers"):
        return
    from pytest_metaharness import backends, hookspecs

    manager.register(backends.BuiltinProviders(), "metaharness-providers")
    manager.add_hookspecs(hookspecs)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker the session's name, and look out for its first trial."""
    node.workerinput["metaharness_session"] = get_session_name(node.config)
    node.workerinput["metaharness_each"] = node.config.getoption("dist") == "each" and len(node.nodemanager.specs) > 1
    if not node.config.pluginmanager.has_plugin("metaharness-lookout"):
        node.config.pluginmanager.register(_Lookout(node.config), "metaharness-lookout")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Start reporting in the controller, which itself collects nothing, once a worker has found trials."""
    if any(f"{TARGET_FILE}::" in nodeid for nodeid in ids):
        from .session import start_session

        start_session(node.config, will_run=True)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Generator[None, int, int]:
    """Let ``-n auto`` count the trials of a search."""
    count = yield
    if config.getoption("metaharness") in {None, "baseline", "off"}:
        return count
    from .workers import count_workers

    return count_workers(config, default=count)


class _Lookout:
    """Starts reporting in a controller of workers: the ids that these collect do not tell of Python targets."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Start with the first report of a trial, that of its set-up, which comes when the trial itself begins."""
        if hasattr(report, RECORD):
            self._config.pluginmanager.unregister(self)
            from .session import start_session

            start_session(self._config, will_run=True)


# --------------------------------------------------------------------------------------------- --metaharness-probe


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Look at the backends from one process: that of the terminal."""
    if config.getoption("metaharness_probe"):
        vars(config.option).update(numprocesses=0, dist="no", tx=[])
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Print what is ready instead of running anything."""
    if not session.config.getoption("metaharness_probe"):
        return None
    from .probe import report_readiness

    if not report_readiness(session):
        session.testsfailed += 1
    session.testscollected = max(1, session.testscollected)  # without a target there is something to tell, too
    return True


# ----------------------------------------------------------------------------------------------------- collection


def is_target_file(name: str) -> bool:
    """Tell whether a file of this name is a target."""
    return name == TARGET_FILE or name.endswith(TARGET_SUFFIX)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> TargetFile | None:
    """Collect target files by name."""
    if not is_target_file(file_path.name):
        return None
    refuse_windows()
    from .items import collect_target_file

    return collect_target_file(file_path, parent)


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> None:
    """Look into a folder before pytest does, which passes over what is called like a target and is no regular file."""
    _get_excluded(parent.config).look_into(str(path))


def refuse_windows() -> None:
    """Say what to do where nothing of this works."""
    if os.name == "nt":
        raise pytest.Collector.CollectError("pytest-metaharness needs Linux or macOS; on Windows run it in WSL")


@pytest.fixture
def metaharness(request: pytest.FixtureRequest) -> Metaharness:
    """Search for a better harness: call it once, with a ``Target`` of ``pytest_metaharness``, and get the ``Run``."""
    from .fixture import make_fixture

    return make_fixture(request)


@pytest.hookimpl(trylast=True)  # parameters of the test's own come first, in its id too
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes the fixture ``metaharness`` its trials."""
    if "metaharness" in metafunc.fixturenames:
        refuse_windows()
        from .fixture import parametrize_trials

        parametrize_trials(metafunc)


# ------------------------------------------------------------------------------------------- what is never collected


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Keep the conftest files of baselines and sealed folders from being run.

    Before anything is collected pytest runs those of its arguments, and of the folders ``test*`` in these.

    :raises pytest.UsageError: an argument lies in such a folder.
    """
    excluded = _get_excluded(early_config)
    here = str(early_config.invocation_params.dir)
    for argument in _list_arguments(early_config):
        if owner := excluded.find_owner(os.path.abspath(os.path.join(here, argument))):  # noqa: PTH100, PTH118
            message = f"{argument} belongs to {owner} and is never run as tests; -p no:metaharness lets pytest run it"
            raise pytest.UsageError(message)
    excluded.pass_over_conftests(early_config.pluginmanager)


def _list_arguments(config: pytest.Config) -> Iterable[str]:
    """Give the paths that pytest will start from."""
    if given := config.known_args_namespace.file_or_dir:
        return [argument.partition("::")[0] for argument in given]
    here = config.invocation_params.dir
    if here == config.rootpath and (patterns := config.getini("testpaths")):
        from glob import iglob

        found = (path for pattern in patterns for path in iglob(pattern, root_dir=here, recursive=True))  # noqa: PTH207
        return list(found) or [str(here)]
    return [str(here)]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keep baselines and sealed folders of targets, and the session store, from being collected as tests."""
    return _get_excluded(config).covers(str(collection_path)) or None


def _get_excluded(config: pytest.Config) -> _Excluded:
    if excluded_key not in config.stash:
        config.stash[excluded_key] = _Excluded(config)
    return config.stash[excluded_key]


class _Excluded:
    """The folders that are never collected. Every folder is listed once, when a path in it is first met."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._owners = {str(config.rootpath / ".metaharness"): "the session store"}
        self._known: dict[str, bool] = {}

    def add(self, folder: str, owner: str) -> None:
        """Exclude one more folder; *owner* says what it is."""
        if folder not in self._owners:
            self._owners[folder] = owner
            self._known.clear()

    def covers(self, path: str) -> bool:
        """Tell whether *path* is, or lies in, an excluded folder."""
        return self._covers_folder(os.path.dirname(path)) or path in self._owners  # noqa: PTH120 - for every file

    def look_into(self, folder: str) -> None:
        """Find the targets in *folder*."""
        self._covers_folder(folder)

    def find_owner(self, path: str) -> str | None:
        """Say what the excluded folder is that *path* is or lies in, if any; and look into *path*."""
        if not (self._covers_folder(path) if os.path.isdir(path) else self.covers(path)):  # noqa: PTH112
            return None
        return next(
            owner for folder, owner in self._owners.items() if f"{path}{os.sep}".startswith(f"{folder}{os.sep}")
        )

    def pass_over_conftests(self, manager: pytest.PytestPluginManager) -> None:
        """Let pytest believe that the conftest files of the folders found so far are loaded."""
        for folder in self._owners:
            conftest = os.path.join(folder, "conftest.py")  # noqa: PTH118
            if os.path.isfile(conftest) and not manager.has_plugin(conftest):  # noqa: PTH113
                from types import ModuleType

                manager.register(ModuleType("conftest"), conftest)  # the name that pytest looks for

    def _covers_folder(self, folder: str) -> bool:
        known = self._known.get(folder)
        if known is None:
            parent = os.path.dirname(folder)  # noqa: PTH120
            known = parent != folder and (self._covers_folder(parent) or folder in self._owners)
            self._known[folder] = known
            if not known:
                self._find_targets(folder)
        return known

    def _find_targets(self, folder: str) -> None:
        try:
            names = os.listdir(folder)  # noqa: PTH208 - names are all it takes
        except OSError:
            return  # pytest says what is wrong with the folder
        for name in names:
            if is_target_file(name):
                from .items import expect_odd_file, find_own_folders
                from .session import show_path_from

                file = Path(folder, name)
                if not os.path.isfile(file):  # noqa: PTH113
                    expect_odd_file(self._config, file)
                owner = f"target {show_path_from(self._config.rootpath, file)}"
                self._owners.update((own, owner) for own in find_own_folders(self._config, file))
