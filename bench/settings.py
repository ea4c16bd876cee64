"""Settings of a stack with many VMs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from lab.instance import PROJECT_ROOT

KEY_FILE = ".lab/dev/ssh/id_ed25519"


def host(address: str, host_key: str) -> dict[str, Any]:
    """A machine that exists."""
    return {"ssh": {"address": address, "hostKey": host_key, "privateKeyFile": KEY_FILE}}


def document(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The committed dev stack, with other VMs; without any, the workload has its pods alone."""
    content: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "Pulumi.dev.yaml").read_text())
    config = content["config"]
    config["hybrid-mesh:workloads"]["echo"]["machines"]["hosts"] = dict(hosts)
    return content


def made_up(count: int) -> dict[str, dict[str, Any]]:
    """Machines that nobody reaches."""
    return {
        f"vm-{number:05d}": host(
            f"10.{1 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}", "ssh-ed25519 AAAA"
        )
        for number in range(count)
    }
