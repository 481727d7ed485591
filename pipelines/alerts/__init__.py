"""Alerts: what is wrong, found by sensors and told by mail and webhook."""
