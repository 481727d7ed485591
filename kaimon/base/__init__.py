"""What every part needs and nothing more: logs, redaction, clock, problem+json, build info."""
