"""Is this token still good, says the issuer itself, now? Token introspection, RFC 7662: one request for each look.

It is asked only of tokens whose signature and claims were found good here, so that made-up ones cost the issuer
nothing. What the issuer says can take a caller away and never add anything: of its answer no scope and no name is used.
Which answer means what is decided in one place; the blocking way to get it and the other differ in nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote_plus, urlencode

from authsec_core._clock import Clock
from authsec_core._fork import renew_after_fork
from authsec_core._jws import parse_json
from authsec_core._origin import check_base_url
from authsec_core._version import __version__
from authsec_core.errors import ConfigurationError, RevokedTokenError, VerificationUnavailableError
from authsec_core.token import Secret
from authsec_core.verify import VerifiedToken

if TYPE_CHECKING:
    import httpx

    from authsec_core._http import Call, ClientOptions, Failure, Reply

__all__ = ["Introspection", "Introspector"]

_LARGEST_REPLY: Final = 64 * 1024  # bytes
_MOST_KNOWN: Final = 1024  # answers that are remembered
_LONGEST_MAX_AGE: Final = 300.0  # seconds
_WHAT: Final = "the issuer's introspection endpoint"
_QUIET: Final = 5.0  # seconds between two lines of the log: the usual pause between two fetches of keys
_OUR_FAULT: Final = (400, 401, 403)  # statuses
_COMPARED: Final = ("iss", "sub", "aud", "exp", "iat", "jti", "client_id")

_log = logging.getLogger("authsec.guard")


class Introspection:
    """Where an issuer is asked about its tokens, and as whom. Immutable; it shows no key, and is not pickled.

    Args:
        client_id: The guard's own, which the issuer knows.
        client_key: What proves it; it goes to `url` and nowhere else.
        url: By default our own authority's. `https`, or loopback.
        max_age: Seconds for which a good answer counts; 0 asks each time.

    Raises:
        ConfigurationError: It could not work, or would not be safe.
    """

    __slots__ = ("_key", "client_id", "max_age", "url")

    def __init__(self, *, client_id: str, client_key: str, url: str | None = None, max_age: float = 0.0) -> None:
        if not _is_visible(client_id) or not _is_visible(client_key):
            raise ConfigurationError(
                "introspection needs client_id and client_key, by which the issuer knows this service: visible ASCII, "
                "without a space"
            )
        if not 0 <= max_age <= _LONGEST_MAX_AGE:
            raise ConfigurationError(f"max_age of introspection is from 0 to {_LONGEST_MAX_AGE:g} seconds")
        if url is not None:
            _check_url(url)
        self.client_id: str = client_id
        self._key = Secret(client_key)
        self.url: str | None = url
        self.max_age: float = max_age

    @property
    def authorization(self) -> str:
        """The header that proves it: HTTP Basic as RFC 6749 section 2.3.1 has it."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self._key())}"
        return f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"

    def __repr__(self) -> str:
        return f"Introspection(client_id={self.client_id!r}, url={self.url!r}, max_age={self.max_age!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Introspection holds a key and is not pickled: let the other process read its settings")


class Introspector:
    """Asks one endpoint. Thread-safe, loop-safe, and there is nothing to close: no connection outlives its request.

    Args:
        url: Where to ask.
        timeout: Seconds for one request.

    Raises:
        ConfigurationError: The URL or the CA file cannot be used.
    """

    def __init__(
        self,
        terms: Introspection,
        *,
        url: str,
        clock: Clock,
        timeout: float,
        ca_file: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        _check_url(url)
        self._url = url
        self._clock = clock
        self._timeout = timeout
        self._ca_file = Path(ca_file) if ca_file is not None else None
        self._transport = transport
        self._async_transport = async_transport
        self._terms = terms
        self._options: ClientOptions | None = None
        self._known = _Answers(terms.max_age)
        self._quiet_until = -math.inf

    def check(self, text: str, token: VerifiedToken) -> None:
        """Return if the issuer says that this token is good; blocks for one request.

        Args:
            text: The token, whose signature and claims were found good.
            token: What it says.

        Raises:
            RevokedTokenError: The issuer says that it is not.
            VerificationUnavailableError: The issuer says nothing, or nothing that can be relied on.
        """
        asked_at = self._clock.steady()
        if self._known.covers(text, asked_at):
            return
        self._decide(self._send(self._call(text, asked_at)), token)
        self._known.add(text, asked_at)

    async def acheck(self, text: str, token: VerifiedToken) -> None:
        """Do what `check` does, without blocking the loop."""
        asked_at = self._clock.steady()
        if self._known.covers(text, asked_at):
            return
        self._decide(await self._asend(self._call(text, asked_at)), token)
        self._known.add(text, asked_at)

    def _decide(self, reply: Reply | Failure, token: VerifiedToken) -> None:
        try:
            _judge(reply, token)
        except VerificationUnavailableError as exc:
            self._tell(logging.ERROR if getattr(reply, "status", None) in _OUR_FAULT else logging.WARNING, exc.message)
            raise

    def _tell(self, level: int, problem: str) -> None:
        # As often as an outage of the keys is told, however many ask meanwhile. Two threads at once may both tell it.
        now = self._clock.steady()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            _log.log(level, "%s: %s (nobody is let in meanwhile)", self._url, problem)

    def _call(self, text: str, now: float) -> Call:
        from authsec_core._http import Call

        return Call(
            url=self._url,
            method="POST",
            headers={
                "Authorization": self._terms.authorization,
                "Content-Type": "application/x-www-form-urlencoded",
                "Cache-Control": "no-store",
            },
            content=urlencode({"token": text, "token_type_hint": "access_token"}).encode("ascii"),
            deadline=now + self._timeout,
            limit=_LARGEST_REPLY,
        )

    def _send(self, call: Call) -> Reply | Failure:
        from authsec_core._http import blocking_client, send

        if self._transport is None and self._async_transport is not None:
            raise RuntimeError("this guard has only an async transport: give it transport= for blocking checks")
        client = blocking_client(self._client_options(), self._transport)
        try:
            return send(client, call, self._clock)
        finally:
            if self._transport is None:
                client.close()

    async def _asend(self, call: Call) -> Reply | Failure:
        import httpx

        from authsec_core._http import send_async

        transport = self._async_transport
        if transport is None and isinstance(self._transport, httpx.AsyncBaseTransport):
            transport = self._transport
        if transport is None and self._transport is not None:
            raise RuntimeError("this guard has only a blocking transport: give it async_transport= too")
        client = httpx.AsyncClient(transport=transport, **self._client_options())
        try:
            return await send_async(client, call, self._clock)
        finally:
            if transport is None:
                await client.aclose()

    def _client_options(self) -> ClientOptions:
        if self._options is None:
            from authsec_core._http import client_options

            try:
                self._options = client_options(
                    user_agent=f"authsec-fastapi/{__version__}",
                    timeout=self._timeout,
                    connect_timeout=self._timeout,
                    ca_file=self._ca_file,
                    trust_env=False,
                )
            except OSError as exc:
                raise ConfigurationError("the issuer's ca_file is not a readable PEM file: mend the path") from exc
        return self._options


class _Answers:
    """Which tokens were good a moment ago, by the SHA-256 of their text. Bounded; thread-safe."""

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._lock = threading.Lock()
        self._asked_at: dict[bytes, float] = {}
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the threads of the parent, one of which may hold the lock."""
        self._lock = threading.Lock()

    def covers(self, text: str, now: float) -> bool:
        return bool(self._max_age) and now < self._asked_at.get(_digest(text), -math.inf) + self._max_age

    def add(self, text: str, asked_at: float) -> None:
        if not self._max_age:
            return
        with self._lock:
            self._asked_at.pop(_digest(text), None)
            while len(self._asked_at) >= _MOST_KNOWN:
                del self._asked_at[next(iter(self._asked_at))]
            self._asked_at[_digest(text)] = asked_at


def _judge(reply: Reply | Failure, token: VerifiedToken) -> None:
    """Return if the reply says that the token is good. Pure."""
    from authsec_core._http import Failure

    if isinstance(reply, Failure):
        raise _unavailable(f"cannot be reached ({reply.kind})") from reply.cause
    if reply.status in _OUR_FAULT:
        # Nobody is let in, and nobody who calls can mend it.
        raise _unavailable(f"refuses this service's own client id and key (status {reply.status}): mend them")
    if reply.status != 200:
        raise _unavailable(f"answers with status {reply.status}")
    said = _read(reply.body)
    if said.get("active") is False:
        raise RevokedTokenError("the issuer says that the token is not good any more")
    if said.get("active") is not True:  # not 1, not "true": whoever writes that may write anything
        raise _unavailable("does not say whether the token is active")
    for name in _COMPARED:
        if name in said and not _agree(name, said[name], token):
            raise _unavailable(f"answers about another token: its {name} differs")


def _unavailable(problem: str) -> VerificationUnavailableError:
    return VerificationUnavailableError(f"{_WHAT} {problem}", unavailable="introspection")


def _agree(name: str, said: Any, token: VerifiedToken) -> bool:
    if name == "aud":
        audience = said if isinstance(said, tuple) else (said,)
        return all(isinstance(one, str) for one in audience) and set(audience) == set(token.audience)
    own = token.claims.get(name)
    if own is None:  # what the token does not say the issuer may know all the same; nothing here relies on it
        return True
    return type(said) is type(own) and bool(said == own)  # as types too: for Python 1 is True


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        said = parse_json(body)
    except ValueError:
        said = None
    if not isinstance(said, Mapping):
        raise _unavailable("does not answer in JSON")
    return said


def _is_visible(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _check_url(url: str) -> None:
    try:
        check_base_url(url)
    except ValueError as exc:
        raise ConfigurationError(f"the introspection url cannot be used: {exc}") from exc


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()
