"""What is seen of the mesh: where its VMs are, what is said of them, and what is made of that.

`targets` and `exposition` are what the metrics server tells Prometheus, `scrape`, `rules` and `dashboard` what
Prometheus and Grafana are given. All pure but `server`, which runs in the cluster, and `in_time`, by which it asks:
so this package stands on little, and never on Pulumi.
"""
