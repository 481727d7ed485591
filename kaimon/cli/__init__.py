"""The `kaimon` command line."""
