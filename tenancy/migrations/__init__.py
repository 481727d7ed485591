"""The control database's history."""
