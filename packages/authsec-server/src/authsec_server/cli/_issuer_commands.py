"""What `authsec-server admin` can do about issuers that others run: which of them vouch for workloads and users.

One row for each operation of the admin API. Data, and nothing that acts on it.
"""

from __future__ import annotations

from typing import Final

from authsec_server.cli import _values as values
from authsec_server.cli._fields import PAGE, Command, at_place, in_path, option, switch

__all__ = ["ISSUER_COMMANDS"]

_KINDS: Final = ("kubernetes", "spiffe", "oidc", "users")  # as in `issuers.values`; a test holds the two together
_ISSUER: Final = in_path("issuer_id", "the issuer's id")
_TRUST: Final = (
    option("--audience", "audience", "what its tokens have to be for; else this authority's issuer URL"),
    option("--jwks-url", "jwks_url", "where it publishes its keys", shown="URL"),
    option("--jwks", "jwks", "a file with its keys, in the place of a URL", parse=values.document, shown="FILE"),
    option(
        "--claim",
        "claims",
        "of the kind oidc: one claim that becomes a selector; may be repeated",
        many=True,
        shown="NAME",
    ),
)

ISSUER_COMMANDS: Final = (
    Command(
        words="issuers register",
        what="let an issuer vouch for workloads, or for users",
        method="POST",
        path="/issuers",
        fields=(
            at_place("name", "what it is called; of a cluster, the value of the selector k8s:cluster"),
            option("--kind", "kind", "what it issues", required=True, choices=_KINDS),
            option("--issuer", "issuer", "the iss of its tokens, or spiffe://<trust domain>", required=True),
            *_TRUST,
            switch("--default", "is_default", True, "agents that do not say which cluster they run in belong to it"),
        ),
    ),
    Command(
        words="issuers list",
        what="list the issuers",
        method="GET",
        path="/issuers",
        fields=PAGE,
        columns="issuer_id name kind issuer is_default enabled revoked_at",
    ),
    Command(words="issuers show", what="show one issuer", method="GET", path="/issuers/{issuer_id}", fields=(_ISSUER,)),
    Command(
        words="issuers update",
        what="change an issuer; tokens that rest on it are revoked, unless it is enabled and no more",
        method="PATCH",
        path="/issuers/{issuer_id}",
        fields=(
            _ISSUER,
            *_TRUST,
            switch("--default", "is_default", True, "let agents that name no cluster belong to it"),
            switch("--no-default", "is_default", False, "let them belong to it no more"),
            switch("--enable", "enabled", True, "let its tokens count"),
            switch("--disable", "enabled", False, "let none of its tokens count, until it is enabled again"),
        ),
    ),
    Command(
        words="issuers revoke",
        what="trust an issuer never again; tokens that rest on it are revoked",
        method="POST",
        path="/issuers/{issuer_id}/revoke",
        fields=(_ISSUER,),
    ),
)
