"""What ours is compared with: an Ansible playbook, and the bare floor."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.site import Site
from lab.instance import PROJECT_ROOT
from lab.machines import Machine

HERE = PROJECT_ROOT / "bench"
LIMIT_SECONDS = 1500


def _run(command: Sequence[str], env: Mapping[str, str], stdin: str = "") -> None:
    done = subprocess.run(
        command, input=stdin, env=dict(env), capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def playbook(site: Site, machines: Sequence[Machine]) -> None:
    """The article's steps by istioctl and Ansible, all machines at once."""
    folder = _fresh(site, "playbook")
    ssh = site.lab.instance.folder / "ssh" / "config"
    lines = [f"{machine.name} ansible_host={machine.address}" for machine in machines]
    values = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": f"'-F {ssh}'",
        "work": str(folder),
        "gateway": site.gateway,
        "package_url": site.mirror("url"),
        "package_sha256": site.mirror("sha256"),
    }
    inventory = folder / "inventory"
    inventory.write_text("\n".join(["[vms]", *lines, "[vms:vars]", *(f"{k}={v}" for k, v in values.items()), ""]))
    env = {**site.lab.env, "ANSIBLE_CONFIG": str(HERE / "playbook" / "ansible.cfg"), "ANSIBLE_HOME": str(folder)}
    command = ["ansible-playbook", "--inventory", str(inventory), f"--forks={len(machines)}"]
    _run([*command, str(HERE / "playbook" / "join.yml")], env)


def floor(site: Site, machines: Sequence[Machine]) -> None:
    """The least that joins a machine, all machines at once."""
    folder = _fresh(site, "floor")
    files = folder / "files"
    configure = ["istioctl", "x", "workload", "entry", "configure", "--name=echo", "--namespace=demo"]
    more = [f"--output={files}", "--clusterID=embedded", "--autoregister", f"--ingressIP={site.gateway}"]
    _run([*configure, *more], site.lab.env)
    package = site.lab.instance.folder / "mirror" / "files" / "istio-sidecar.deb"
    ssh = site.lab.instance.folder / "ssh" / "config"
    each = ["xargs", "-P", str(len(machines)), "-n", "1", "sh", str(HERE / "floor.sh"), str(ssh), str(package)]
    _run([*each, str(files)], os.environ, "\n".join(machine.name for machine in machines))


def _fresh(site: Site, name: str) -> Path:
    folder = site.lab.instance.folder / "bench" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
