"""Virtual machines in an Istio mesh, as one Pulumi stack: what the components stand on, and the console."""
