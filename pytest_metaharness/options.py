"""The options and ini values of a session, checked; and how a trial's settings are chosen among their sources."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec
import pytest

from .core.model import Backend, Gate, Setting, Target

SandboxMode = Literal["auto", "bwrap", "off"]
DEFAULT_BUDGET = 1
DEFAULT_TIMEOUT = 600.0
"""Seconds for one proposal."""

DEFAULT_RETRIES = 2

Value = TypeVar("Value", int, float, str)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line and the ini file ask for; a :class:`Setting` each where both can, with its origin.

    *names* are backends with their models; it is ``("baseline",)`` when only baselines are measured, empty when off.
    """

    names: tuple[str, ...]
    trials: Setting
    budget: Setting | None
    timeout: Setting | None
    retries: Setting
    fail_under: float | None
    reports: tuple[Path, ...]
    directory: Path
    name: str | None
    sandbox: Setting
    sandbox_read: tuple[Path, ...]
    probe: bool

    def check_session(self, *, is_worker: bool) -> None:
        """Refuse what can be known to fail before anything runs.

        :raises pytest.UsageError: the session's name is taken, or there is no backend to probe.
        """
        if self.probe and self.names in {(), ("baseline",)}:
            raise pytest.UsageError("--metaharness-probe needs the backends to look at: --metaharness=NAMES")
        if self.name is not None and not is_worker and (self.directory / self.name).exists():
            message = f"--metaharness-name: session {self.name!r} exists already in {self.directory}; choose another"
            raise pytest.UsageError(message)

    def choose_budget(self, target: Target) -> Setting:
        """Choose how many proposals a trial of *target* may make."""
        if self.names == ("baseline",):
            return Setting(value=0, origin="default")
        return _first(
            _from_command_line(self.budget), _from_target(target, target.budget), self.budget, default=DEFAULT_BUDGET
        )

    def choose_timeout(self, target: Target, backend: Backend | None) -> Setting:
        """Choose the seconds that one proposal may take."""
        configured = backend.timeout if backend else None
        return _first(
            _from_command_line(self.timeout),
            Setting(value=configured, origin=f"backend {backend.name}") if backend and configured is not None else None,
            _from_target(target, target.timeout),
            self.timeout,
            default=DEFAULT_TIMEOUT,
        )

    def choose_gate(self, target: Target) -> Gate:
        """Give the target's gate; ``--metaharness-fail-under`` replaces the one of the mode, search or not."""
        if self.fail_under is None:
            return target.gate
        if self.choose_budget(target).value == 0:
            return msgspec.structs.replace(target.gate, baseline=self.fail_under)
        return msgspec.structs.replace(target.gate, best=self.fail_under)


def _from_command_line(setting: Setting | None) -> Setting | None:
    return setting if setting and setting.origin.startswith("--") else None


def _from_target(target: Target, value: float | None) -> Setting | None:
    return None if value is None else Setting(value=value, origin=target.file.name)


def _first(*settings: Setting | None, default: float) -> Setting:
    return next((setting for setting in settings if setting is not None), Setting(value=default, origin="default"))


# -------------------------------------------------------------------------------------------------------- reading


def read_options(config: pytest.Config) -> Options:
    """Read and check all options.

    :raises pytest.UsageError: one is malformed; the message names it, what was found and what is allowed.
    """
    fail_under = _read_option(config, "fail_under", _read_share)
    directory = _read_setting(config, "dir", str)
    sandbox = _read_setting(config, "sandbox", _read_sandbox) or Setting(value="auto", origin="default")
    return Options(
        names=_read_names(config.getoption("metaharness")),
        trials=_read_setting(config, "trials", _at_least(1)) or Setting(value=1, origin="default"),
        budget=_read_setting(config, "budget", _at_least(0)),
        timeout=_read_setting(config, "timeout", _read_seconds),
        retries=_read_retries(config),
        fail_under=fail_under,
        reports=tuple(_read_report(config, path) for path in config.getoption("metaharness_report") or ()),
        directory=_resolve_directory(config, directory),
        name=_read_option(config, "name", _read_name),
        sandbox=sandbox,
        probe=bool(config.getoption("metaharness_probe")),
        sandbox_read=tuple(_resolve_ini_path(config, path) for path in _read_ini(config, "sandbox_read") or ()),
    )


def _read_retries(config: pytest.Config) -> Setting:
    given = _read_option(config, "retries", _at_least(0))
    if given is None:
        return Setting(value=DEFAULT_RETRIES, origin="default")
    return Setting(value=given, origin=_spell("retries"))


def _read_setting(config: pytest.Config, name: str, read: Callable[[Any], Value]) -> Setting | None:
    option = _read_option(config, name, read)
    if option is not None:
        return Setting(value=option, origin=_spell(name))
    ini = _read_ini(config, name)
    if ini is None:
        return None
    return Setting(value=_check(f"ini metaharness_{name}", ini, read), origin=f"ini metaharness_{name}")


def _read_option(config: pytest.Config, name: str, read: Callable[[Any], Value]) -> Value | None:
    given = config.getoption(f"metaharness_{name}")
    return None if given is None else _check(_spell(name), given, read)


def _spell(name: str) -> str:
    return f"--metaharness-{name.replace('_', '-')}"


def _read_ini(config: pytest.Config, name: str) -> Any:
    try:
        return config.getini(f"metaharness_{name}")
    except (TypeError, ValueError, pytest.UsageError) as error:
        message = f"ini metaharness_{name}: {error}"
        raise pytest.UsageError(message) from error


def _check(what: str, given: Any, read: Callable[[Any], Value]) -> Value:
    try:
        return read(given)
    except ValueError as error:
        message = f"{what} must be {error}, got {given}"
        raise pytest.UsageError(message) from error


def _at_least(least: int) -> Callable[[Any], int]:
    def read(given: Any) -> int:
        try:
            value = int(given)
        except ValueError:
            value = least - 1
        if value < least:
            message = f"a whole number >= {least}"
            raise ValueError(message)
        return value

    return read


def _read_seconds(given: Any) -> float:
    value = _read_float(given)
    if not 0 < value < math.inf:
        raise ValueError("a number of seconds > 0")
    return value


def _read_share(given: Any) -> float:
    value = _read_float(given)
    if not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return value


def _read_float(given: Any) -> float:
    try:
        return float(given)
    except ValueError:
        return math.nan


def _read_sandbox(given: Any) -> str:
    if given not in {"auto", "bwrap", "off"}:
        raise ValueError("auto, bwrap or off")
    return str(given)


def _read_name(given: Any) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", given):
        raise ValueError("a folder's name of letters, digits, '_', '.', '-'")
    return str(given)


def _read_names(given: str | None) -> tuple[str, ...]:
    """Give the backends asked for; each is ``NAME`` or ``NAME:MODEL``."""
    names = ("baseline",) if given is None else tuple(name.strip() for name in given.split(","))
    for name in names:
        backend, colon, model = name.partition(":")
        if (
            not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", backend)
            or re.search(r"-t\d+$", backend)
            or (colon and not model)
            or re.search(r"::|[\s\[\]\x00-\x1f]", name)
        ):
            message = f"--metaharness must be backends like codex,claude or codex:MODEL, got {given!r} ({name!r})"
            raise pytest.UsageError(message)
        if names.count(name) > 1:
            message = f"--metaharness names {name!r} twice (--metaharness-trials repeats a search)"
            raise pytest.UsageError(message)
        if len(names) > 1 and name in {"baseline", "off"}:
            message = f"--metaharness: {name!r} stands alone, got {given!r}"
            raise pytest.UsageError(message)
    return () if names == ("off",) else names


def _read_report(config: pytest.Config, given: str) -> Path:
    path = config.invocation_params.dir / given
    if path.suffix not in {".json", ".tsv"}:
        message = f"--metaharness-report must end in .json or .tsv, got {given}"
        raise pytest.UsageError(message)
    if path.is_dir():
        message = f"--metaharness-report must be a file, {given} is a folder"
        raise pytest.UsageError(message)
    return path


def _resolve_directory(config: pytest.Config, setting: Setting | None) -> Path:
    if setting is None:
        return config.rootpath / ".metaharness"
    base = config.invocation_params.dir if setting.origin.startswith("--") else config.rootpath
    return (base / str(setting.value)).resolve()


def _resolve_ini_path(config: pytest.Config, given: str) -> Path:
    return (config.inipath.parent if config.inipath else config.rootpath) / Path(given).expanduser()


def read_sandbox_mode(options: Options) -> SandboxMode:
    """Give the isolation asked for."""
    return cast("SandboxMode", options.sandbox.value)
