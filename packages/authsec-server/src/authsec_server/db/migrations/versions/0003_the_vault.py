"""The vault: secrets and their versions, tokens for them, approvals, and which client may do what there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_PATH = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_TIERS = "access_tier IN ('standard', 'sensitive', 'critical')"


def upgrade() -> None:
    """Only adds, so that servers of revision 0001 and 0002 can go on while theirs is replaced."""
    op.add_column("client_keys", sa.Column("created_by", sa.Text(), nullable=True))
    op.add_column("operator_tokens", sa.Column("created_by", sa.Text(), nullable=True))
    op.create_table(
        "vault_access",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("namespaces", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.client_id"], name=op.f("fk_vault_access_client_id")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_vault_access")),
    )
    op.create_table(
        "secrets",
        sa.Column("path", _PATH, nullable=False),
        sa.Column("secret_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("secret_type", sa.Text(), nullable=False),
        sa.Column("access_tier", sa.Text(), nullable=False),
        sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.CheckConstraint(_TIERS, name=op.f("ck_secrets_access_tier")),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_secrets")),
        sa.UniqueConstraint("secret_id", name=op.f("uq_secrets_secret_id")),
    )
    op.create_index(
        "ix_secrets_above_standard",
        "secrets",
        ["path"],
        unique=False,
        sqlite_where=sa.text("access_tier != 'standard'"),
        postgresql_where=sa.text("access_tier <> 'standard'"),
    )
    op.create_table(
        "secret_versions",
        sa.Column("path", _PATH, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("access_tier", sa.Text(), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint(_TIERS, name=op.f("ck_secret_versions_access_tier")),
        sa.ForeignKeyConstraint(["path"], ["secrets.path"], name=op.f("fk_secret_versions_path")),
        sa.PrimaryKeyConstraint("path", "version", name=op.f("pk_secret_versions")),
    )
    op.create_table(
        "vault_tokens",
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("access_tier", sa.Text(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("ip_allowlist", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.CheckConstraint(_TIERS, name=op.f("ck_vault_tokens_access_tier")),
        sa.CheckConstraint("uses >= 0 AND (max_uses IS NULL OR uses <= max_uses)", name=op.f("ck_vault_tokens_uses")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.client_id"], name=op.f("fk_vault_tokens_client_id")),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_vault_tokens")),
    )
    op.create_index(op.f("ix_vault_tokens_client_id"), "vault_tokens", ["client_id"], unique=False)
    op.create_index(op.f("ix_vault_tokens_expires_at"), "vault_tokens", ["expires_at"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("access_tier", sa.Text(), nullable=False),
        sa.Column("wanted", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("approved_at", sa.Double(), nullable=True),
        sa.Column("token_id", sa.Text(), nullable=True),
        sa.CheckConstraint("access_tier IN ('sensitive', 'critical')", name=op.f("ck_approvals_access_tier")),
        sa.CheckConstraint("status IN ('pending', 'approved', 'denied', 'redeemed')", name=op.f("ck_approvals_status")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.client_id"], name=op.f("fk_approvals_client_id")),
        sa.PrimaryKeyConstraint("approval_id", name=op.f("pk_approvals")),
    )
    op.create_index(op.f("ix_approvals_expires_at"), "approvals", ["expires_at"], unique=False)
    op.create_index(
        op.f("ix_approvals_status_created_at_approval_id"),
        "approvals",
        ["status", "created_at", "approval_id"],
        unique=False,
    )
    op.create_table(
        "approval_votes",
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("operator_id", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint("decision IN ('approve', 'deny')", name=op.f("ck_approval_votes_decision")),
        sa.ForeignKeyConstraint(["approval_id"], ["approvals.approval_id"], name=op.f("fk_approval_votes_approval_id")),
        sa.ForeignKeyConstraint(["operator_id"], ["operators.operator_id"], name=op.f("fk_approval_votes_operator_id")),
        sa.ForeignKeyConstraint(["token_id"], ["operator_tokens.token_id"], name=op.f("fk_approval_votes_token_id")),
        sa.PrimaryKeyConstraint("approval_id", "operator_id", name=op.f("pk_approval_votes")),
    )
