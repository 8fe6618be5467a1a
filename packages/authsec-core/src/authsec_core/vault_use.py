"""How a tool uses a secret that its model never sees: at which API, for which endpoints, and in which header. Pure."""

from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

from authsec_core._http import Call, Failure, Reply
from authsec_core._origin import check_base_url
from authsec_core._secret_header import SecretHeader
from authsec_core._vault_shown import claims_of, hidden
from authsec_core.endpoints import EndpointPolicy
from authsec_core.errors import ConfigurationError
from authsec_core.fetch import RESULT_LIMIT, FetchResult, read_data
from authsec_core.token import Mode, Secret
from authsec_core.vault_scopes import check_path
from authsec_core.vault_values import VaultSecret, VaultToken

__all__ = ["SecretUse"]

_REMOVED = "[secret removed]"
_SHORTEST = 4  # characters of a secret that is looked for in an answer: a shorter one is in every answer


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUse:
    """One secret at one API. Immutable; have it from `of`.

    Attributes:
        path: Where the secret lies.
        policy: Which endpoints of the API may be asked.
        token: What the secret is read with; None is what the vault shows by default.
        max_response_bytes: The most that is read of an answer, and shown of it.
        agent_name: For the vault's audit.
    """

    path: str
    policy: EndpointPolicy
    header: SecretHeader
    token: Secret | None
    max_response_bytes: int
    agent_name: str | None

    @classmethod
    def of(
        cls,
        path: str,
        base_url: str,
        *,
        allowed_endpoints: Iterable[str] | None = None,
        header: str = "Authorization",
        prefix: str | None = None,
        token: str | VaultToken | Secret | None = None,
        agent_name: str | None = None,
        max_response_bytes: int = RESULT_LIMIT,
        allow_http: bool = False,
    ) -> SecretUse:
        """Return the use of a secret.

        Args:
            path: Such as `production/tavily/api-key`.
            base_url: The API's address. The secret goes nowhere else.
            allowed_endpoints: The only endpoints that may be asked; by default all below `base_url`.
            header: Where the secret goes.
            prefix: What stands before it; by default `Bearer ` in `Authorization`, and nothing elsewhere.
            token: What to read the secret with, instead of the agent's own key.
            agent_name: For the vault's audit.
            max_response_bytes: The most that is read of an answer, and shown of it.
            allow_http: Permit plain http beyond loopback.

        Raises:
            ConfigurationError: `base_url` is none that a secret may go to.
            ValueError: Path, endpoints, header or name are none.
        """
        held = hidden(token)
        del token
        try:
            address = check_base_url(base_url, allow_http=allow_http)
        except ValueError as exc:
            raise ConfigurationError(f"base_url=: {exc}") from exc
        claims_of({} if agent_name is None else {"agent_name": agent_name})
        return cls(
            path=check_path(path),
            policy=EndpointPolicy(address, allowed=allowed_endpoints),
            header=SecretHeader.of(header, prefix),
            token=held,
            max_response_bytes=max_response_bytes,
            agent_name=agent_name,
        )

    def call(self, url: str, secret: VaultSecret, *, deadline: float) -> Call:
        """Return the request to the API.

        Raises:
            ConfigurationError: The secret cannot stand in a header.
        """
        headers = {self.header.name: self.header.value(secret)}
        return Call(url=url, headers=headers, deadline=deadline, limit=self.max_response_bytes)

    def result(self, answer: Reply | Failure, secret: VaultSecret, mode: Mode) -> FetchResult:
        """Return what the API answered, without the secret, should it have been echoed.

        Raises:
            DownstreamError: The API refused, failed or answered with something unusable.
        """
        data = read_data(answer, _spellings(secret), limit=self.max_response_bytes, removed=_REMOVED)
        return FetchResult(
            status="success", mode=mode, code=answer.status if isinstance(answer, Reply) else 0, data=data
        )


def _spellings(secret: VaultSecret) -> list[Secret]:
    """Return the secret as an API may spell it: as it is, in a URL, JSON, HTML, hex or base64."""
    value, raw = secret.value, secret.value.encode("utf-8", "surrogatepass")
    in_urls = (quote(raw, safe=""), quote(raw), quote_plus(raw), quote_plus(raw, safe="/"))
    in_text = (json.dumps(value)[1:-1], html.escape(value), html.escape(value, quote=False))
    spelled = (value, *in_urls, *in_text, raw.hex(), *_in_base64(raw))
    return [Secret(text) for text in dict.fromkeys(spelled) if len(text) >= _SHORTEST]


def _in_base64(raw: bytes) -> Iterator[str]:
    """Give what base64 makes of the bytes wherever they begin, up to the characters that hold their neighbours, too."""
    for before in range(3):
        first, beyond = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(before) + raw).decode()[first:beyond]
