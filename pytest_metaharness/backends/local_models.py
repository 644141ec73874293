"""Ollama and LM Studio, asked which models they have before an agent is sent there.

An agent that is told of a model that they do not have may download it: gigabytes, unasked for.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.parse import unquote_to_bytes
from urllib.request import ProxyHandler, build_opener

from .agents import UnavailableError
from .events import cut_line, read_object, read_text

ANSWER_S = 5.0
"""For an answer, which is short."""

LONGEST = 4 << 20
"""Of an answer, in bytes."""

OLDEST_OLLAMA = (0, 13, 4)
"""What Codex CLI 0.169 asks for: Ollama's Responses API is good enough from there on."""


class LocalServer(ABC):
    """A server of models. *base_url*, that of its OpenAI API, is where it is by default when none is given."""

    name: ClassVar[str]
    default_url: ClassVar[str]
    start: ClassVar[str]
    get: ClassVar[str]

    def __init__(self, base_url: str | None) -> None:
        self.base_url = base_url or self.default_url
        self._scheme, _, place = self.base_url.rstrip("/").partition("://")
        authority, slash, path = place.partition("/")
        self._user, _, self.address = authority.rpartition("@")
        self._path = slash + path
        self.host = re.sub(r":\d*$", "", self.address).strip("[]")

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, where no proxy leads to."""
        return self.host.startswith(("localhost", "127.", "::1"))

    def find_model(self, model: str) -> str:
        """Give the name by which it has *model*: Ollama's tag ``latest`` may be left out.

        :raises UnavailableError: it is not there, or does not have the model; the message says what to do.
        """
        names = self.list_models()
        for name in (model, f"{model}:latest"):
            if name in names:
                return name
        message = f"{self.name} at {self.address} has no model '{model}'; get it with `{self.get} {model}`"
        raise UnavailableError(message)

    @abstractmethod
    def list_models(self) -> list[str]:
        """Give the names of the models that it has.

        :raises UnavailableError: it is not there, or too old.
        """

    def ask(self, path: str, *, without: str = "") -> Mapping[str, Any]:
        """Give its answer to the question *path*, below its base URL, the ending *without* cut off.

        :raises UnavailableError: it does not answer, or something else does.
        """
        opener = build_opener(*([ProxyHandler({})] if self.is_here else []))
        if self._user:
            opener.addheaders.append(("Authorization", f"Basic {b64encode(unquote_to_bytes(self._user)).decode()}"))
        try:
            if self._scheme.lower() not in {"http", "https"}:
                raise ValueError("neither http nor https")
            url = f"{self._scheme}://{self.address}{self._path.removesuffix(without)}{path}"
            with opener.open(url, timeout=ANSWER_S) as answer:
                found = read_object(answer.read(LONGEST))
        except HTTPError as error:
            error.close()
            message = f"what answers at {self.address} is not {self.name} (status {error.code}); correct base_url"
            raise UnavailableError(message) from error
        except (OSError, HTTPException, ValueError) as error:
            cause = getattr(error, "reason", error)
            reason = cut_line(getattr(cause, "strerror", None) or str(cause), 80)
            message = f"{self.name} does not answer at {self.address} ({reason}); start it with `{self.start}`"
            raise UnavailableError(message) from error
        if found is None:
            message = f"what answers at {self.address} is not {self.name} (no JSON object); correct base_url"
            raise UnavailableError(message)
        return found


class Ollama(LocalServer):
    """An Ollama."""

    name = "Ollama"
    default_url = "http://localhost:11434/v1"
    start = "ollama serve"
    get = "ollama pull"

    def list_models(self) -> list[str]:
        version = read_text(self.ask("/api/version", without="/v1"), "version")
        if _is_old(version):
            oldest = ".".join(map(str, OLDEST_OLLAMA))
            message = f"Ollama {cut_line(version, 40)} at {self.address} is too old; update it to {oldest} or newer"
            raise UnavailableError(message)
        return _read_names(self.ask("/api/tags", without="/v1"), "models", "name")


class LmStudio(LocalServer):
    """An LM Studio. It lists what it has downloaded, or, where it loads nothing by itself, what is loaded."""

    name = "LM Studio"
    default_url = "http://localhost:1234/v1"
    start = "lms server start"
    get = "lms get"

    def list_models(self) -> list[str]:
        return _read_names(self.ask("/models"), "data", "id")


def _read_names(answer: Mapping[str, Any], key: str, name: str) -> list[str]:
    models = answer.get(key)
    return [read_text(model, name) for model in models if isinstance(model, Mapping)] if models else []


def _is_old(version: str) -> bool:
    """Whether *version* is known to be too old; builds of one's own are 0.0.0."""
    found = re.match(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})(-)?", version)
    if found is None:
        return False
    numbers = tuple(int(number) for number in found.groups()[:3])
    return numbers != (0, 0, 0) and (numbers < OLDEST_OLLAMA or (numbers == OLDEST_OLLAMA and found[4] is not None))
