"""Schemas, table layout, storage, commits and reads: the only code that touches object storage."""
