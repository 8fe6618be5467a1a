"""The tables, in the words that SQLite and PostgreSQL share. How they come into being is for the migrations.

Instants are epoch seconds; what a token says of itself in whole ones.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

__all__ = [
    "METADATA",
    "approval_votes",
    "approvals",
    "audit",
    "checkpoints",
    "client_keys",
    "clients",
    "head",
    "issuers",
    "operator_tokens",
    "operators",
    "rate_limits",
    "roles",
    "secret_versions",
    "secrets",
    "server",
    "signing_keys",
    "tokens",
    "trust_delegations",
    "used_marks",
    "vault_access",
    "vault_tokens",
    "withdrawals",
]

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_Json = sa.JSON(none_as_null=True)
# What lies below a namespace is what sorts between two texts, on every database alike.
_Path = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _one_of(column: str, *values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


server = sa.Table(
    "server",
    METADATA,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one"), primary_key=True, autoincrement=False),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("made_by_dev", sa.Boolean, nullable=False),
    sa.Column("pepper", sa.LargeBinary, nullable=False),  # sealed with the master key
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column(
        "floor", sa.Text, nullable=False, server_default="0001"
    ),  # the oldest revision whose release can run here
)

# Whoever writes holds this row: it gives all writers, on all replicas, one order.
head = sa.Table(
    "head",
    METADATA,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one"), primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("policy_version", sa.BigInteger, nullable=False),
    sa.Column("next_index", sa.BigInteger, nullable=False),
)

clients = sa.Table(
    "clients",
    METADATA,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("agent_type", sa.Text, nullable=False),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("selectors", _Json, nullable=False),
    sa.Column("spiffe_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("ended_at", sa.Double),
    _one_of("state", "active", "disabled", "revoked"),
    sa.Index(None, "created_at", "client_id"),
)

client_keys = sa.Table(
    "client_keys",
    METADATA,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), nullable=False, index=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("mac", sa.LargeBinary),  # of a key that the authority made
    sa.Column("jwk", _Json),  # the public half of one that the agent keeps (private_key_jwt)
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text),  # who has seen it, and so cannot approve what is asked with it
    sa.Column("not_after", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.CheckConstraint("(mac IS NULL) <> (jwk IS NULL)", name="one_kind"),
)

operators = sa.Table(
    "operators",
    METADATA,
    sa.Column("operator_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    _one_of("role", "admin", "operator", "auditor"),
)

operator_tokens = sa.Table(
    "operator_tokens",
    METADATA,
    sa.Column("token_id", sa.Text, primary_key=True),
    sa.Column("operator_id", sa.ForeignKey("operators.operator_id"), nullable=False, index=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("mac", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text),  # which operator has seen it, too; empty: it was made on the host
    sa.Column("not_after", sa.Double),
    sa.Column("revoked_at", sa.Double),
)

roles = sa.Table(
    "roles",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("permissions", _Json, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
)

trust_delegations = sa.Table(
    "trust_delegations",
    METADATA,
    sa.Column("delegation_id", sa.Text, primary_key=True),
    sa.Column("role", sa.ForeignKey("roles.name"), nullable=False, index=True),
    sa.Column("target_type", sa.Text, nullable=False),
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), nullable=False, index=True),
    sa.Column("allowed_actions", _Json),  # NULL: all that the role has
    sa.Column("audiences", _Json, nullable=False),
    sa.Column("max_duration", sa.Integer, nullable=False),  # seconds
    sa.Column("unit", sa.Text, nullable=False),  # in which it was given, and is shown
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("not_after", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    _one_of("unit", "seconds", "minutes", "hours", "days"),
    sa.CheckConstraint("max_duration > 0", name="positive"),
    sa.Index(None, "created_at", "delegation_id"),
)

tokens = sa.Table(
    "tokens",
    METADATA,
    sa.Column("jti", sa.Text, primary_key=True),
    sa.Column("status_index", sa.BigInteger, nullable=False, unique=True),
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text),
    sa.Column("delegations", _Json, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("audience", sa.Text, nullable=False),
    sa.Column("kid", sa.Text, nullable=False),
    sa.Column("issued_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("revoked_at", sa.Double),
    # Of a token that was exchanged for another one: whom it speaks for, and what it rests on: the `jti` of that token
    # if it is ours, else the id of the issuer that vouched for the user.
    sa.Column("subject", sa.Text),
    sa.Column("parent", sa.Text, index=True),
    sa.Column("depth", sa.Integer),  # how many exchanges lie before it; NULL is none
    sa.Index(None, "client_id", "status_index"),
)
sa.Index(
    "ix_tokens_revoked",
    tokens.c.status_index,
    sqlite_where=tokens.c.revoked_at.is_not(None),
    postgresql_where=tokens.c.revoked_at.is_not(None),
)

# Clients of whom one transaction could not look through all tokens, and how far the ones after it have come. Issuers,
# too, whose tokens are all taken back: theirs are looked through from the latest one down to the first.
withdrawals = sa.Table(
    "withdrawals",
    METADATA,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("after_index", sa.BigInteger, nullable=False),
)

# Whoever else may vouch: for workloads (clusters, SPIFFE trust domains, OIDC) or for users whose tokens are exchanged.
issuers = sa.Table(
    "issuers",
    METADATA,
    sa.Column("issuer_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("issuer", sa.Text, nullable=False),  # the `iss`, or spiffe://<trust domain>
    sa.Column("audience", sa.Text, nullable=False),
    sa.Column("jwks_url", sa.Text),
    sa.Column("jwks", _Json),
    sa.Column("claims", _Json, nullable=False),  # names of claims that become selectors
    sa.Column("is_default", sa.Boolean, nullable=False),  # for agents that do not say which cluster they run in
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),  # counts its changes
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("revoked_at", sa.Double),
    _one_of("kind", "kubernetes", "spiffe", "oidc", "users"),
    sa.CheckConstraint("(jwks_url IS NULL) <> (jwks IS NULL)", name="one_source"),
    sa.Index(None, "created_at", "issuer_id"),
)

# What is good for one use, and was used: kept until it could not be used anyway.
used_marks = sa.Table(
    "used_marks",
    METADATA,
    sa.Column("mark", sa.Text, primary_key=True),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
)

# When each bucket will be full again, for replicas that count together.
rate_limits = sa.Table(
    "rate_limits",
    METADATA,
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("full_at", sa.Double, nullable=False, index=True),
)

# What a client may do in the vault; without a row it may do nothing.
vault_access = sa.Table(
    "vault_access",
    METADATA,
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), primary_key=True),
    sa.Column("namespaces", _Json, nullable=False),
    sa.Column("scopes", _Json, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
)

# The secrets, without their values. What was deleted keeps its row, so that no version is ever used again: what was
# sealed as one would open as the other.
secrets = sa.Table(
    "secrets",
    METADATA,
    sa.Column("path", _Path, primary_key=True),
    sa.Column("secret_id", sa.Text, nullable=False, unique=True),
    sa.Column("version", sa.Integer, nullable=False),  # the latest
    sa.Column("secret_type", sa.Text, nullable=False),
    sa.Column("access_tier", sa.Text, nullable=False),
    sa.Column("metadata", _Json, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("deleted_at", sa.Double),
    _one_of("access_tier", "standard", "sensitive", "critical"),
)

# The few for which a token has to be approved, among the many.
sa.Index(
    "ix_secrets_above_standard",
    secrets.c.path,
    sqlite_where=secrets.c.access_tier != "standard",
    postgresql_where=secrets.c.access_tier != "standard",
)

secret_versions = sa.Table(
    "secret_versions",
    METADATA,
    sa.Column("path", _Path, sa.ForeignKey("secrets.path"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("access_tier", sa.Text, nullable=False),  # what it was written under
    sa.Column("wrapped_key", sa.LargeBinary, nullable=False),  # the data key, sealed with the master key
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # the value, sealed with the data key
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),  # the client
    _one_of("access_tier", "standard", "sensitive", "critical"),
)

vault_tokens = sa.Table(
    "vault_tokens",
    METADATA,
    sa.Column("token_id", sa.Text, primary_key=True),
    sa.Column("mac", sa.LargeBinary, nullable=False),
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), nullable=False, index=True),
    sa.Column("key_id", sa.Text, nullable=False),  # what it was asked for with: it ends with that
    sa.Column("scopes", _Json, nullable=False),
    sa.Column("access_tier", sa.Text, nullable=False),  # the highest that was approved
    sa.Column("max_uses", sa.Integer),
    sa.Column("uses", sa.Integer, nullable=False),
    sa.Column("ip_allowlist", _Json),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("revoked_at", sa.Double),
    _one_of("access_tier", "standard", "sensitive", "critical"),
    sa.CheckConstraint("uses >= 0 AND (max_uses IS NULL OR uses <= max_uses)", name="uses"),
)

# Tokens that were asked for and need somebody's consent first.
approvals = sa.Table(
    "approvals",
    METADATA,
    sa.Column("approval_id", sa.Text, primary_key=True),
    sa.Column("client_id", sa.ForeignKey("clients.client_id"), nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),  # what it was asked for with: with that alone can the token be had
    sa.Column("access_tier", sa.Text, nullable=False),
    sa.Column("wanted", _Json, nullable=False),  # the token, as it was asked for
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("approved_at", sa.Double),  # by the last one who was needed
    sa.Column("token_id", sa.Text),  # what it was redeemed for
    _one_of("access_tier", "sensitive", "critical"),
    _one_of("status", "pending", "approved", "denied", "redeemed"),
    sa.Index(None, "status", "created_at", "approval_id"),
)

approval_votes = sa.Table(
    "approval_votes",
    METADATA,
    sa.Column("approval_id", sa.ForeignKey("approvals.approval_id"), primary_key=True),
    sa.Column("operator_id", sa.ForeignKey("operators.operator_id"), primary_key=True),
    sa.Column("token_id", sa.ForeignKey("operator_tokens.token_id"), nullable=False),  # what it was said with
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    _one_of("decision", "approve", "deny"),
)

signing_keys = sa.Table(
    "signing_keys",
    METADATA,
    sa.Column("kid", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),  # the private key, sealed with the master key
    sa.Column("jwk", _Json, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("activated_at", sa.Double),
    sa.Column("retired_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    _one_of("state", "prepared", "active", "retired", "revoked"),
)
sa.Index(
    "uq_signing_keys_active",
    signing_keys.c.state,
    unique=True,
    sqlite_where=signing_keys.c.state == "active",
    postgresql_where=signing_keys.c.state == "active",
)

audit = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False, index=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("client_id", sa.Text),
    sa.Column("jti", sa.Text),
    sa.Column("text", sa.Text, nullable=False),  # what was hashed
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index(None, "action", "seq"),
    sa.Index(None, "decision", "seq"),
    sa.Index(None, "client_id", "seq"),
    sa.Index(None, "jti"),
)

checkpoints = sa.Table(
    "checkpoints",
    METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("jws", sa.Text, nullable=False),
)
