"""Secrets that no variable of ours holds: in the files where tools keep their logins, and in our parents' environment.

Without a jail any program can read them there and print them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from .errors import MetaharnessError
from .redaction import environment_secrets
from .secret_values import Found, find_secrets, read_netrc, read_pairs, read_pgpass, read_whole
from .store.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Read = Callable[[str], Iterator[Found]]

LONGEST_FILE = 1 << 20
"""Larger files are not read, in bytes."""

MOST_SECRETS = 500
"""What is taken of all files together; the lines of a private key count one by one."""


class _Place(NamedTuple):
    """Files in a folder below the home folder, and in the folder that *variable* names."""

    folder: str
    files: tuple[str, ...]
    variable: str = ""
    read: Read = read_pairs


_PLACES = (
    _Place("", (".netrc", "_netrc"), read=read_netrc),
    _Place("", (".pgpass",), read=read_pgpass),
    _Place("", (".vault-token",), read=read_whole),
    _Place(".cache/huggingface", ("token",), "HF_HOME", read_whole),
    _Place(".ssh", ("id_*", "*_rsa", "*_ed25519", "*.pem", "*key")),
    _Place("", (".gitconfig", ".git-credentials")),
    _Place(".config", ("git/*", "gh/hosts.yml", "glab-cli/config.yml", "github-copilot/*.json"), "XDG_CONFIG_HOME"),
    _Place(".config", ("pip/pip.conf", "rclone/rclone.conf"), "XDG_CONFIG_HOME"),
    _Place(".config/gh", ("hosts.yml",), "GH_CONFIG_DIR"),
    _Place("", (".npmrc", ".pypirc", ".pip/pip.conf", ".gem/credentials", ".m2/settings.xml", ".my.cnf")),
    _Place("", (".gradle/gradle.properties", ".terraform.d/credentials.tfrc.json", ".kaggle/kaggle.json")),
    _Place(".cargo", ("credentials.toml", "credentials"), "CARGO_HOME"),
    _Place(".docker", ("config.json",), "DOCKER_CONFIG"),
    _Place("", (".aws/credentials", ".kube/config")),
    _Place(".azure", ("msal_token_cache.json",), "AZURE_CONFIG_DIR"),
    _Place(".config/gcloud", ("application_default_credentials.json",), "CLOUDSDK_CONFIG"),
    _Place(".codex", ("auth.json",), "CODEX_HOME"),
    _Place(".claude", (".credentials.json",), "CLAUDE_CONFIG_DIR"),
    _Place("", (".claude.json", ".gemini/oauth_creds.json", ".gemini/.env")),
    _Place(".local/share", ("opencode/auth.json",), "XDG_DATA_HOME"),
    _Place(".pi/agent", ("auth.json",), "PI_CODING_AGENT_DIR"),
)
"""Where logins lie."""

_FILE_VARIABLES: Mapping[str, Read] = {
    "NETRC": read_netrc,
    "PGPASSFILE": read_pgpass,
    "HF_TOKEN_PATH": read_whole,
    "AWS_SHARED_CREDENTIALS_FILE": read_pairs,
    "KUBECONFIG": read_pairs,
    "GOOGLE_APPLICATION_CREDENTIALS": read_pairs,
    "NPM_CONFIG_USERCONFIG": read_pairs,
    "PIP_CONFIG_FILE": read_pairs,
}
"""Variables that name such a file."""

_SAMPLES = (".example", ".sample", ".template", ".dist")


class CredentialFile(NamedTuple):
    """A file with secrets in it; *shown* is its name for the user.

    *is_private*: it lies in a home folder, of which a jail shows only what somebody asks for.
    """

    path: Path
    shown: str
    is_private: bool
    read: Read


def list_credential_files(environ: Mapping[str, str], folder: Path) -> tuple[CredentialFile, ...]:
    """Find the user's logins; and around *folder* the ``.env`` files and the configuration of its repository.

    A ``.env`` that is committed is a file like others.
    """
    homes = _find_homes(environ)
    found: dict[Path, CredentialFile] = {}
    for place in _PLACES:
        folders = [home / place.folder for home in homes]
        if moved := environ.get(place.variable):
            folders.append(Path(moved))
        for path in (path for each in folders for pattern in place.files for path in _match(each, pattern)):
            found.setdefault(path, _describe(path, homes, place.read))
    for variable, read in _FILE_VARIABLES.items():
        if (named := environ.get(variable)) and _is_file(path := Path(named)):
            found.setdefault(path, _describe(path, homes, read))
    for path in _find_around(folder):
        found.setdefault(path, CredentialFile(path, os.path.relpath(path, folder), is_private=False, read=read_pairs))
    return tuple(found.values())


def read_credentials(files: Iterable[CredentialFile]) -> dict[str, str]:
    """Give the secrets in *files* by a readable name, at most MOST_SECRETS."""
    secrets: dict[str, str] = {}
    for file in files:
        try:
            if file.path.stat().st_size > LONGEST_FILE:
                continue
            text = file.path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # not for this user; then not for the programs that it starts
            continue
        found = ((f"{name} in {file.shown}", value) for name, value in find_secrets(text, file.read))
        _add(secrets, itertools.islice(found, MOST_SECRETS - len(secrets)))
    return secrets


def read_inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the secrets in the variables of the processes above this one that *environ* does not have, or not so."""
    secrets: dict[str, str] = {}
    try:
        above = psutil.Process().parents()
    except psutil.Error:
        return {}
    for process in above:
        try:
            variables = environment_secrets(process.environ())
        except (psutil.Error, OSError):  # another user's
            continue
        other = {name: value for name, value in variables.items() if environ.get(name) != value}
        _add(secrets, ((f"{name} of a parent process", value) for name, value in other.items()))
    return secrets


def _add(secrets: dict[str, str], found: Iterable[Found]) -> None:
    """Take in what is new, under a name that is not taken."""
    known = set(secrets.values())
    for name, value in found:
        if value not in known:
            known.add(value)
            names = itertools.chain((name,), (f"{name} ({number})" for number in itertools.count(2)))
            secrets[next(free for free in names if free not in secrets)] = value


def _find_homes(environ: Mapping[str, str]) -> list[Path]:
    homes = [environ.get("HOME", "")]
    try:
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without an entry, as containers have
        homes.append("")
    return [Path(home) for home in dict.fromkeys(homes) if home.startswith("/")]


def _describe(path: Path, homes: Sequence[Path], read: Read) -> CredentialFile:
    home = next((home for home in homes if path.is_relative_to(home)), None)
    shown = f"~/{path.relative_to(home)}" if home else str(path)
    return CredentialFile(path, shown, is_private=home is not None, read=read)


def _find_around(folder: Path) -> list[Path]:
    """Find what holds secrets from *folder* up to the root of its repository."""
    folders = (folder, *folder.parents)
    root = next((each for each in folders if os.access(each / ".git", os.F_OK)), None)
    inside = [each for each in folders if each.is_relative_to(root or folder)]
    found = [path for each in inside for path in _match(each, ".env*") if path.suffix not in _SAMPLES]
    if root is None:
        return found
    names = [path.relative_to(root).as_posix() for path in found]
    committed: set[str] = set()
    if found:
        with contextlib.suppress(MetaharnessError), Repository(root) as repository:  # it may have nothing yet
            committed = {item.path for item in repository.list_named("HEAD", names)}
    found = [path for name, path in zip(names, found, strict=True) if name not in committed]
    return found + _match(root / ".git", "config")  # CI leaves the token there that it has cloned with


def _match(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.glob(pattern)) if "*" in pattern else [folder / pattern]
    return [path for path in paths if _is_file(path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that this user may not look into
        return False
