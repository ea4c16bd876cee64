"""The verbs of the console: what people run by hand. None but `recover` changes a cluster or a VM, and it asks."""
