"""Dagster definitions and the pure Polars functions that they call."""
