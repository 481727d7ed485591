"""Landing: from staged segments to tables, each batch exactly once whatever dies on the way."""

from pipelines.landing.land import Landed, RepairError, land_tenant, pending_tenants

__all__ = ["Landed", "RepairError", "land_tenant", "pending_tenants"]
