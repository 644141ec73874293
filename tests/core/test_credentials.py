"""Secrets in files and in the environment of parents are found where tools keep them, and nothing else is."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from repositories import commit, git
from sessions import write_files

from pytest_metaharness.core.credentials import (
    LONGEST_FILE,
    MOST_SECRETS,
    list_credential_files,
    read_credentials,
    read_inherited,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, the only one."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setattr("pytest_metaharness.core.credentials.pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError))
    return folder


def find(home: Path, *, target: Path | None = None) -> dict[str, str]:
    return read_credentials(list_credential_files({"HOME": str(home)}, target or home / "no" / "target"))


def pem(kind: str, *lines: str) -> str:
    return "\n".join((f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----", ""))


BODY = tuple(f"Line{number}OfAPrivateKey+/" + "abcdEFGH01" * 4 for number in range(3))
BASIC = base64.b64encode(b"x-access-token:ghs_0123456789abcdef").decode()
LOGINS: Mapping[str, tuple[str, dict[str, str]]] = {
    ".netrc": (
        "machine a.example login me password s3cret-of-a-host\nmachine b\n login me\n password two-lines-0815\n",
        {"password": "s3cret-of-a-host", "password (2)": "two-lines-0815"},
    ),
    ".pgpass": ("db.example:5432:*:me:Pg-pass-w0rd:with:colons\n", {"password": "Pg-pass-w0rd:with:colons"}),
    ".aws/credentials": (
        (
            "[default]\naws_access_key_id = AKIAABCDEFGHIJKLMNOP\naws_secret_access_key = wJalrXUt/K7MDENG+bPxRfiCY\n\n"
            "[b]\naws_session_token=FwoGZXIvYXdzEBYaD//////////wEaDKz\n"
        ),
        {
            "aws_secret_access_key": "wJalrXUt/K7MDENG+bPxRfiCY",
            "aws_session_token": "FwoGZXIvYXdzEBYaD//////////wEaDKz",
        },
    ),
    ".config/gh/hosts.yml": (
        (
            "github.com:\n    users:\n        me-and-my-name-1:\n            oauth_token: gho_0123456789abcdefghij\n"
            "    git_protocol: https\n    user: me-and-my-name-1\n"
        ),
        {"oauth_token": "gho_0123456789abcdefghij"},
    ),
    ".git-credentials": (
        "https://me:ghp_0123456789abcdef@github.com\nhttps://you:p%40ss-w0rd-2%2F3@git.example\n",
        {"password": "ghp_0123456789abcdef", "password (2)": "p%40ss-w0rd-2%2F3", "password (3)": "p@ss-w0rd-2/3"},
    ),
    ".gitconfig": (
        f'[http "https://github.com/"]\n\textraheader = AUTHORIZATION: basic {BASIC}\n',
        {"token": BASIC, "token (2)": "ghs_0123456789abcdef"},
    ),
    ".ssh/id_ed25519": (
        pem("OPENSSH ", "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW", *BODY, "c2hvcnQ="),
        {"private key": BODY[0], "private key (2)": BODY[1], "private key (3)": BODY[2]},
    ),
    ".ssh/deploy.pem": (pem("RSA ", BODY[0]), {"private key": BODY[0]}),
    ".npmrc": (
        (
            "registry=https://registry.example/\n//registry.example/:_authToken=npm_0123456789abcdefghij\n"
            "//other.example/:_auth=bWU6bnBtLXBhc3N3MHJkLTE=\n"
        ),
        {
            "_authToken": "npm_0123456789abcdefghij",
            "_auth": "bWU6bnBtLXBhc3N3MHJkLTE=",
            "_auth (2)": "npm-passw0rd-1",
        },
    ),
    ".pypirc": (
        "[pypi]\nusername = __token__\npassword = pypi-AgEIcHlwaS5vcmcC\n",
        {"password": "pypi-AgEIcHlwaS5vcmcC"},
    ),
    ".config/pip/pip.conf": (
        "[global]\nindex-url = https://me:1ndex-Passw0rd@pypi.example/simple\n",
        {"password": "1ndex-Passw0rd"},
    ),
    ".m2/settings.xml": (
        "<server><id>a</id><password>mvn-Passw0rd-2</password></server>",
        {"password": "mvn-Passw0rd-2"},
    ),
    ".docker/config.json": (
        json.dumps({"auths": {"registry.example": {"auth": base64.b64encode(b"me:d0cker-hub-pass").decode()}}}),
        {"auth": "bWU6ZDBja2VyLWh1Yi1wYXNz", "auth (2)": "d0cker-hub-pass"},
    ),
    ".kube/config": (
        (
            "users:\n- name: admin\n  user:\n    client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVk\n"
            "    token: eyJhbGciOiJSUzI1NiIsImtpZCI6\n"
        ),
        {"client-key-data": "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVk", "token": "eyJhbGciOiJSUzI1NiIsImtpZCI6"},
    ),
    ".config/gcloud/application_default_credentials.json": (
        json.dumps(
            {
                "type": "service_account",
                "project_id": "my-project-123456",
                "private_key_id": "0123456789abcdef0123456789abcdef01234567",
                "private_key": pem("", *BODY),
                "client_email": "me@my-project-123456.example",
                "token_uri": "https://oauth2.example/token",
            }
        ),
        {"private key": BODY[0], "private key (2)": BODY[1], "private key (3)": BODY[2]},
    ),
    ".vault-token": ("hvs.0123456789abcdef\n", {"token": "hvs.0123456789abcdef"}),
    ".cache/huggingface/token": ("hf_0123456789abcdef", {"token": "hf_0123456789abcdef"}),
    ".codex/auth.json": (
        json.dumps(
            {
                "OPENAI_API_KEY": None,
                "tokens": {"access_token": "eyJhY2Nlc3M.0123456789", "refresh_token": "rt.1.AZ0123456789abcdef"},
                "last_refresh": "2026-11-23T10:11:12.123456Z",
            }
        ),
        {"access_token": "eyJhY2Nlc3M.0123456789", "refresh_token": "rt.1.AZ0123456789abcdef"},
    ),
    ".claude/.credentials.json": (
        json.dumps(
            {
                "claudeAiOauth": {
                    "accessToken": "sk-ant-oat01-0123456789",
                    "refreshToken": "sk-ant-ort01-0123456789",
                    "expiresAt": 1748658860401,
                    "scopes": ["user:inference", "user:profile"],
                }
            }
        ),
        {"accessToken": "sk-ant-oat01-0123456789", "refreshToken": "sk-ant-ort01-0123456789"},
    ),
    ".gemini/oauth_creds.json": (
        json.dumps({"access_token": "ya29.A0123456789", "scope": "https://a.example/auth/x", "token_type": "Bearer"}),
        {"access_token": "ya29.A0123456789"},
    ),
    ".local/share/opencode/auth.json": (
        json.dumps(
            {
                "anthropic": {
                    "type": "oauth",
                    "refresh": "sk-ant-ort01-abcdefghij",
                    "access": "sk-ant-oat01-abcdefghij",
                },
                "openrouter": {"type": "api", "key": "sk-or-v1-0123456789"},
            }
        ),
        {"refresh": "sk-ant-ort01-abcdefghij", "access": "sk-ant-oat01-abcdefghij", "key": "sk-or-v1-0123456789"},
    ),
    ".pi/agent/auth.json": (
        json.dumps({"openai": {"type": "api_key", "key": "sk-proj-0123456789abc"}}),
        {"key": "sk-proj-0123456789abc"},
    ),
}


@pytest.mark.parametrize("path", LOGINS)
def test_logins_of_tools_are_found(home: Path, path: str) -> None:
    text, expected = LOGINS[path]
    write_files(home, {path: text})
    numbered = {
        f"{name.partition(' (')[0]} in ~/{path}{name.removeprefix(name.partition(' (')[0])}": value
        for name, value in expected.items()
    }
    assert find(home) == numbered


@pytest.mark.parametrize(
    ("variable", "path"),
    [
        ("CODEX_HOME", "auth.json"),
        ("CLAUDE_CONFIG_DIR", ".credentials.json"),
        ("PI_CODING_AGENT_DIR", "auth.json"),
        ("XDG_DATA_HOME", "opencode/auth.json"),
        ("XDG_CONFIG_HOME", "gh/hosts.yml"),
        ("GH_CONFIG_DIR", "hosts.yml"),
        ("DOCKER_CONFIG", "config.json"),
    ],
)
def test_logins_in_other_places_are_found_and_lie_open(home: Path, tmp_path: Path, variable: str, path: str) -> None:
    moved = tmp_path / "moved"
    write_files(moved, {path: json.dumps({"token": "tok-0123456789-abc"})})
    environ = {"HOME": str(home), variable: str(moved)}
    (file,) = list_credential_files(environ, home)
    assert (file.path, file.is_private) == (moved / path, False)
    assert read_credentials([file]) == {f"token in {moved / path}": "tok-0123456789-abc"}


@pytest.mark.parametrize("variable", ["NETRC", "AWS_SHARED_CREDENTIALS_FILE", "GOOGLE_APPLICATION_CREDENTIALS"])
def test_files_that_variables_name_are_found(home: Path, tmp_path: Path, variable: str) -> None:
    write_files(tmp_path, {"given": "password s3cret-of-a-host\nsecret_key = s3cret-of-a-host"})

    def find_at(path: Path) -> list[str]:
        return list(read_credentials(list_credential_files({"HOME": str(home), variable: str(path)}, home)).values())

    assert find_at(tmp_path / "given") == ["s3cret-of-a-host"]
    assert find_at(tmp_path / "absent") == []
    assert find_at(tmp_path) == []


NONE = {
    "words": "password = password\ntoken: correct-horse\nsecret=postgres\npass: changethispassword",
    "short": "token = abc123\nkey: Ab1-Cd2\npassword=Passw0rd!",
    "common": "password = password1\npassword = admin12345\npassword: test1234",
    "repeated": "token = xxxxxxxxxxxxxxxxxxxxxxxx-1\nkey = 0000-0000-0000-0000-0000",
    "stand-ins": "TOKEN=${OTHER_TOKEN_42}\nKEY=<your-key-No-1>\nSECRET={{ vault.secret_No_1 }}\nKEY=change-me-01234567",
    "documented": "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "addresses": "token_url = https://a.example.com/oauth2/v2\nauth: https://a.example/Path-1\npassword=me1@example.com",
    "paths": "key: /usr/share/Keys-2026/a.pem\nssl_key = ~/.keys/Client-2026.pem",
    "dates": "last_refresh: 2026-11-23T10:11:12.123456Z",
    "names": "key_id = 0123456789abcdef-A\nKeyAlias: up-key-2026\ntoken_type: Bearer-Token-01\nkey_file=Key-2026.pem",
    "other": "user: my-own-user-name-42\nemail: Me-Myself-42\nproject: My-project-123456\nid: 0123456789abcdef-A",
    "sentences": 'password: "the Password of 2026 is secret"',
    "nothing": "",
    "empty": "password =\ntoken: ''\nkey: \"\"",
}


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_what_may_stand_in_any_file_is_no_secret(home: Path, text: str) -> None:
    write_files(home, {".pypirc": text, ".netrc": text.replace("=", " ").replace(":", " "), "here/.env": text})
    assert find(home, target=home / "here") == {}


def test_files_that_cannot_be_read_are_passed_over(home: Path) -> None:
    secret = "token = tok-0123456789-abc\n"
    write_files(home, {".pypirc": secret + "#" * LONGEST_FILE, ".ssh/id_x": "-----BEGIN PRIVATE KEY-----"})
    (home / ".npmrc").mkdir()
    os.mkfifo(home / ".netrc")
    (home / ".docker").symlink_to("nowhere")
    (home / ".my.cnf").write_bytes(b"\xff\xfe token = tok-0123456789-abc\x00")
    assert find(home) == {"token in ~/.my.cnf": "tok-0123456789-abc\x00"}


def test_there_is_a_bound(home: Path) -> None:
    lines = (f"token_{number} = tok-{number * 7919:012}-abcdef" for number in range(MOST_SECRETS + 50))
    write_files(home, {".pypirc": "\n".join(lines), ".npmrc": "token = tok-0123456789-abc"})
    assert len(find(home)) == MOST_SECRETS


@pytest.mark.parametrize(
    "text", ["a" * LONGEST_FILE, "a." * (LONGEST_FILE // 2), "a://" * (LONGEST_FILE // 4), "[" * 100_000]
)
def test_odd_files_take_no_time(home: Path, text: str) -> None:
    write_files(home, {".pypirc": text})
    assert find(home) == {}  # in a second at most; one step for each pair of characters would take hours


def test_dotenv_files_around_the_target_are_found(home: Path, tmp_path: Path) -> None:
    names = ("outside/.env", "outside/repo/.env", "outside/repo/a/.env.local", "outside/repo/a/target/.envrc")
    files = {name: f'export API_TOKEN="{number}-tok-0123456789"\n' for number, name in enumerate(names)}
    more = {"outside/repo/.env.example": "API_TOKEN=5-tok-0123456789", "outside/repo/.git/config": "[core]\n"}
    write_files(tmp_path, files | more)
    target = tmp_path / "outside/repo/a/target"
    assert find(home, target=target) == {
        "API_TOKEN in .envrc": "3-tok-0123456789",
        "API_TOKEN in ../.env.local": "2-tok-0123456789",
        "API_TOKEN in ../../.env": "1-tok-0123456789",
    }
    for around in (home, tmp_path):
        assert {file.is_private for file in list_credential_files({"HOME": str(around)}, target)} == {False}


def test_a_committed_dotenv_is_a_file_like_others(home: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repo"
    repository.mkdir()
    git(repository, "init", "-q")
    files = {".env": "API_TOKEN=tok-0123456789-abc", "sub/.env": "API_TOKEN=tok-abc-0123456789"}
    write_files(repository, files)
    assert len(find(home, target=repository / "sub")) == 2, "nothing is committed yet"
    (repository / "sub/.env").unlink()
    commit(repository, {})
    write_files(repository, files)
    assert find(home, target=repository / "sub") == {"API_TOKEN in .env": "tok-abc-0123456789"}


SHOW_INHERITED = """
import json, os
from pytest_metaharness.core.credentials import read_inherited
print(json.dumps(read_inherited(os.environ)))
"""
START_WITH_LESS = f"""
import os, subprocess, sys
less = {{**os.environ, "HF_TOKEN": "changed-since"}}
del less["UPPER_TOKEN"]
subprocess.run([sys.executable, "-c", {SHOW_INHERITED!r}], env=less, check=True)
"""


def test_variables_of_parents_are_found() -> None:
    given = {"UPPER_TOKEN": "given-above-42", "SAME_TOKEN": "a-token-of-all", "HF_TOKEN": "as-it-was-before"}
    command = [sys.executable, "-c", START_WITH_LESS]
    done = subprocess.run(command, env=os.environ | given, capture_output=True, check=True)
    found = json.loads(done.stdout)
    expected = {"UPPER_TOKEN of a parent process": "given-above-42", "HF_TOKEN of a parent process": "as-it-was-before"}
    assert expected.items() <= found.items()
    assert not any("SAME_TOKEN" in name for name in found)


def test_own_variables_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_TOKEN", "0123456789-own")
    assert not any("OWN_TOKEN" in name for name in read_inherited(os.environ))
