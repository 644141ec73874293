"""File logins serve one run at a time, and a renewal is never lost."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_metaharness.backends.logins import LoginBusyError, lend_login
from pytest_metaharness.core.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

OLD, NEW = "refresh-token-number-1", "refresh-token-number-2"


def write(path: Path, token: str) -> None:
    path.write_text(json.dumps({"auth_mode": "chatgpt", "tokens": {"refresh_token": token}}), encoding="utf-8")


def read(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8"))["tokens"]["refresh_token"])


def write_in_place(place: Path) -> None:
    write(place, NEW)


def replace_at_place(place: Path) -> None:
    write(renewed := place.with_name("new"), NEW)
    renewed.chmod(0o600)
    renewed.replace(place)


def replace_what_it_points_to(place: Path) -> None:
    replace_at_place(place.resolve())


@pytest.fixture
def login(home: Path) -> Path:
    file = home / "auth.json"
    write(file, OLD)
    file.chmod(0o600)
    return file


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "auth.json"


@pytest.mark.parametrize("linked", [True, False], ids=["link", "copy"])
@pytest.mark.parametrize("renew", [write_in_place, replace_at_place, replace_what_it_points_to])
def test_renewal_reaches_the_original(login: Path, place: Path, linked: bool, renew: Callable[[Path], None]) -> None:
    with lend_login(login, place, linked=linked, until=0) as lent:
        assert read(place) == OLD
        assert place.is_symlink() is linked
        renew(place)
        lent.save()
        assert read(login) == NEW  # at once, not only at the end
        assert set(lent.find_secrets().values()) == {OLD, NEW}
    assert read(login) == NEW
    assert login.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in login.parent.iterdir()] == ["auth.json"]


def test_what_interrupts_the_loan_does_not_lose_the_renewal(login: Path, place: Path) -> None:
    loan = lend_login(login, place, linked=False, until=0)
    loan.__enter__()
    write(place, NEW)
    assert not loan.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert read(login) == NEW


def test_login_that_cannot_be_replaced_is_written_into(login: Path, place: Path) -> None:
    login.with_name(f".auth.json.{os.getpid()}").mkdir()  # stands in the way of the file that would replace it
    number = login.stat().st_ino
    with lend_login(login, place, linked=False, until=0):
        write(place, NEW)
    assert read(login) == NEW
    assert login.stat().st_ino == number


def test_login_changed_by_somebody_else_is_left_alone(login: Path, place: Path) -> None:
    with lend_login(login, place, linked=False, until=0):
        write(place, NEW)
        write(login, "refresh-token-of-a-new-login")
    assert read(login) == "refresh-token-of-a-new-login"


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_half_written_login_is_not_saved(login: Path, place: Path, content: str) -> None:
    with lend_login(login, place, linked=False, until=0):
        place.write_text(content, encoding="utf-8")
    assert read(login) == OLD


def test_logging_out_inside_the_run_does_not_log_the_user_out(login: Path, place: Path) -> None:
    for linked in (True, False):
        with lend_login(login, place, linked=linked, until=0):
            place.unlink()
        assert read(login) == OLD


def test_secrets_are_named_and_short_words_are_none(login: Path, place: Path) -> None:
    with lend_login(login, place, linked=False, until=0) as lent:
        assert lent.find_secrets() == {"auth.json tokens.refresh_token": OLD}
        write(place, NEW)
        assert lent.find_secrets() == {
            "auth.json tokens.refresh_token": OLD,
            "auth.json tokens.refresh_token (renewed)": NEW,
        }


def test_what_a_login_may_do_is_no_secret(login: Path, place: Path) -> None:
    words = {"scope": "https://www.example.com/auth openid", "scopes": ["user:sessions:agent"], "token_type": "Bearer"}
    login.write_text(json.dumps({"tokens": {"refresh_token": OLD, **words}}), encoding="utf-8")
    with lend_login(login, place, linked=False, until=0) as lent:
        assert list(lent.find_secrets().values()) == [OLD]


def test_a_proposal_that_is_tried_again_borrows_again(login: Path, place: Path) -> None:
    for linked in (True, False, True):
        with lend_login(login, place, linked=linked, until=0):
            assert (read(place), place.is_symlink()) == (OLD, linked)


def test_second_borrower_is_refused_when_its_time_is_up(login: Path, place: Path) -> None:
    with lend_login(login, place, linked=True, until=0):
        replace_what_it_points_to(place)  # a lock on the file itself would be lost here
        start = time.monotonic()
        with (
            pytest.raises(LoginBusyError, match="is in use by another run, and serves one at a time"),
            lend_login(login, place.with_name("second"), linked=True, until=start + 0.3),
        ):
            pass
        assert 0.3 <= time.monotonic() - start < 5


def test_second_borrower_waits_its_turn(login: Path, place: Path) -> None:
    order: list[str] = []

    def borrow() -> None:
        with lend_login(login, place.with_name("second"), linked=False, until=time.monotonic() + 20):
            order.append(f"second {read(place.with_name('second'))}")

    second = threading.Thread(target=borrow)
    with lend_login(login, place, linked=False, until=0):
        second.start()
        second.join(0.3)
        assert second.is_alive()
        write(place, NEW)
        order.append("first")
    second.join(20)
    assert order == ["first", f"second {NEW}"]


def test_link_to_the_login_is_followed(login: Path, place: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere.json"
    link.symlink_to(login)
    with (
        lend_login(link, place, linked=False, until=0),
        pytest.raises(LoginBusyError),
        lend_login(login, place.with_name("second"), linked=False, until=0),
    ):
        pass
    assert link.is_symlink()


def test_login_that_is_gone_is_told(login: Path, place: Path) -> None:
    login.unlink()
    with pytest.raises(BackendError, match=r"the login .*auth\.json cannot be used"):
        lend_login(login, place, linked=False, until=0).__enter__()
