"""What Alembic runs: the migrations, on the connection and in the transaction that `tenancy.migrate` holds."""

from __future__ import annotations

import logging

from alembic import context

from tenancy.tables import SCHEMA

logging.getLogger("alembic").setLevel(logging.WARNING)
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SCHEMA,
    # The caller's BEGIN IMMEDIATE makes SQLite's DDL transactional too.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
