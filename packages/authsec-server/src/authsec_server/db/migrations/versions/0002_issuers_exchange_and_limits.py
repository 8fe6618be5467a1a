"""Issuers that others run, exchanged tokens, public keys of agents, single use, and limits that replicas share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Only adds, so that servers of revision 0001 can go on while theirs is replaced."""
    op.add_column("server", sa.Column("floor", sa.Text(), nullable=False, server_default="0001"))
    with op.batch_alter_table("client_keys") as batch:
        batch.alter_column("mac", existing_type=sa.LargeBinary(), nullable=True)
        batch.add_column(sa.Column("jwk", sa.JSON(none_as_null=True), nullable=True))
        batch.create_check_constraint(op.f("ck_client_keys_one_kind"), "(mac IS NULL) <> (jwk IS NULL)")
    op.add_column("tokens", sa.Column("subject", sa.Text(), nullable=True))
    op.add_column("tokens", sa.Column("parent", sa.Text(), nullable=True))
    op.add_column("tokens", sa.Column("depth", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_tokens_parent"), "tokens", ["parent"], unique=False)
    op.create_table(
        "issuers",
        sa.Column("issuer_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("jwks_url", sa.Text(), nullable=True),
        sa.Column("jwks", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("claims", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint("(jwks_url IS NULL) <> (jwks IS NULL)", name=op.f("ck_issuers_one_source")),
        sa.CheckConstraint("kind IN ('kubernetes', 'spiffe', 'oidc', 'users')", name=op.f("ck_issuers_kind")),
        sa.PrimaryKeyConstraint("issuer_id", name=op.f("pk_issuers")),
        sa.UniqueConstraint("name", name=op.f("uq_issuers_name")),
    )
    op.create_index(op.f("ix_issuers_created_at_issuer_id"), "issuers", ["created_at", "issuer_id"], unique=False)
    op.create_table(
        "used_marks",
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_used_marks")),
    )
    op.create_index(op.f("ix_used_marks_expires_at"), "used_marks", ["expires_at"], unique=False)
    op.create_table(
        "rate_limits",
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("full_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("pk_rate_limits")),
    )
    op.create_index(op.f("ix_rate_limits_full_at"), "rate_limits", ["full_at"], unique=False)
