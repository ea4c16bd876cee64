"""What `make bench` measures; results go to docs/benchmarks.md."""
