"""What each refusal of a token or a secret is over HTTP: its status, and the word that OAuth and vault clients know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from authsec_server.errors import RefusalCode

__all__ = ["OAUTH_ERRORS", "REFUSALS", "VAULT_ERRORS"]

REFUSALS: Final[Mapping[RefusalCode, int]] = {
    "client_id_missing": 400,
    "client_id_malformed": 400,
    "request_malformed": 400,
    "proof_missing": 401,
    "proof_wrong": 401,
    "client_disabled": 403,
    "not_covered": 403,
    "client_unknown": 404,
    "no_delegation": 404,
    "client_revoked": 410,
    "delegation_ended": 410,
    "audience_not_covered": 403,
    "grant_unsupported": 400,
    "subject_rejected": 400,
    "target_malformed": 400,
    "token_of_another": 403,
    "address_denied": 403,
    "approval_denied": 403,
    "approval_ended": 403,
    "approval_required": 403,
    "limit_reached": 409,
    "not_found": 404,
    "scope_denied": 403,
    "secret_not_found": 404,
    "token_exhausted": 410,
}
# RFC 6749 section 5.2, RFC 8693 section 2.2.2. All are a 400, but for `invalid_client`, which is a 401.
OAUTH_ERRORS: Final[Mapping[RefusalCode, str]] = {
    "client_id_missing": "invalid_request",
    "client_id_malformed": "invalid_client",
    "request_malformed": "invalid_request",
    "proof_missing": "invalid_client",
    "proof_wrong": "invalid_client",
    "client_unknown": "invalid_client",
    "client_disabled": "unauthorized_client",
    "client_revoked": "unauthorized_client",
    "no_delegation": "unauthorized_client",
    "delegation_ended": "unauthorized_client",
    "not_covered": "invalid_scope",
    "audience_not_covered": "invalid_target",
    "grant_unsupported": "unsupported_grant_type",
    "subject_rejected": "invalid_request",
    "target_malformed": "invalid_target",
    "token_of_another": "invalid_grant",
}
# What vault clients tell apart. A client that may do nothing any more hears what a wrong key hears.
VAULT_ERRORS: Final[Mapping[RefusalCode, str]] = {
    "client_disabled": "UNAUTHORIZED",
    "client_revoked": "UNAUTHORIZED",
    "approval_ended": "APPROVAL_REQUIRED",
    "approval_required": "APPROVAL_REQUIRED",
    "secret_not_found": "SECRET_NOT_FOUND",
}
