"""The control plane: tenants, tokens, credentials, leases, day states."""
