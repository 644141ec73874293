"""Models of agents that serve many services: one that they know, or one of a server of the user's own.

With ``api`` in a backend's table, ``model`` is what the server at ``base_url`` calls it, slashes and all. Without,
``model`` is written ``service/name``, and ``base_url`` takes the place of that service's own address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..core.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.model import Backend

OWN_SERVER = "own-server"
"""What a server of the user's own is called in the agents' settings."""

OWN_KEY = "OWN_SERVER_API_KEY"
"""Where its key is given to the agent: no key of another service is ever shown to it."""

CONTEXT_TOKENS, OUTPUT_TOKENS = 128_000, 16_384
"""What a model is taken to hold, and to answer at once, of which nothing is known."""

EXAMPLE = "anthropic/claude-sonnet-4-5"

SWITCHES = (
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
"""Variables which, named in a backend's ``env``, let it in where a cloud's own credentials are asked for."""


class ChosenModel(NamedTuple):
    """The *service* that has a model, and the model's *name* there."""

    service: str
    name: str

    @property
    def is_own(self) -> bool:
        """Whether the service is a server of the user's own."""
        return self.service == OWN_SERVER


def read_model(backend: Backend) -> ChosenModel:
    """Give the model of *backend*.

    :raises BackendError: it names none, or none that can be found; the message says what to do.
    """
    if not backend.model:
        message = f"backend '{backend.name}': {backend.provider} would take any model; set model, such as {EXAMPLE}"
        raise BackendError(message)
    if backend.api is not None:
        if backend.base_url is None:
            message = f"backend '{backend.name}': its api is that of a server of your own; set base_url too"
            raise BackendError(message)
        return ChosenModel(OWN_SERVER, backend.model)
    service, slash, name = backend.model.partition("/")
    if not (service and slash and name):
        message = (
            f"backend '{backend.name}': its model '{backend.model}' names no service; write service/model, such as "
            f"{EXAMPLE}, or set api (and base_url) for a server of your own"
        )
        raise BackendError(message)
    return ChosenModel(service, name)


def list_model_keys(backend: Backend, special: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Give the variables of a key for the model of *backend*: ``GROQ_API_KEY`` for ``groq``, but for *special* ones.

    :raises BackendError: as :func:`read_model`.
    """
    model = read_model(backend)
    if model.is_own:
        return (OWN_KEY,)
    return special.get(model.service) or (f"{model.service.upper().replace('-', '_').replace('.', '_')}_API_KEY",)
