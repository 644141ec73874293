from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_metaharness.core.redaction import Redactor, environment_secrets

KEY = "sk-test/4f9A+x_Zq81"
ODD = 'pä"ss\\wörd €/1 '
SECRETS = {"API_KEY": KEY, "ODD": ODD}

secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=60).filter(
    lambda s: len(s.strip()) > 5
)


@pytest.mark.parametrize("value", [KEY, ODD], ids=["key", "odd"])
@pytest.mark.parametrize(
    "write",
    [
        str,
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: json.dumps({"output": json.dumps(value)}),
        lambda value: json.dumps(value).replace("/", "\\/"),
        urllib.parse.quote,
        urllib.parse.quote_plus,
        lambda value: re.sub("%..", lambda found: found[0].lower(), urllib.parse.quote(value)),
        lambda value: base64.b64encode(value.encode()).decode(),
        lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
        lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
        lambda value: base64.b64encode(f"me:{value}\n".encode()).decode(),
        lambda value: base64.b64encode(f"x{value}y".encode()).decode(),
    ],
)
def test_secret_is_found_in_every_spelling(value: str, write: object) -> None:
    assert callable(write)
    written = f"before {write(value)} after"
    redactor = Redactor(SECRETS)
    redacted = redactor.text(written)
    assert "***" in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert value[2:-2] not in redacted
    assert redactor.raw(written.encode()) == redacted.encode()
    assert redactor.find([written.encode()]) in SECRETS


def test_plain_text_is_left_as_it_is() -> None:
    redactor = Redactor(SECRETS)
    assert redactor.text("nothing here: sk-test") == "nothing here: sk-test"
    assert redactor.raw(b"\xff\0") == b"\xff\0"
    assert redactor.find([b"nothing", b"here"]) is None


def test_short_values_are_ignored() -> None:
    redactor = Redactor({"PIN": "12345", "PADDED": "   1  "})
    assert redactor.text("12345    1  ") == "12345    1  "
    assert redactor.find([b"12345"]) is None


def test_longest_of_overlapping_secrets_wins() -> None:
    redactor = Redactor({"PART": "secret", "WHOLE": "secret-token"})
    assert redactor.text("a secret-token, a secret") == "a ***, a ***"
    assert redactor.find([b"a secret-token"]) == "WHOLE"


def test_nothing_is_left_of_secrets_that_overlap_in_part() -> None:
    assert Redactor({"A": "abcdefgh", "B": "efghijkl"}).text("<abcdefghijkl>") == "<***>"


def test_value_is_found_without_the_white_space_around_it() -> None:
    assert Redactor({"KEY": f"{KEY}\n"}).text(f"{KEY}.") == "***."


def test_bytes_that_are_no_text_are_found() -> None:
    redactor = Redactor({"RAW": "caf\udce9-token"})  # as os.environ has it
    assert redactor.raw(b"<caf\xe9-token>") == b"<***>"
    assert redactor.text("<caf\udce9-token>") == "<***>"


def wrap(text: str, width: int, line_break: str) -> str:
    return line_break.join(text[start : start + width] for start in range(0, len(text), width))


@pytest.mark.parametrize(
    "line_break",
    ["\n", "\r\n", "\n    ", "\n\t", "\nE     ", "\\n", "\\r\\n", "\\\\n"],
    ids=["lf", "crlf", "indented", "tab", "pytest", "escaped-lf", "escaped-crlf", "twice-escaped-lf"],
)
@pytest.mark.parametrize("width", [10, 60, 64, 76])
@pytest.mark.parametrize(
    "encode", [str, lambda text: base64.b64encode(text.encode()).decode()], ids=["plain", "base64"]
)
def test_a_secret_broken_into_lines_is_found(line_break: str, width: int, encode: Callable[[str], str]) -> None:
    value = "key-" + "0123456789abcdefghij" * 8
    redactor = Redactor({"KEY": value})
    for before in range(1, 9):
        inner = encode("<" * before + value + ">")
        written = f"first\n{wrap(inner, width, line_break)}\nlast"
        redacted = redactor.text(written)
        assert redacted.startswith("first\n")
        assert redacted.endswith("\nlast")
        assert redacted.count("***") == 1
        assert len(redacted) < len("first\n***\nlast") + 2 * before + 20
        assert redactor.find([written.encode()]) == "KEY"
        assert redactor.find([redacted.encode()]) is None


def test_one_line_of_wrapped_base64_is_found() -> None:
    value = "key-" + "0123456789abcdefghij" * 8
    for line in base64.encodebytes(value.encode()).decode().splitlines():
        assert Redactor({"KEY": value}).text(f"<{line}>") == "<***>"


def test_secrets_come_in_later_too() -> None:
    redactor = Redactor({})
    assert redactor.text(KEY) == KEY
    redactor.add({"KEY": KEY})
    assert redactor.text(KEY) == "***"
    redactor.add({"KEY": "another-value"})
    assert redactor.text(f"{KEY} another-value") == "*** ***", "none is forgotten, whatever its name"


def test_every_one_of_many_secrets_is_found() -> None:
    values = {f"KEY_{number}": f"{number:03}-{'x' * (number % 40)}-{number * 7919:06}" for number in range(300)}
    values |= {f"PIN_{number}": f"{number:06}" for number in range(0, 1_000_000, 20_011)}
    redactor = Redactor({})
    for at, (name, value) in enumerate(values.items()):
        redactor.add({name: value})
        written = b"." * (at % 16) + value.encode() + b"," * (at % 5)
        assert redactor.raw(written) == b"." * (at % 16) + b"***" + b"," * (at % 5)
    for at, (name, value) in enumerate(values.items()):
        assert redactor.find([b"." * (at % 16) + value.encode()]) == name
    assert redactor.find([b"nothing of the sort, " * 1000]) is None
    assert redactor.text("nothing of the sort, " * 1000) == "nothing of the sort, " * 1000


def test_text_is_never_spoiled_by_a_secret_that_is_none() -> None:
    redactor = Redactor({"RAW": "\udca9-token-of-bytes"})
    assert redactor.text("é-token-of-bytes").endswith("***")
    assert redactor.text("caf\udce9 and half a pair \ud83d") == "caf\udce9 and half a pair \ud83d"


@settings(database=None, deadline=None)
@given(secrets, st.binary(max_size=200), st.binary(max_size=200), st.lists(st.integers(0, 500)))
def test_secret_is_found_wherever_the_stream_is_cut(secret: str, before: bytes, after: bytes, cuts: list[int]) -> None:
    stream = before + secret.encode() + after
    borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(borders)]
    assert Redactor({"SECRET": secret}).find(chunks) == "SECRET"


def test_secret_is_found_across_the_border_of_large_windows() -> None:
    for at in range((1 << 20) - 40, (1 << 20) + 20):
        assert Redactor({"KEY": KEY}).find([bytes(at), KEY.encode(), bytes(1 << 20)]) == "KEY"


@settings(database=None, deadline=None)
@given(secrets, st.text(max_size=50), st.text(max_size=50))
def test_no_secret_is_left_in_redacted_text(secret: str, before: str, after: str) -> None:
    text = before + secret + after
    redactor = Redactor({"SECRET": secret})
    if "*" not in secret:
        assert secret not in redactor.text(text)
        assert redactor.find([redactor.raw(text.encode("utf-8", "surrogatepass"))]) is None


def test_credentials_are_known_by_the_names_of_their_variables() -> None:
    found = {
        "OPENAI_API_KEY": "sk-0123456789",
        "HF_TOKEN": "abcdefgh",
        "AWS_SECRET_ACCESS_KEY": "/x7Rk+abcdef",
        "DB_PASSWORD2": "hunter2hunter2",
        "GOOGLE_CREDENTIALS": '{"a": 1}',
        "github_pat": "abcdefghi",
    }
    other = {
        "MAX_TOKENS": "200000000",
        "TOKEN_PATH": "/usr/share/token",
        "SSH_KEY": "~/.ssh/id_ed25519",
        "KEY_ENABLED": "disabled",
        "API_KEY": "short",
        "KEYBOARD": "dvorak-de",
        "MONKEY": "capuchin-1",
        "PATH": "/usr/bin:/bin",
    }
    assert environment_secrets({**other, **found}) == found
