package agent

// Version of the agent: pyproject.toml's, put in by script/build-agent.
var Version = "0.0.0-unstamped"
