"""Registered issuers over HTTP: shapes and statuses. The rules behind them have tests of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from registry_support import OWN, Registry
from routes_support import Speaker, speaking

from authsec_core.testing._signing import first_key

JWKS = {"keys": [dict(first_key().jwk)]}
NEW = {"name": "production", "kind": "kubernetes", "issuer": "https://k.example", "jwks_url": "https://k.example/jwks"}


def test_an_issuer_is_registered_changed_and_revoked(tmp_path: Path) -> None:
    """Times are RFC 3339; who is second to revoke gets 409."""

    async def test(say: Speaker, one: Registry) -> None:
        made = await say("POST", "/issuers", status=201, json=NEW)
        assert made == {
            **NEW,
            "issuer_id": made["issuer_id"],
            "audience": OWN.issuer,
            "jwks": None,
            "claims": [],
            "is_default": False,
            "enabled": True,
            "revision": 1,
            "created_at": "2027-01-15T08:00:00Z",
            "created_by": "root",
            "revoked_at": None,
        }
        path = f"/issuers/{made['issuer_id']}"
        assert await say("GET", path, status=200) == made
        assert await say("GET", "/issuers", status=200) == {"items": [made], "next": None}
        changed = await say("PATCH", path, status=200, json={"jwks": JWKS, "enabled": False, "audience": None})
        assert (changed["jwks"], changed["jwks_url"], changed["enabled"], changed["revision"]) == (JWKS, None, False, 2)
        assert await say("PATCH", path, status=200, json={}) == changed
        assert (await say("POST", f"{path}/revoke", status=200))["revoked_at"] == "2027-01-15T08:00:00Z"
        await say("POST", f"{path}/revoke", status=409)
        await say("PATCH", path, status=409, json={"enabled": True})

    speaking(tmp_path, test)


_WRONG: tuple[Any, ...] = (
    {},
    {**NEW, "role": "admin"},
    {**NEW, "kind": "github"},
    {**NEW, "name": "Production"},
    {**NEW, "jwks_url": None},
    {**NEW, "jwks": JWKS},
    {**NEW, "jwks_url": None, "jwks": [JWKS]},
    {**NEW, "jwks_url": "http://k.example/jwks"},
    {**NEW, "claims": ["a"]},
    {**NEW, "claims": "a"},
    {**NEW, "is_default": "yes"},
    {**NEW, "kind": "oidc", "claims": ["a"] * 17},
)


@pytest.mark.parametrize("body", _WRONG)
def test_what_cannot_be_registered_is_422(tmp_path: Path, body: Any) -> None:
    """And says which member has to be mended, if it is one."""

    async def test(say: Speaker, one: Registry) -> None:
        assert (await say("POST", "/issuers", status=422, json=body))["code"] == "invalid_request"

    speaking(tmp_path, test)


def test_who_may_do_what(tmp_path: Path) -> None:
    """Everyone may look; to say whom the authority trusts takes an admin. Strange ids are found nowhere."""

    async def test(say: Speaker, one: Registry) -> None:
        _, operator = await one.operator("olga", "operator")
        _, auditor = await one.operator("grace", "auditor")
        made = await say("POST", "/issuers", status=201, json=NEW)
        path = f"/issuers/{made['issuer_id']}"
        for token in (operator.text(), auditor.text()):
            await say("GET", path, status=200, token=token)
            await say("POST", "/issuers", status=403, token=token, json=NEW)
            await say("PATCH", path, status=403, token=token, json={"enabled": False})
            await say("POST", f"{path}/revoke", status=403, token=token)
        await say("GET", path, status=401, token="")
        await say("GET", "/issuers/wli_0000000000000000", status=404)
        await say("GET", "/issuers/wli_", status=422)

    speaking(tmp_path, test)
