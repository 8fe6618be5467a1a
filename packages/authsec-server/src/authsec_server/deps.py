"""How a route gets at the authority, and at who is asking. Every route of the admin API asks for one of these.

It knows how a credential travels in a request; whether it is good, and what it allows, is for `operators`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, cast
from urllib.parse import unquote_plus

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from authsec_server.audit.entry import Caller
from authsec_server.authority import Authority
from authsec_server.credentials import masked
from authsec_server.errors import RefusedError
from authsec_server.operators.access import Access

__all__ = [
    "Administers",
    "Manages",
    "OperatorRoute",
    "Reads",
    "authority",
    "claimed",
    "operator",
    "peer",
    "query",
    "request_id",
    "within_limits",
]

_LONGEST_NAME: Final = 43  # characters of anything that has its place in a path
_CLAIMED: Final = {
    b"x-agent-name": "agent_name",
    b"x-access-reason": "reason",
    b"x-conversation-id": "conversation_id",
}  # header, as ASGI has it -> its name among the agent's own words
_BEARER = HTTPBearer(auto_error=False, scheme_name="operator", description="An operator's token.")


def authority(request: Request) -> Authority:
    """Return the authority that this app serves."""
    return cast("Authority", request.app.state.authority)


def request_id(request: Request) -> str:
    """Return the request's id, which the middleware gave it."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def peer(request: Request) -> str | None:
    """Return the client's address as far as it is known."""
    client = request.scope.get("client")  # `request.client` makes an object each time
    return None if client is None else str(client[0])


def claimed(request: Request) -> dict[str, str]:
    """Return what an agent says of itself, for the audit: proven by nothing. Our clients send it as UTF-8."""
    claims: dict[str, str] = {}
    for header, value in request.scope["headers"]:  # once, where `request.headers` goes through them for each name
        if header in _CLAIMED:
            claims.setdefault(_CLAIMED[header], _as_text(value))
    return claims


def _as_text(header: bytes) -> str:
    """Return what a header says; what is no UTF-8 is taken for Latin-1."""
    try:
        return header.decode("utf-8")
    except UnicodeDecodeError:
        return header.decode("latin-1")


@contextmanager
def within_limits(request: Request) -> Iterator[None]:
    """Take a client's request apart only if its address may ask, and charge that for what cannot be read.

    Raises:
        RateLimitedError: Too much was refused to this address.
    """
    limits, address = authority(request).limits, peer(request)
    limits.enter(address)
    try:
        yield
    except RefusedError:
        limits.refused(address)
        raise


def query(request: Request) -> list[tuple[str, str]]:
    """Return the query's parameters, as `request.query_params` has them; in a fifth of the time."""
    pairs = (pair.partition("=") for pair in request.scope["query_string"].decode("latin-1").split("&") if pair)
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def operator(needs: Access) -> Callable[..., Awaitable[Caller]]:
    """Return the dependency that lets operators pass whose role includes `needs`, and says who it is."""

    async def dependency(
        request: Request, _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)] = None
    ) -> Caller:
        admitted: Caller | None = getattr(request.state, "admitted", None)  # by `OperatorRoute`
        return admitted if admitted is not None else await _admit(request, needs)

    dependency.__name__ = f"operator_who_may_{needs}"
    cast("Any", dependency).needs = needs
    return dependency


class OperatorRoute(APIRoute):
    """A route of the admin API: it looks at who asks before it looks at what was sent.

    FastAPI parses a body first, so that a stranger would be told what is wrong with it.

    Raises:
        RuntimeError: The route says nothing of who may use it: it must take `Reads`, `Manages` or `Administers`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request. Called by FastAPI, once."""
        handle = super().get_route_handler()
        needs: set[Access] = {
            cast("Any", found.call).needs for found in self.dependant.dependencies if hasattr(found.call, "needs")
        }
        if len(needs) != 1:
            raise RuntimeError(f"{self.path} does not say who may use it")
        (level,) = needs

        async def admit_first(request: Request) -> Response:
            request.state.admitted = await _admit(request, level)
            return await handle(request)

        return admit_first


def _decoded(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text


async def _admit(request: Request, needs: Access) -> Caller:
    headers = request.headers.getlist("authorization")
    return await authority(request).operators.admit(
        headers[0] if len(headers) == 1 else None,
        needs,
        request_id=request_id(request),
        address=peer(request),
        path=_recorded(request.scope["path"]),
    )


def _recorded(path: str) -> str:
    """Return a path as the audit has it: people paste keys and tokens into URLs, too."""
    return "/".join("*" if len(part) > _LONGEST_NAME or masked(part) != part else part for part in path.split("/"))


Reads = Annotated[Caller, Depends(operator("read"))]
Manages = Annotated[Caller, Depends(operator("manage"))]
Administers = Annotated[Caller, Depends(operator("administer"))]
