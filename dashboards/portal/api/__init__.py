"""The portal's API: what its pages show and do, for a tenant's programs."""
