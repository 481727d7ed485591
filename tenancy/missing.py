"""What is not a tenant's own is not there for it."""

from __future__ import annotations


class MissingError(ValueError):
    """The tenant has nothing of that id, whether or not another tenant has."""
