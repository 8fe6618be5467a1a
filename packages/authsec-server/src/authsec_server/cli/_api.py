"""The admin API as this command asks it: one request at a time, bounded, and with the operator's token for it alone.

No redirect is followed, no `.netrc`, proxy or certificate variable is read, and `http` is for loopback only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import httpx

from authsec_core._clock import Clock
from authsec_core._deadline import bounded
from authsec_core._http import blocking_client, client_options
from authsec_core._origin import check_base_url
from authsec_core._version import __version__
from authsec_core.errors import AuthorityUnreachableError, BadReplyError, ConfigurationError, InsecureTransportError
from authsec_core.token import Secret
from authsec_server.cli._outcome import without

if TYPE_CHECKING:
    from authsec_server.cli._request import ApiRequest

__all__ = ["Api", "Peer", "ProblemError", "peer_of"]

_PREFIX: Final = "/api/v1"
_TIMEOUT: Final = 30.0  # seconds for one request
_LARGEST: Final = 16 * 1024 * 1024  # bytes of one reply
_LONGEST_TOKEN: Final = 4096  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whom to ask, and as whom."""

    url: str
    token: Secret = field(repr=False)
    ca_file: Path | None = None


class ProblemError(Exception):
    """The authority answered with an error.

    Attributes:
        document: What it said (RFC 9457), without our credential.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document.get("code"))
        self.document = document

    @property
    def said(self) -> str:
        """For people: code and what is to be mended."""
        named = {name: str(self.document.get(name) or "") for name in ("code", "detail", "title", "field")}
        text = named["detail"] or named["title"] or "the authority refused it"
        at = f" ({named['field']})" if named["field"] else ""
        return f"{named['code'] or self.document.get('status')}{at}: {text}"


def peer_of(environ: Mapping[str, str], token_file: Path | None) -> Peer:
    """Return whom the environment and `--token-file` name.

    Raises:
        ConfigurationError: Something is missing, unsafe or cannot be read; the message names the variable.
    """
    ca_file = environ.get("AUTHSEC_ADMIN_CA_FILE")
    return Peer(url=_url(environ), token=_token(environ, token_file), ca_file=Path(ca_file) if ca_file else None)


def _url(environ: Mapping[str, str]) -> str:
    url = environ.get("AUTHSEC_ADMIN_URL", "").strip()
    if not url:
        raise ConfigurationError("AUTHSEC_ADMIN_URL: set it to the authority's address, as in AUTHSEC_BASE_URL")
    try:
        return check_base_url(url).removesuffix("/authsec")
    except ValueError as exc:
        raise ConfigurationError(f"AUTHSEC_ADMIN_URL: {exc}") from exc


def _token(environ: Mapping[str, str], token_file: Path | None) -> Secret:
    name = "--token-file" if token_file else "AUTHSEC_ADMIN_TOKEN"
    text = _read(token_file) if token_file else environ.get(name, "")
    text = text.strip()
    if not text:
        raise ConfigurationError(f"{name}: there is no operator token in it: set AUTHSEC_ADMIN_TOKEN, or name its file")
    if len(text) > _LONGEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
        raise ConfigurationError(f"{name}: what it holds is not an operator token")
    return Secret(text)


def _read(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            return file.read(_LONGEST_TOKEN + 2)
    except (OSError, ValueError) as exc:
        why = "is not text" if isinstance(exc, ValueError) else "cannot be read"
    # Raised out here: a UnicodeDecodeError carries the file's content, and would ride along as the context.
    raise ConfigurationError(f"--token-file: the file {why}")


class Api:
    """The admin API of one authority. Close it, or use it in a `with` block.

    Raises:
        ConfigurationError: The CA file cannot be read.
    """

    def __init__(self, peer: Peer, clock: Clock) -> None:
        self._peer, self._clock = peer, clock
        try:
            options = client_options(
                user_agent=f"authsec-server-cli/{__version__}",
                timeout=_TIMEOUT,
                connect_timeout=10.0,
                ca_file=peer.ca_file,
                trust_env=False,
            )
        except OSError as exc:
            raise ConfigurationError("AUTHSEC_ADMIN_CA_FILE: the file cannot be read, or is not PEM") from exc
        self._http = blocking_client(options, None)

    def ask(self, request: ApiRequest) -> Mapping[str, Any]:
        """Send one request and return the reply's object; of a reply without a body, an empty one.

        Raises:
            ProblemError: The authority refused it.
            AuthorityUnreachableError: It did not answer, or not in time. Whether a change was made is then unknown.
            InsecureTransportError: There is no safe connection to it.
            BadReplyError: It answered with something that is no reply of this API.
        """
        status, body = self._exchange(request)
        document = self._document(body)
        if 200 <= status < 300:
            if document is None and body:
                raise BadReplyError("the authority's reply is not a JSON object: check AUTHSEC_ADMIN_URL")
            return document or {}
        if 300 <= status < 400:
            raise BadReplyError("the authority answered with a redirect, which is not followed: mend AUTHSEC_ADMIN_URL")
        raise ProblemError(document or {"status": status, "code": f"http_{status}", "title": "no more is known"})

    def _exchange(self, request: ApiRequest) -> tuple[int, bytes]:
        ends = self._clock.steady() + _TIMEOUT
        built = self._http.build_request(
            request.method,
            f"{self._peer.url}{_PREFIX}{request.path}",
            params=request.query or None,
            json=request.body,
            headers={"Authorization": f"Bearer {self._peer.token()}"},
        )
        try:
            with (
                bounded(lambda: ends - self._clock.steady()),
                closing(self._http.send(built, stream=True)) as response,
            ):
                return response.status_code, _body(response)
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL, UnicodeError) as exc:
            failure = _failure(exc)
        # Raised out here: httpx's errors carry the request, and with it the token.
        raise failure

    def _document(self, body: bytes) -> Mapping[str, Any] | None:
        try:
            value = json.loads(without(body.decode("utf-8"), self._peer.token))
            json.dumps(value, indent=1, allow_nan=False)  # what passes here can be printed in every form
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()


def _body(response: httpx.Response) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BadReplyError("the authority's reply is encoded, which was not asked for")
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _LARGEST:
            raise BadReplyError("the authority's reply is too large")
    return bytes(body)


def _failure(error: Exception) -> AuthorityUnreachableError | InsecureTransportError:
    import ssl

    causes: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in causes:
        causes.append(at)
        at = at.__cause__ or at.__context__
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return InsecureTransportError(
            "no safe connection to the authority: check its certificate, or name its CA in AUTHSEC_ADMIN_CA_FILE"
        )
    unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, UnicodeError))
    why = "cannot be reached" if unsent else "broke off, or did not answer in time: look whether the change was made"
    return AuthorityUnreachableError(f"the authority {why} (AUTHSEC_ADMIN_URL)")
