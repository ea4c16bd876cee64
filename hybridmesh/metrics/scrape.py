"""What Prometheus is told to scrape: the same jobs as a prometheus.yml, and as ScrapeConfigs for the operator.

All targets come from the metrics server, or are the server itself: so Prometheus needs no rights in Kubernetes, and no
service discovery but that by HTTP, which every build of it has (Debian's, for one, has no other).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SERVER = "hybrid-mesh-metrics"
"""What the metrics server is called in the cluster; its label `app`, too."""
PROMETHEUS = "hybrid-mesh-prometheus"
"""The same of a Prometheus of the stack's own."""
PROMETHEUS_PORT = 9090
"""Where that answers."""
RULES_FILE = "hybrid-mesh.rules.yml"
_LEAST_REFRESH = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One scrape job."""

    name: str
    targets_at: str | None = None
    """Where its targets come from."""
    targets: Sequence[str] = ()
    """Targets that are always there."""
    own_labels: bool = False
    """Whether a target's own labels count where they are named as those of its discovery."""


def jobs(server: str) -> list[Job]:
    """VMs, pods, and the metrics server itself, which is at `server`, a `host:port`."""
    return [
        Job(name="hybrid-mesh-vms", targets_at=f"http://{server}/targets"),
        Job(name="hybrid-mesh-pods", targets_at=f"http://{server}/pods"),
        Job(name="hybrid-mesh-server", targets=(server,), own_labels=True),
    ]


def agent_jobs(server: str, network: str) -> list[Job]:
    """What an agent scrapes in its network."""
    return [Job(name="hybrid-mesh-vms", targets_at=f"http://{server}/targets?network={network}")]


def prometheus_config(server: str, seconds: int) -> dict[str, Any]:
    """A whole prometheus.yml; its rules lie beside it."""
    return {
        "global": {**_global(seconds), "evaluation_interval": f"{seconds}s"},
        "rule_files": [RULES_FILE],
        "scrape_configs": [_scrape_config(job, seconds) for job in jobs(server)],
    }


def agent_config(server: str, network: str, write_to: str, seconds: int) -> dict[str, Any]:
    """The prometheus.yml of an agent."""
    return {
        "global": _global(seconds),
        "scrape_configs": [_scrape_config(job, seconds) for job in agent_jobs(server, network)],
        "remote_write": [{"url": write_to}],
    }


def scrape_config_spec(job: Job, seconds: int) -> dict[str, Any]:
    """A job as the spec of the operator's ScrapeConfig (monitoring.coreos.com/v1alpha1)."""
    times = _global(seconds)
    spec: dict[str, Any] = {"scrapeInterval": times["scrape_interval"], "scrapeTimeout": times["scrape_timeout"]}
    if job.own_labels:
        spec["honorLabels"] = True
    if job.targets_at is not None:
        spec["httpSDConfigs"] = [{"url": job.targets_at, "refreshInterval": _refresh(seconds)}]
    if job.targets:
        spec["staticConfigs"] = [{"targets": list(job.targets)}]
    # The operator names a job after its object, and the rules go by the name.
    spec["relabelings"] = [{"targetLabel": "job", "replacement": job.name}]
    return spec


def _scrape_config(job: Job, seconds: int) -> dict[str, Any]:
    config: dict[str, Any] = {"job_name": job.name}
    if job.own_labels:
        config["honor_labels"] = True
    if job.targets_at is not None:
        config["http_sd_configs"] = [{"url": job.targets_at, "refresh_interval": _refresh(seconds)}]
    if job.targets:
        config["static_configs"] = [{"targets": list(job.targets)}]
    return config


def _global(seconds: int) -> dict[str, str]:
    return {"scrape_interval": f"{seconds}s", "scrape_timeout": f"{min(seconds, 10)}s"}


def _refresh(seconds: int) -> str:
    return f"{min(seconds, _LEAST_REFRESH)}s"
