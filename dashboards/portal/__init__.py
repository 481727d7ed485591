"""The customer portal: what a tenant's people see of it and may do."""
