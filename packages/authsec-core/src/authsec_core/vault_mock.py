"""MOCK mode's vault: secrets to play with, in this process, behind the same scopes, counts, ends and errors.

It answers the same messages as the vault does, so that a program that runs here runs there. Secrets in it are samples:
they are kept in the clear.
"""

from __future__ import annotations

import json
import logging
import secrets as randomness
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal, NoReturn
from urllib.parse import urlsplit

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._fork import renew_after_fork
from authsec_core._http import Call, Reply
from authsec_core._mock_records import (
    TIERS,
    Answer,
    Approval,
    Kept,
    Refusal,
    Token,
    meaning,
    pairs_of,
    tier_of,
    used,
)
from authsec_core.errors import ConfigurationError
from authsec_core.token import Secret
from authsec_core.vault_scopes import (
    VaultAction,
    check_path,
    parse_vault_scopes,
)

__all__ = ["MockVault", "VaultAccess"]

AccessTier = Literal["standard", "sensitive", "critical"]
_CLAIMS: Final = {"X-Agent-Name": "agent_name", "X-Access-Reason": "reason", "X-Conversation-ID": "conversation_id"}
_TTL: Final = 3600.0  # seconds
_log = logging.getLogger("authsec")
_TELLING: Final = 8  # characters; anything shorter is found by accident


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultAccess:
    """One thing that was asked of a `MockVault`, as the audit would have it.

    Attributes:
        action: `read`, `write`, `delete`, `list`, `rotate`, `import`, `issue` or `revoke`.
        path: What for: a secret, a namespace, or a token's id.
        decision: `allow`, or the code of the refusal, such as `SCOPE_DENIED`.
        token_id: Of the token that was shown; None for the agent's own key.
        claimed: `agent_name`, `reason` and `conversation_id`, as far as they were given.
    """

    action: str
    path: str
    decision: str
    token_id: str | None
    claimed: Mapping[str, str]


class MockVault:
    """A vault inside this process. Thread-safe. Several `AgentVault`s can share one: `AgentVault(secrets=mock)`.

    It keeps to scopes, ends, counts and tiers; it does not look at addresses, and it reads a `.env` text line by line.

    Args:
        secrets: Path -> value, such as `{"production/openai/api-key": "sk-sample"}`.
        scopes: What the agent's own key may do.
        clock: What tokens end by.

    Raises:
        ValueError: A path or a scope is none.
    """

    def __init__(
        self,
        secrets: Mapping[str, str] | None = None,
        *,
        scopes: str = "secrets:*:*",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.agent_key: Secret = Secret("agk_mock." + randomness.token_urlsafe(32))
        self._scopes, self._clock = parse_vault_scopes(scopes), clock
        self._kept: dict[str, list[Kept]] = {}
        self._tokens: dict[str, Token] = {}  # by their text
        self._approvals: dict[str, Approval] = {}
        self._accesses: list[VaultAccess] = []
        self._lock = threading.Lock()  # guards the four above
        renew_after_fork(self)
        for path, value in (secrets or {}).items():
            self.register(path, value)

    @property
    def accesses(self) -> tuple[VaultAccess, ...]:
        """All that was asked so far, in order."""
        with self._lock:
            return tuple(self._accesses)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key, token and secret of 8 characters or more that there was, for `assert_no_secret`."""
        with self._lock:
            values = [kept.value for versions in self._kept.values() for kept in versions]
            return (self.agent_key(), *self._tokens, *(value for value in values if len(value) >= _TELLING))

    def register(
        self, path: str, value: str, *, access_tier: AccessTier = "standard", metadata: Mapping[str, str] | None = None
    ) -> None:
        """Put a secret there, or a new version of it.

        Raises:
            ValueError: The path is none.
        """
        members = {"value": value, "access_tier": access_tier, "metadata": dict(metadata or {})}
        with self._lock:
            self._keep(check_path(path), members)

    def approve(self, approval_id: str) -> None:
        """Approve a token, as the people would that the vault asks. Once is enough here, whatever the tier.

        Raises:
            KeyError: Nobody asked for it.
        """
        with self._lock:
            self._approvals[approval_id] = replace(self._approvals[approval_id], state="approved")

    def deny(self, approval_id: str) -> None:
        """Deny a token.

        Raises:
            KeyError: Nobody asked for it.
        """
        with self._lock:
            self._approvals[approval_id] = replace(self._approvals[approval_id], state="denied")

    def send(self, call: Call) -> Reply:
        """Answer one message."""
        return self.answer(call.method, urlsplit(call.url).path, call.params, call.headers, call.content or b"")

    def answer(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], content: bytes
    ) -> Reply:
        """Answer one message, as `/v1` of the vault would."""
        words = {name.lower(): value for name, value in headers.items()}
        claimed = {name: words[header.lower()] for header, name in _CLAIMS.items() if header.lower() in words}
        action, subject = meaning(method, path.removeprefix("/v1/"))
        members = {**params, **json.loads(content or b"{}")}
        token: Token | None = None
        with self._lock:
            try:
                token = self._proven(words.get("authorization", "").removeprefix("Bearer "))
                subject = subject or str(members.get("namespace") or "")
                status, fields = self._deeds[action](subject, members, token)
                decision = "allow"
            except Refusal as refusal:
                status, decision = refusal.status, refusal.code
                fields = {"error": {"code": refusal.code, "message": str(refusal)}}
            token_id = None if token is None else token.token_id
            self._accesses.append(
                VaultAccess(action=action, path=subject, decision=decision, token_id=token_id, claimed=claimed)
            )
        return Reply(status=status, headers={}, body=b"" if fields is None else json.dumps(fields).encode())

    def after_fork(self) -> None:
        """Let no child wait for a thread of its parent."""
        self._lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MockVault lives in one process: make one in the other")

    def __deepcopy__(self, memo: object) -> MockVault:
        return self

    @property
    def _deeds(self) -> dict[str, Callable[[str, dict[str, Any], Token | None], Answer]]:
        return {
            "read": self._read,
            "write": self._write,
            "delete": self._delete,
            "list": self._list,
            "rotate": self._rotate,
            "import": self._import,
            "issue": self._issue,
            "revoke": self._revoke,
        }

    def _proven(self, credential: str) -> Token | None:
        """Return the token that was shown; None is the agent's own key."""
        if credential == self.agent_key():
            return None
        token = self._tokens.get(credential)
        if token is None or token.is_revoked or self._clock.wall() >= token.expires_at:
            raise Refusal(401, "UNAUTHORIZED", "an agent key or a vault token is needed, and none that is good came")
        return token

    def _permit(self, token: Token | None, action: VaultAction, path: str, tier: str = "standard") -> None:
        """See that this may be done, and count the use."""
        if token is not None and token.max_uses is not None and token.uses >= token.max_uses:
            raise Refusal(410, "TOKEN_EXHAUSTED", "this token has been used as often as it can be")
        by_token = token is None or any(scope.covers(action, path) for scope in token.scopes)
        if not by_token or not any(scope.covers(action, path) for scope in self._scopes):
            raise Refusal(403, "SCOPE_DENIED", f"no scope allows to {action} this secret")
        if TIERS.index(tier) > TIERS.index("standard" if token is None else token.tier):
            raise Refusal(403, "APPROVAL_REQUIRED", "a token for this secret has to be approved")

    def _found(self, path: str, token: Token | None, action: VaultAction, version: int | None = None) -> Kept:
        versions = self._kept.get(path, [])
        wanted = [kept for kept in versions if version in (None, kept.version) and not kept.is_destroyed]
        self._permit(token, action, path, wanted[-1].tier if wanted else "standard")
        if not wanted:
            raise Refusal(404, "SECRET_NOT_FOUND", "there is no such secret")
        return wanted[-1]

    def _read(self, path: str, members: dict[str, Any], token: Token | None) -> Answer:
        version = members.get("version")
        found = self._found(path, token, "read", None if version is None else int(version))
        return used(token, 200, found.said() | {"value": found.value})

    def _write(self, path: str, members: dict[str, Any], token: Token | None) -> Answer:
        held = [kept.tier for kept in self._kept.get(path, []) if not kept.is_destroyed]
        self._permit(token, "write", path, held[-1] if held else "standard")
        return used(token, 200, self._keep(path, members).said())

    def _rotate(self, path: str, members: dict[str, Any], token: Token | None) -> Answer:
        found = self._found(path, token, "write")
        value = members.get("value") or randomness.token_urlsafe(32)
        kept = self._keep(path, {**found.said(), "value": value})
        return used(token, 200, kept.said() | {"value": value})

    def _delete(self, path: str, members: dict[str, Any], token: Token | None) -> Answer:
        self._found(path, token, "delete")
        self._kept[path] = [replace(kept, value="", is_destroyed=True) for kept in self._kept[path]]
        return used(token, 204, None)

    def _list(self, namespace: str, members: dict[str, Any], token: Token | None) -> Answer:
        every = [self._scopes] + ([] if token is None else [token.scopes])
        if not all(any(scope.reaches("read", namespace) for scope in scopes) for scopes in every):
            raise Refusal(403, "SCOPE_DENIED", "no scope allows to read what could lie here")
        items = [
            versions[-1].said()
            for path, versions in sorted(self._kept.items())
            if path.startswith(f"{namespace}/" if namespace else "")
            and not versions[-1].is_destroyed
            and all(any(scope.covers("read", path) for scope in scopes) for scopes in every)
        ]
        return used(token, 200, {"namespace": namespace, "items": items, "next": None})

    def _import(self, namespace: str, members: dict[str, Any], token: Token | None) -> Answer:
        pairs, bad = pairs_of(str(members.get("content", "")))
        if bad:
            raise Refusal(400, "VALIDATION_ERROR", ", ".join(f"line {number} cannot be read" for number in bad))
        for name in pairs:
            self._permit(token, "write", f"{namespace}/{name}")
        for name, value in pairs.items():
            self._keep(f"{namespace}/{name}", {**members, "value": value})
        keys = list(pairs)
        return used(
            token,
            200,
            {"namespace": namespace, "imported": keys, "imported_count": len(keys), "skipped": 0, "keys": keys},
        )

    def _issue(self, subject: str, members: dict[str, Any], token: Token | None) -> Answer:
        if token is not None:
            raise Refusal(403, "SCOPE_DENIED", "a vault token may not ask for another")
        if "approval_id" in members:
            approval = self._approved(members)
            return 200, self._pending(approval) if approval.state == "pending" else self._issued(approval)
        scopes = parse_vault_scopes(members["scopes"])
        if not all(any(mine.includes(scope) for mine in self._scopes) for scope in scopes):
            raise Refusal(403, "SCOPE_DENIED", "the agent itself may not do all of this")
        reached = (tier_of(scopes, path, kept) for path, kept in self._kept.items())
        tier = max(TIERS.index(members.get("access_tier", "standard")), *reached)
        approval = Approval(randomness.token_hex(8), scopes, TIERS[tier], members)
        if not tier:
            return 200, self._issued(approval)
        self._approvals[approval.approval_id] = approval
        return 200, self._pending(approval)

    def _approved(self, members: dict[str, Any]) -> Approval:
        approval = self._approvals.get(members["approval_id"])
        if len(members) > 1:
            raise Refusal(400, "VALIDATION_ERROR", "approval_id stands alone")
        if approval is None:
            raise Refusal(404, "SECRET_NOT_FOUND", "nobody asked for this")
        if approval.state == "denied":
            raise Refusal(403, "SCOPE_DENIED", "this was denied")
        if approval.state == "approved":
            del self._approvals[approval.approval_id]
        return approval

    def _pending(self, approval: Approval) -> dict[str, Any]:
        scopes = [str(scope) for scope in approval.scopes]
        return {"requires_approval": True, "approval_id": approval.approval_id, "status": "pending", "scopes": scopes}

    def _issued(self, approval: Approval) -> dict[str, Any]:
        token_id = f"vlt_{randomness.token_hex(8)}"
        text = f"{token_id}.{randomness.token_urlsafe(32)}"
        made = self._tokens[text] = Token(
            token_id=token_id,
            scopes=approval.scopes,
            tier=approval.tier,
            max_uses=approval.members.get("max_uses"),
            expires_at=self._clock.wall() + float(approval.members.get("ttl") or _TTL),
        )
        return {
            "token": text,
            "token_id": token_id,
            "expires_at": made.expires_at,
            "scopes": [str(scope) for scope in made.scopes],
            "requires_approval": False,
        }

    def _revoke(self, token_id: str, members: dict[str, Any], token: Token | None) -> Answer:
        found = next((each for each in self._tokens.values() if each.token_id == token_id), None)
        if token is not None and token is not found:
            raise Refusal(403, "SCOPE_DENIED", "a vault token may take back itself alone")
        if found is None:
            raise Refusal(404, "SECRET_NOT_FOUND", "there is no such token")
        found.is_revoked = True
        return 204, None

    def _keep(self, path: str, members: Mapping[str, Any]) -> Kept:
        versions = self._kept.setdefault(path, [])
        now = self._clock.wall()
        kept = Kept(
            path=path,
            value=members["value"],
            version=len(versions) + 1,
            kind=members.get("secret_type") or "custom",
            tier=members.get("access_tier") or "standard",
            metadata=dict(members.get("metadata") or {}),
            created_at=versions[0].created_at if versions else now,
            updated_at=now,
        )
        versions.append(kept)
        return kept


@lru_cache(maxsize=8)
def of_the_environment(secrets: Secret | None, *, was_asked_for: bool) -> MockVault:
    """Return the one vault that `AUTHSEC_MOCK_SECRETS` describes: all that is made of it in this process is in it.

    Args:
        secrets: What the variable says.
        was_asked_for: `AUTHSEC_MODE=mock` says so; else there is one warning.

    Raises:
        ConfigurationError: It is not JSON such as `{"production/openai/api-key": "sk-sample"}`.
    """
    held: Any = None
    with suppress(ValueError, RecursionError):
        held = json.loads(secrets()) if secrets is not None else {}
    if not isinstance(held, dict) or not all(isinstance(value, str) and value for value in held.values()):
        raise ConfigurationError(
            'AUTHSEC_MOCK_SECRETS is not a JSON object such as {"production/openai/api-key": "sk-sample"}'
        )
    if not was_asked_for:
        _log.warning("MOCK mode: AUTHSEC_VAULT_URL is unset; secrets are those of AUTHSEC_MOCK_SECRETS")
    try:
        return MockVault(held)
    except ValueError as exc:
        raise ConfigurationError(f"AUTHSEC_MOCK_SECRETS: {exc}") from exc
