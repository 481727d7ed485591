"""What a sealed token is bound to: a record that is moved to another row does not open there."""

from __future__ import annotations

from tenancy.roots import Context


def token_context(token_id: str) -> Context:
    """Return what an enrollment token's sealed record is bound to."""
    return {"kaimon:use": "enrollment-token", "kaimon:id": token_id}


def api_key_context(key_id: str) -> Context:
    """Return what an API key's sealed record is bound to."""
    return {"kaimon:use": "api-key", "kaimon:id": key_id}


def credential_context(agent_id: str) -> Context:
    """Return what a host credential's sealed record is bound to."""
    return {"kaimon:use": "host-credential", "kaimon:id": agent_id}
