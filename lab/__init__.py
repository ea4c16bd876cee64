"""The embedded environment: a real cluster and real machines on one host."""
