"""What `authsec-server admin` can do about the authority itself: its signing keys, its audit, its operators.

One row for each operation of the admin API. Data, and nothing that acts on it.
"""

from __future__ import annotations

from typing import Final

from authsec_server.cli import _values as values
from authsec_server.cli._fields import ENDS, LABEL, PAGE, Command, at_place, in_path, option, switch

__all__ = ["AUTHORITY_COMMANDS"]

_KID: Final = in_path("kid", "the signing key's id")
_SIGNING: Final = (
    Command(
        words="signing-keys list",
        what="list the signing keys",
        method="GET",
        path="/signing-keys",
        fields=PAGE,
        columns="kid state published ready_at activated_at retired_at",
    ),
    Command(
        words="signing-keys prepare",
        what="make a signing key and publish it, so that verifiers know it before it signs",
        method="POST",
        path="/signing-keys/prepare",
    ),
    Command(
        words="signing-keys activate",
        what="let a prepared key sign from now on",
        method="POST",
        path="/signing-keys/{kid}/activate",
        fields=(_KID, switch("--now", "at_once", True, "even if verifiers may not know it yet and refuse its tokens")),
    ),
    Command(
        words="signing-keys retire",
        what="give up a prepared key; the active one is retired by activating another",
        method="POST",
        path="/signing-keys/{kid}/retire",
        fields=(_KID,),
    ),
    Command(
        words="signing-keys revoke",
        what="withdraw a key at once: every token that it signed is refused",
        method="POST",
        path="/signing-keys/{kid}/revoke",
        fields=(_KID,),
    ),
)

_AUDIT: Final = (
    Command(
        words="audit",
        what="show what was decided and changed, and by whom",
        method="GET",
        path="/audit",
        fields=(
            option("--client", "client_id", "only what is about this agent", place="query", shown="CLIENT_ID"),
            option("--action", "action", "only this action, such as token.issue", place="query"),
            option("--decision", "decision", "only these decisions", place="query", choices=("allow", "deny")),
            option("--jti", "jti", "only what is about this token", place="query"),
            option(
                "--since",
                "since",
                "from this moment on, or from so long ago, such as 2h",
                place="query",
                parse=values.past,
                shown="WHEN",
            ),
            option(
                "--until",
                "until",
                "up to this moment, or up to so long ago",
                place="query",
                parse=values.past,
                shown="WHEN",
            ),
            option("--order", "order", "which come first", place="query", choices=("newest", "oldest")),
            *PAGE,
        ),
        columns="seq at action decision actor.kind+actor.name client_id reason",
    ),
    Command(
        words="checkpoints list",
        what="list the signed checkpoints of the audit",
        method="GET",
        path="/audit/checkpoints",
        fields=PAGE,
        columns="seq at jws",
    ),
    Command(
        words="checkpoints write",
        what="sign a checkpoint of the audit now; keep it elsewhere, for verify-audit",
        method="POST",
        path="/audit/checkpoints",
    ),
)

_OPERATOR: Final = in_path("operator_id", "the operator's id")
_MAY: Final = ("admin", "operator", "auditor")  # as in `operators.access`; a test holds the two together
_OPERATORS: Final = (
    Command(
        words="operators list",
        what="list the operators",
        method="GET",
        path="/operators",
        fields=PAGE,
        columns="operator_id name role enabled created_at",
    ),
    Command(
        words="operators create",
        what="name a person, or a program, that may administer this authority",
        method="POST",
        path="/operators",
        fields=(
            at_place("name", "who it is, as the audit will name them"),
            option("--role", "role", "what they may do", required=True, choices=_MAY),
        ),
    ),
    Command(
        words="operators update",
        what="change what an operator may do, or stop them",
        method="PATCH",
        path="/operators/{operator_id}",
        fields=(
            _OPERATOR,
            option("--role", "role", "what they may do", choices=_MAY),
            switch("--enable", "enabled", True, "let their tokens work"),
            switch("--disable", "enabled", False, "let none of their tokens work"),
        ),
    ),
    Command(
        words="operator-tokens create",
        what="make a token for an operator; it is shown once",
        method="POST",
        path="/operators/{operator_id}/tokens",
        fields=(_OPERATOR, LABEL, ENDS),
        once="token",
        takes_body=True,
    ),
    Command(
        words="operator-tokens list",
        what="list an operator's tokens",
        method="GET",
        path="/operators/{operator_id}/tokens",
        fields=(_OPERATOR, *PAGE),
        columns="token_id label created_at not_after revoked_at",
    ),
    Command(
        words="operator-tokens revoke",
        what="end an operator's token",
        method="POST",
        path="/operators/{operator_id}/tokens/{token_id}/revoke",
        fields=(_OPERATOR, in_path("token_id", "the token's id, not the token")),
    ),
    Command(words="whoami", what="show whose token this is", method="GET", path="/whoami"),
)

AUTHORITY_COMMANDS: Final = (*_SIGNING, *_AUDIT, *_OPERATORS)
