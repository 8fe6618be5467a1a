"""`AgentVault` and `AgentVaultSync` against the authority's vault: what both promise, over real HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import httpx
import pytest
from behaviour.support import PATIENCE, Site
from behaviour.vault import WHOLE, approver, say, text_of, vault_entries

from authsec_core import (
    AgentVault,
    AgentVaultSync,
    ApprovalRequiredError,
    SecretNotFoundError,
    SecretUse,
    VaultError,
    VaultRequestError,
    VaultScopeDeniedError,
    VaultToken,
    VaultTokenExhaustedError,
    VaultUnauthorizedError,
)
from authsec_core.testing import LoopbackServer, Reply, assert_no_secret
from authsec_server.testing import OnboardedAgent

Kind = Literal["sync", "async"]


class Client:
    """A vault of one of the two kinds, called as if it were the one for threads."""

    def __init__(self, kind: Kind, vault: Any) -> None:
        self.kind, self.vault = kind, vault
        self._loop = asyncio.new_event_loop() if kind == "async" else None

    def __getattr__(self, name: str) -> Any:
        """Return a method of the vault."""

        def call(*args: Any, **more: Any) -> Any:
            return self.run(getattr(self.vault, name)(*args, **more))

        return call

    def run(self, outcome: Any) -> Any:
        """Return what a call came to."""
        return outcome if self._loop is None else self._loop.run_until_complete(outcome)

    def get(self, url: str, auth: httpx.Auth) -> httpx.Response:
        """Send a request of the program's own."""
        if self._loop is None:
            with httpx.Client(trust_env=False, timeout=PATIENCE) as http:
                return http.get(url, auth=auth)

        async def sent() -> httpx.Response:
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                return await client.get(url, auth=auth)

        return self._loop.run_until_complete(sent())

    def close(self) -> None:
        """Close it."""
        if self._loop is None:
            self.vault.close()
        else:
            self._loop.run_until_complete(self.vault.aclose())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()


class World:
    """An agent at a site, and its clients.

    Attributes:
        path: Where its secrets lie, which nobody else uses.
    """

    def __init__(self, site: Site, kind: Kind) -> None:
        self.site, self.kind = site, kind
        self.agent: OnboardedAgent = site.onboard(vault=WHOLE)
        self.path = f"production/{secrets.token_hex(6)}"
        self._clients: list[Client] = []

    def client(self, *, agent_key: str | None = "", **more: Any) -> Client:
        """Return a client of the agent's, or with another key or none."""
        kind: Any = AgentVaultSync if self.kind == "sync" else AgentVault
        key = self.agent.agent_key if agent_key == "" else agent_key
        client = Client(self.kind, kind(self.site.base_urls[0], agent_key=key, **more))
        self._clients.append(client)
        return client

    def entries(self, **filters: str) -> list[dict[str, Any]]:
        """Return what the audit has of the agent's secrets, the oldest first."""
        return vault_entries(self.site, client_id=self.agent.client_id, **filters)

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            client.close()


@pytest.fixture(params=["sync", "async"])
def world(site: Site, request: pytest.FixtureRequest) -> Iterator[World]:
    """A new agent, and both kinds of client."""
    found = World(site, request.param)
    yield found
    found.close()


def test_a_secret_lives_its_life(world: World) -> None:
    """Written, read, written again, read in an earlier version, rotated, listed and deleted."""
    vault, path = world.client(), f"{world.path}/key"
    written = vault.set_secret(path, "fir\u00dft", secret_type="api_key", metadata={"owner": "research"})
    assert (written.path, written.version, written.secret_type) == (path, 1, "api_key")
    assert written.created_at is not None
    assert vault.set_secret(path, "second\n'\"\\").version == 2
    assert vault.get_secret(path).value == "second\n'\"\\"
    assert vault.get_secret(path, version=1).value == "fir\u00dft"
    assert vault.get_secret(path).metadata == {"owner": "research"}
    rotated = vault.rotate_secret(path)
    assert (rotated.version, vault.get_secret(path).value) == (3, rotated.value)
    assert vault.rotate_secret(path, "given").value == "given"
    [listed] = vault.list_secrets(world.path)
    assert (listed.path, listed.version) == (path, 4)
    vault.delete_secret(path)
    with pytest.raises(SecretNotFoundError):
        vault.get_secret(path)
    assert vault.list_secrets(world.path) == ()


@pytest.mark.parametrize("value", ["x" * 65536, "\u20ac" * 21845, "\n" * 60000, "\x01" * 20000])
def test_the_longest_secrets_travel(world: World, value: str) -> None:
    """64 KiB; or what JSON makes as much of as a request may have."""
    vault = world.client()
    vault.set_secret(f"{world.path}/long", value)
    assert vault.get_secret(f"{world.path}/long").value == value


def test_a_text_of_settings_is_imported_whole(world: World) -> None:
    """Or not at all: then the numbers of its lines come back, and nothing of them."""
    vault = world.client()
    done = vault.import_env(world.path, "# keys\nexport A='one'\nB=\"two\nlines\"\nEMPTY=\n")
    assert (done.keys, done.skipped) == (("A", "B"), 1)
    assert vault.get_secret(f"{world.path}/B").value == "two\nlines"
    with pytest.raises(VaultRequestError) as caught:
        vault.import_env(f"{world.path}/more", "A=1\nsk-canary-0123456789\nB=2\n")
    assert caught.value.lines == (2,)
    assert_no_secret([str(caught.value), vars(caught.value)], "sk-canary-0123456789")
    assert vault.list_secrets(f"{world.path}/more") == ()


def test_a_token_reaches_what_it_says(world: World) -> None:
    """And ends when it is taken back; its life is counted by this machine's clock."""
    vault = world.client()
    vault.set_secret(f"{world.path}/search/key", "sk-search")
    vault.set_secret(f"{world.path}/publish/key", "sk-publish")
    token: VaultToken = vault.request_token(
        f"secrets:read:{world.path}/search/*", ttl_seconds=600, description="researcher"
    )
    assert abs(token.expires_at - token.issued_at - 600) < 60, "no other life, however long the request took"
    assert token.scopes == {f"secrets:read:{world.path}/search/*"}
    keyless = world.client(agent_key=None)
    assert keyless.get_secret(f"{world.path}/search/key", token=token.value).value == "sk-search"
    with pytest.raises(VaultScopeDeniedError):
        keyless.get_secret(f"{world.path}/publish/key", token=token)
    with pytest.raises(VaultScopeDeniedError):
        keyless.set_secret(f"{world.path}/search/key", "changed", token=token)
    assert [info.path for info in keyless.list_secrets(world.path, token=token)] == [f"{world.path}/search/key"]
    keyless.revoke_token(token)
    with pytest.raises(VaultUnauthorizedError):
        keyless.get_secret(f"{world.path}/search/key", token=token)


def test_words_and_decisions_are_on_record(world: World) -> None:
    """Agent, path, reason and decision, in any language; of a secret nothing."""
    vault, path = world.client(), f"{world.path}/key"
    vault.set_secret(path, "sk-canary-0123456789")
    token = vault.request_token(f"secrets:read:{world.path}/*")
    words = {"agent_name": "researcher", "reason": "Größe prüfen 株", "conversation_id": "c-7"}
    vault.get_secret(path, token=token, metadata=words)
    with pytest.raises(VaultScopeDeniedError):
        vault.get_secret("production/other/key", token=token, metadata=words)
    allowed, denied = world.entries()[-2:]
    assert (allowed["decision"], allowed["details"]["path"], allowed["claimed"]) == ("allow", path, words)
    assert (denied["decision"], denied["reason"], denied["claimed"]) == ("deny", "scope_denied", words)
    assert allowed["jti"] == token.token_id
    assert_no_secret(text_of(*world.entries()), "sk-canary-0123456789", token.value, world.agent.agent_key)


@pytest.mark.req("RW3")
def test_a_single_use_is_one_use(world: World) -> None:
    """Of many readers at once one has the secret; the others are told why not, and nobody asks twice."""
    vault, path = world.client(), f"{world.path}/once"
    vault.set_secret(path, "sk-once")
    token = vault.request_token(f"secrets:read:{path}", max_uses=1)
    urls = world.site.base_urls

    def read(number: int) -> str:
        with AgentVaultSync(urls[number % len(urls)]) as one:
            try:
                return one.get_secret(path, token=token).value
            except VaultError as error:
                return error.code

    with ThreadPoolExecutor(20) as threads:
        told = Counter(threads.map(read, range(40)))
    assert told == {"sk-once": 1, "vault_token_exhausted": 39}
    assert len([entry for entry in world.entries(action="vault.secret.read") if entry["jti"] == token.token_id]) == 40
    with pytest.raises(VaultTokenExhaustedError):
        vault.get_secret(path, token=token)


def test_a_sensitive_secret_is_had_once_it_is_approved(world: World) -> None:
    """The client is told what to wait for, and comes back with it."""
    vault, path = world.client(), f"{world.path}/payments"
    vault.set_secret(path, "sk-payments", access_tier="sensitive")
    with pytest.raises(ApprovalRequiredError) as refused:
        vault.get_secret(path)
    assert refused.value.approval_id is None
    scope = f"secrets:read:{path}"
    with pytest.raises(ApprovalRequiredError) as asked:
        vault.request_token(scope, max_uses=2, description="the night's report")
    approval_id = asked.value.approval_id
    with pytest.raises(ApprovalRequiredError):
        vault.request_token(scope, approval_id=approval_id)
    operator = approver(world.site, f"for {world.path}")
    assert say(world.site, "POST", f"/approvals/{approval_id}/approve", operator).status_code == 200
    token = vault.request_token(scope, approval_id=approval_id)
    assert vault.get_secret(path, token=token).value == "sk-payments"
    with pytest.raises(VaultError):
        vault.request_token(scope, approval_id=approval_id)


def test_a_wrong_key_is_told(world: World) -> None:
    """As is a token that the vault never made."""
    vault = world.client(agent_key="agk_0123456789abcdef.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7j8k9l0z1x2c")
    with pytest.raises(VaultUnauthorizedError, match="check agent_key="):
        vault.get_secret(f"{world.path}/key")
    with pytest.raises(VaultUnauthorizedError, match="ask for another"):
        vault.get_secret(f"{world.path}/key", token="vlt_0123456789abcdef.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7j8k9l0z1x2c")


def test_a_secret_is_used_unseen(world: World) -> None:
    """On a request of the program's own, and by the tool's way; what comes back does not hold it."""
    vault, path = world.client(), f"{world.path}/api"
    vault.set_secret(path, "sk-canary-0123456789")
    with LoopbackServer(lambda request: Reply.of_json({"you sent": request.headers["authorization"]})) as api:
        reply = vault.get(f"{api.base_url}/x", vault.vault.auth(path, metadata={"reason": "unseen"}))
        assert reply.json() == {"you sent": "Bearer sk-canary-0123456789"}
        assert "authorization" not in reply.request.headers
        result = vault.fetch("y", SecretUse.of(path, api.base_url), metadata={"reason": "tool"})
    assert result.data == {"you sent": "Bearer [secret removed]"}
    assert [entry["claimed"]["reason"] for entry in world.entries(action="vault.secret.read")] == ["unseen", "tool"]


def test_whatever_is_listed_is_covered(world: World) -> None:
    """More than one page of the vault's: all of it comes back, in order."""
    vault = world.client()
    text = "".join(f"KEY_{number:03}=x\n" for number in range(120))
    for folder in "abcdefghi":
        assert len(vault.import_env(f"{world.path}/{folder}", text).keys) == 120
    listed = vault.list_secrets(world.path)
    assert [info.path for info in listed] == [
        f"{world.path}/{folder}/KEY_{number:03}" for folder in "abcdefghi" for number in range(120)
    ]
