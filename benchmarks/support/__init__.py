"""What the benchmarks are made of; not run by itself."""
