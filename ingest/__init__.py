"""Authenticate a batch, check it, stage it durably, answer."""
