"""The verbs of the console: what people run by hand. None changes a cluster or a VM."""
