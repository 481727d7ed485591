"""The whole product on one machine: what `script/demo` and `script/server` run."""
