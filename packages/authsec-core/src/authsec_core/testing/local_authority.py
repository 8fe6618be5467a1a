"""A loopback authority: delegation tokens, JWKS and a signed status list over real HTTP, with failures on demand.

It is for tests, demos and examples. It keeps everything in memory, has no audit and no policy beyond a list of
permissions for each agent; a deployment runs `authsec-server`.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.testing._authority_http import PATHS, PREFIX, log_entry, place, respond
from authsec_core.testing._authority_state import DelegationRequest, IssuedToken, LocalAgent
from authsec_core.testing._faults import Cut, Fault, FaultPlan, Where
from authsec_core.testing._http import Answer, Reply, Request
from authsec_core.testing._issuer import Issuer
from authsec_core.testing._loopback import LoopbackServer
from authsec_core.testing._signing import SigningKey

if TYPE_CHECKING:
    from types import TracebackType

    from authsec_core.testing._certificate import LoopbackCertificate

__all__ = ["LocalAuthority"]

_TRUST_DOMAIN = "spiffe://loopback.test/tenants/tenant-1/agents/autonomous-workload"


class LocalAuthority:
    """An authority on a free port of 127.0.0.1. Thread-safe; knows no agent until one is registered.

    Args:
        clock: Where `iat`, `exp` and the times in replies come from.
        status_ttl: Seconds that a verifier may keep a status list.
        certificate: Speak https with this certificate.
        wait: Waits out delays given in seconds; see `LoopbackServer`.

    >>> with LocalAuthority() as authority:
    ...     agent = authority.register(permissions=["read:metrics"])
    ...     sorted(authority.environ(agent))
    ['AUTHSEC_AGENT_CLIENT_ID', 'AUTHSEC_BASE_URL']
    """

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM_CLOCK,
        status_ttl: int = 1,
        certificate: LoopbackCertificate | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._certificate = certificate
        self._issuer = Issuer(clock=clock, status_ttl=status_ttl)
        self._faults = FaultPlan()
        self._server = LoopbackServer(self._answer, tls=certificate.context if certificate else None, wait=wait)

    def start(self) -> LocalAuthority:
        """Listen; after `close`, on the same port and with everything remembered."""
        self._server.start()
        return self

    def close(self) -> None:
        """Stop listening: clients then find the connection refused. Harmless when closed."""
        self._server.close()

    def __enter__(self) -> LocalAuthority:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def base_url(self) -> str:
        """The server's root, for `AUTHSEC_BASE_URL`."""
        return self._server.base_url

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens."""
        return self.base_url + PREFIX

    @property
    def jwks_url(self) -> str:
        """Where its public keys are."""
        return self.base_url + PATHS["jwks"]

    def register(
        self,
        permissions: str | Iterable[str],
        *,
        client_id: str | None = None,
        agent_key: str | None = None,
        ttl: int = 1800,
        spiffe_id: str | None = None,
        audience: Iterable[str] = ("authsec-api",),
    ) -> LocalAgent:
        """Delegate `permissions` to an agent. The same client id again replaces what was delegated, revoked or not.

        Args:
            permissions: Scopes, in the order in which replies list them; as text, separated by spaces.
            client_id: A UUID; a random one by default.
            agent_key: The proof that it must bring. By default its client id is enough.
            ttl: The longest life of its tokens, in seconds.
            spiffe_id: The `sub` of its tokens.
            audience: Whom its tokens are for when it asks for no audience.
        """
        name = str(uuid.UUID(client_id) if client_id else uuid.uuid4())
        agent = LocalAgent(
            client_id=name,
            permissions=tuple(permissions.split() if isinstance(permissions, str) else permissions),
            agent_key=agent_key,
            ttl=ttl,
            spiffe_id=spiffe_id or f"{_TRUST_DOMAIN}/{name}",
            audience=tuple(audience),
        )
        self._issuer.register(agent)
        return agent

    def environ(self, agent: LocalAgent, *, api_base_url: str | None = None) -> dict[str, str]:
        """Return the `AUTHSEC_*` variables that make an SDK client this agent."""
        settings = {
            "AUTHSEC_BASE_URL": self.base_url,
            "AUTHSEC_AGENT_CLIENT_ID": agent.client_id,
            "AUTHSEC_AGENT_KEY": agent.agent_key,
            "AUTHSEC_API_BASE_URL": api_base_url,
            "AUTHSEC_CA_FILE": str(self._certificate.ca_file) if self._certificate else None,
        }
        return {name: value for name, value in settings.items() if value is not None}

    def revoke(self, jti: str) -> None:
        """Revoke one token: the next status list says so.

        Raises:
            KeyError: This authority issued no token with this `jti`.
        """
        self._issuer.revoke(jti)

    def revoke_agent(self, client_id: str) -> None:
        """Revoke every token of an agent and answer 410 when it asks for another, until it is registered again."""
        self._issuer.revoke_client(client_id)

    def rotate_key(self, *, withdraw_old: bool = False) -> None:
        """Sign with a new key; the old ones stay in the JWKS unless they are withdrawn."""
        self._issuer.rotate(withdraw_old=withdraw_old)

    @property
    def signing_key(self) -> SigningKey:
        """The key that signs now. Keep it across `rotate_key` to sign with a key that was withdrawn."""
        return self._issuer.key

    def mint(
        self,
        agent: LocalAgent | None = None,
        /,
        *,
        header: Mapping[str, object] | None = None,
        omit: Collection[str] = (),
        key: SigningKey | None = None,
        **claims: object,
    ) -> str:
        """Return a token that nobody asked for, good by default and as hostile as `claims` and `header` make it.

        It can be revoked by its usual `jti` or with its agent, and is not listed in `issued`.

        Args:
            agent: Whose token it is; a made-up one with `read:metrics` by default.
            header: Replaces or adds members of the JOSE header.
            omit: Members of the header and claims to leave out.
            key: Sign with this key; the `kid` follows it unless `header` names one.
            claims: Replace or add claims.
        """
        agent = agent or LocalAgent(
            client_id=str(uuid.uuid4()), permissions=("read:metrics",), spiffe_id=f"{_TRUST_DOMAIN}/minted"
        )
        return self._issuer.sign(
            {**self._issuer.claims(agent, self.issuer), **claims}, header=header, omit=omit, key=key
        )

    @property
    def issued(self) -> tuple[IssuedToken, ...]:
        """Every token that was issued over HTTP, in order; also those whose reply was then cut or altered."""
        return self._issuer.issued

    @property
    def secrets(self) -> tuple[str, ...]:
        """The tokens that were issued over HTTP and the keys of its agents, for `assert_no_secret`."""
        return self._issuer.secrets

    @property
    def requests(self) -> tuple[DelegationRequest, ...]:
        """Every request to the delegation endpoint, in order, whatever became of it."""
        return tuple(log_entry(request) for request in self._received("delegation"))

    def count(self, where: Where) -> int:
        """Return how many requests came to the `delegation` endpoint, the `jwks` or the `statuslist`."""
        return len(self._received(where))

    def wait_for_requests(self, count: int, *, where: Where = "delegation", timeout: float = 30.0) -> None:
        """Wait until `count` requests have come there in all; they need not have been answered.

        Raises:
            AssertionError: They did not come within `timeout` seconds.
        """
        self._server.wait_for_requests(count, path=PATHS[where], timeout=timeout)

    def fail(
        self,
        *,
        where: Where = "delegation",
        times: int | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        garbage: bytes | None = None,
        alter: Callable[[dict[str, Any]], object] | None = None,
        raw: bytes | None = None,
        cut: bool | Cut = False,
        delay: float | threading.Event = 0.0,
    ) -> None:
        """Fail the next requests; what is planned already comes first. Where nothing good is sent, nothing is issued.

        Args:
            where: Which endpoint fails: `delegation`, `jwks` or `statuslist`.
            times: How many requests fail; all of them, until `recover`, by default.
            status: Answer with this status.
            retry_after: Seconds, for a `Retry-After` header.
            headers: More headers, such as the `Location` of a redirect.
            garbage: Answer with this body.
            alter: Answer with the JSON that this makes of the good answer's JSON.
            raw: Write these bytes instead of HTTP, then drop the connection.
            cut: Drop the connection: True or `"start"` before the answer, `"body"` in the middle of its body.
            delay: Seconds, or an Event, to wait for before answering.

        Raises:
            ValueError: Nothing is told to fail, or no request is to meet it.
        """
        after = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        fault = Fault(
            status=status,
            headers={**(headers or {}), **after},
            garbage=garbage,
            alter=alter,
            raw=raw,
            cut="start" if cut is True else cut or None,
            delay=delay,
        )
        if fault == Fault() or (times is not None and times < 1):
            raise ValueError("say what is to fail, and at least once")
        self._faults.add(where, fault, times)

    def recover(self, where: Where | None = None) -> None:
        """Work again, there or everywhere. A request that is being delayed stays so until its Event is set."""
        self._faults.clear(where)

    def _received(self, where: Where) -> list[Request]:
        return [request for request in self._server.requests if request.path == PATHS[where]]

    def _answer(self, request: Request) -> Answer:
        where = place(request)
        if isinstance(where, Reply):
            return where
        fault = self._faults.next(where)
        if fault is not None and fault.hides_answer:
            return fault.spoil(Reply())
        good = respond(where, request, self._issuer, self.issuer)
        return fault.spoil(good) if fault else good
