"""Run migrations on the connection that `migrate` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from authsec_server.db.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
