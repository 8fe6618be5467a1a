"""What `authsec-server admin` can do about agents: who they are, what they were delegated, what they were given.

One row for each operation of the admin API. Data, and nothing that acts on it.
"""

from __future__ import annotations

from typing import Final

from authsec_server.cli import _values as values
from authsec_server.cli._fields import CLIENT_ID, ENDS, LABEL, PAGE, Command, Field, at_place, in_path, option, switch

__all__ = ["AGENT_COMMANDS"]

# Not those of `checks`, which loads more than `--help` should wait for; a test holds the two together.
_TYPES: Final = ("autogen-agent", "crewai-agent", "langchain-agent", "mcp-agent", "autonomous-workload")

_CLIENTS: Final = (
    Command(
        words="clients onboard",
        what="register an agent; its first key is shown once",
        method="POST",
        path="/clients",
        fields=(
            at_place("name", "the agent's name"),
            option("--type", "agent_type", "its kind of agent", required=True, choices=_TYPES),
            option("--platform", "platform", "where it runs, such as kubernetes", required=True),
            option(
                "--selector",
                "selectors",
                "what the platform knows it by, such as k8s:ns=production; may be repeated",
                parse=values.pair,
                many=True,
                shown="NAME=VALUE",
            ),
        ),
        once="agent_key",
    ),
    Command(
        words="clients list",
        what="list the agents",
        method="GET",
        path="/clients",
        fields=PAGE,
        columns="client_id name agent_type state spiffe_id",
    ),
    Command(
        words="clients show", what="show one agent", method="GET", path="/clients/{client_id}", fields=(CLIENT_ID,)
    ),
    Command(
        words="clients disable",
        what="stop an agent until it is enabled again; its tokens are revoked",
        method="PATCH",
        path="/clients/{client_id}",
        fields=(CLIENT_ID,),
        fixed={"state": "disabled"},
    ),
    Command(
        words="clients enable",
        what="let a disabled agent go on",
        method="PATCH",
        path="/clients/{client_id}",
        fields=(CLIENT_ID,),
        fixed={"state": "active"},
    ),
    Command(
        words="clients revoke",
        what="end an agent for ever, with its keys and tokens",
        method="POST",
        path="/clients/{client_id}/revoke",
        fields=(CLIENT_ID,),
    ),
    Command(
        words="clients vault-access",
        what="say what an agent may do in the vault, in place of what it might before",
        method="PUT",
        path="/clients/{client_id}/vault-access",
        fields=(
            CLIENT_ID,
            option(
                "--namespace",
                "namespaces",
                "where, such as production, with all that is below it; '*' is everywhere; may be repeated",
                many=True,
                required=True,
            ),
            option(
                "--scope",
                "scopes",
                "what, such as 'secrets:read:production/*'; may be repeated",
                many=True,
                required=True,
            ),
        ),
    ),
    Command(
        words="clients end-vault-access",
        what="let an agent do nothing in the vault any more, nor its vault tokens",
        method="PUT",
        path="/clients/{client_id}/vault-access",
        fields=(CLIENT_ID,),
        fixed={"namespaces": [], "scopes": []},
    ),
    Command(
        words="clients show-vault-access",
        what="show what an agent may do in the vault",
        method="GET",
        path="/clients/{client_id}/vault-access",
        fields=(CLIENT_ID,),
    ),
    Command(
        words="keys create",
        what="make another key for an agent; it is shown once",
        method="POST",
        path="/clients/{client_id}/keys",
        fields=(CLIENT_ID, LABEL, ENDS),
        once="agent_key",
        takes_body=True,
    ),
    Command(
        words="keys register",
        what="let an agent sign in with a key of its own, of which you have the public half",
        method="POST",
        path="/clients/{client_id}/public-keys",
        fields=(
            CLIENT_ID,
            option(
                "--jwk",
                "jwk",
                "a file with the public key as a JWK",
                parse=values.document,
                required=True,
                shown="FILE",
            ),
            LABEL,
            ENDS,
        ),
    ),
    Command(
        words="keys list",
        what="list an agent's keys",
        method="GET",
        path="/clients/{client_id}/keys",
        fields=(CLIENT_ID, *PAGE),
        columns="key_id label created_at not_after revoked_at",
    ),
    Command(
        words="keys revoke",
        what="end a key, and the tokens that were got with it",
        method="POST",
        path="/clients/{client_id}/keys/{key_id}/revoke",
        fields=(CLIENT_ID, in_path("key_id", "the key's id, not the key")),
    ),
)

_ROLE: Final = in_path("name", "the role's name")
_ROLES: Final = (
    Command(
        words="roles put",
        what="make a role, or change what it may; takes effect at once",
        method="PUT",
        path="/roles/{name}",
        fields=(
            _ROLE,
            at_place("permissions", "all that it may, such as read:metrics", values.permission, many=True),
        ),
    ),
    Command(
        words="roles list",
        what="list the roles",
        method="GET",
        path="/roles",
        fields=PAGE,
        columns="name permissions updated_at",
    ),
    Command(words="roles show", what="show one role", method="GET", path="/roles/{name}", fields=(_ROLE,)),
    Command(words="roles delete", what="remove a role", method="DELETE", path="/roles/{name}", fields=(_ROLE,)),
)

_DELEGATION: Final = in_path("delegation_id", "the delegation's id")
_ACTIONS: Final = option(
    "--action",
    "allowed_actions",
    "one of the role's permissions, to delegate only some of them; may be repeated",
    parse=values.permission,
    many=True,
    shown="PERMISSION",
)
_AUDIENCES: Final = option(
    "--audience", "audiences", "one API that tokens may be for; may be repeated", many=True, shown="API"
)
_LONGEST_IS: Final = "the longest life of a token, such as 30m, 1h or 2d"


def _longest(*, required: bool) -> Field:
    return option("--max-duration", "max_duration", _LONGEST_IS, parse=values.span, shown="TIME", required=required)


_DELEGATIONS: Final = (
    Command(
        words="delegations create",
        what="delegate a role, or part of it, to an agent",
        method="POST",
        path="/trust-delegations",
        fields=(
            option("--role", "role", "the role that is delegated", required=True),
            option("--client", "client_id", "the agent's client id", required=True, shown="CLIENT_ID"),
            option("--target-type", "target_type", "the agent's kind, again", required=True, choices=_TYPES),
            _ACTIONS,
            _AUDIENCES,
            _longest(required=True),
            ENDS,
            switch("--disabled", "enabled", False, "make it without effect, until it is enabled"),
        ),
    ),
    Command(
        words="delegations list",
        what="list the delegations",
        method="GET",
        path="/trust-delegations",
        fields=(
            option("--client", "client_id", "only those to this agent", place="query", shown="CLIENT_ID"),
            option("--role", "role", "only those by this role", place="query"),
            *PAGE,
        ),
        columns="delegation_id role client_id allowed_actions max_duration+unit enabled not_after revoked_at",
    ),
    Command(
        words="delegations show",
        what="show one delegation",
        method="GET",
        path="/trust-delegations/{delegation_id}",
        fields=(_DELEGATION,),
    ),
    Command(
        words="delegations update",
        what="change a delegation; tokens that it no longer covers are revoked",
        method="PATCH",
        path="/trust-delegations/{delegation_id}",
        fields=(
            _DELEGATION,
            _ACTIONS,
            switch("--all-actions", "allowed_actions", None, "delegate all of the role's permissions"),
            _AUDIENCES,
            _longest(required=False),
            ENDS,
            switch("--no-end", "not_after", None, "let it go on until it is revoked"),
            switch("--enable", "enabled", True, "let it have effect"),
            switch("--disable", "enabled", False, "stop it until it is enabled again"),
        ),
    ),
    Command(
        words="delegations revoke",
        what="end a delegation for ever, and its tokens",
        method="POST",
        path="/trust-delegations/{delegation_id}/revoke",
        fields=(_DELEGATION,),
    ),
)

_JTI: Final = in_path("jti", "the token's public name, not the token")
_TOKENS: Final = (
    Command(
        words="tokens show", what="show what is kept of a token", method="GET", path="/tokens/{jti}", fields=(_JTI,)
    ),
    Command(words="tokens revoke", what="end a token", method="POST", path="/tokens/{jti}/revoke", fields=(_JTI,)),
    Command(
        words="tokens dry-run",
        what="would an agent get a token, and why not? Issues none",
        method="POST",
        path="/tokens/dry-run",
        fields=(
            at_place("client_id", "the agent's client id"),
            option("--scope", "scope", "the scopes asked for, separated by blanks; else all", shown="SCOPES"),
            option("--audience", "audience", "the API that it would be for", shown="API"),
            option("--ttl", "ttl", "the life asked for, such as 30m", parse=values.seconds, shown="TIME"),
        ),
    ),
)

_STATES: Final = ("pending", "approved", "denied", "redeemed", "ended")
_APPROVAL: Final = in_path("approval_id", "the approval's id")
_REASON: Final = option("--reason", "reason", "why, for the audit", shown="TEXT")
_APPROVALS: Final = (
    Command(
        words="approvals list",
        what="list vault tokens that somebody has to consent to",
        method="GET",
        path="/approvals",
        fields=(option("--status", "status", "only those that stand so", place="query", choices=_STATES), *PAGE),
        columns="id agent_name access_tier status scopes description created_at good_from",
    ),
    Command(
        words="approvals approve",
        what="consent to a vault token; not for an agent that you have onboarded or made a key for",
        method="POST",
        path="/approvals/{approval_id}/approve",
        fields=(_APPROVAL, _REASON),
    ),
    Command(
        words="approvals deny",
        what="refuse a vault token for good",
        method="POST",
        path="/approvals/{approval_id}/deny",
        fields=(_APPROVAL, _REASON),
    ),
)

AGENT_COMMANDS: Final = (*_CLIENTS, *_ROLES, *_DELEGATIONS, *_TOKENS, *_APPROVALS)
