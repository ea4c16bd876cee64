"""A fleet on the tests' environment: what the component registers, and machines that boot by its template."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import pulumi
import yaml

from components.gce_fleet import GceFleet, GceFleetArgs
from components.gce_instance import GceInstance, GceInstanceArgs
from components.gce_machine import GcePlace
from components.proxy_choices import SidecarLimits, SidecarPackage
from components.self_join import ApiServer, SelfJoinArgs
from lab import toolchain
from lab.cloud import PROJECT, Template
from lab.cluster import wait_for
from lab.machines import Machine
from tests.components.harness import World, run
from tests.e2e.mesh import ask_kubectl, kubectl, objects
from tests.environment import Lab


@dataclass(frozen=True)
class Fleet:
    """A fleet of the demo app, beside the stack's own VMs and in the same WorkloadGroup."""

    called: ClassVar[str] = "echo-fleet"
    described_by: ClassVar[str] = "template"
    """The resource that says what its machines are."""

    lab: Lab
    gateway: str
    """Where the east-west gateway is."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """More variables of the agents."""
    surge: int = 3
    """How many machines more there are in an update."""

    @cached_property
    def tools(self) -> toolchain.Toolset:
        return toolchain.build(["cloud-root"])

    @cached_property
    def world(self) -> World:
        """What the component registers for Google Cloud and Kubernetes, told of the mesh that is there."""
        kubeconfig = yaml.safe_load(self.lab.kubeconfig.read_text())
        server = kubeconfig["clusters"][0]["cluster"]
        mirror = self.lab.instance.folder / "mirror"
        join = SelfJoinArgs(
            machines=self.called,
            api_server=ApiServer(
                url=server["server"],
                certificate_authorities=base64.b64decode(server["certificate-authority-data"]).decode(),
            ),
            cluster_name="embedded",
            istio_namespace="istio-system",
            revision="default",
            mesh_config=self._config_map("istio-system", "istio")["mesh"],
            root_certificate=self._config_map("demo", "istio-ca-root-cert")["root-cert.pem"],
            gateway_address=self.gateway,
            group=objects(self.lab, "workloadgroups")["echo"],
            service_account="echo",
            identity="spiffe://cluster.local/ns/demo/sa/echo",
            package=SidecarPackage(
                url=(mirror / "url").read_text(),
                sha256=(mirror / "sha256").read_text(),
                version=(mirror / "version").read_text(),
            ),
            # With a locality, which clients here have not, its machines would be everyone's second choice.
            environment={"CLOUD_PLATFORM": "none", **self.environment},
            app_units=["echo.service"],
            token_seconds=600,
            limits=SidecarLimits(ready=40),
        )
        place = GcePlace(project=PROJECT, region="europe-west3", network="lab", subnetwork="lab")
        account = f"{self.called}@{PROJECT}.iam.gserviceaccount.com"
        answers = {f"{self.called}-account": {"email": account, "uniqueId": "1"}}
        return run(lambda: self._register(place, join), answers=answers)

    def _register(self, place: GcePlace, join: SelfJoinArgs) -> pulumi.Output[str]:
        args = GceFleetArgs(fleet=self.called, place=place, join=join, max_surge=self.surge)
        return GceFleet(self.called, args).service_account

    @cached_property
    def template(self) -> Template:
        """What an instance sees of what the component registers of it."""
        registered = self.world.one(f"{self.called}-{self.described_by}")
        account = registered.value("serviceAccount")
        return Template(registered.value("metadata"), account["email"], tuple(account["scopes"]))

    def rights(self) -> list[dict[str, Any]]:
        """The Kubernetes objects that the component registers."""
        return [self.world.one(f"{self.called}-{role}").plain for role in ("role", "role-binding")]

    def allow(self) -> None:
        """What `up` would do in the cluster."""
        for document in self.rights():
            done = ask_kubectl(self.lab, "apply", "-f", "-", document=document)
            assert done.returncode == 0, done.stderr

    @contextmanager
    def allowed(self) -> Iterator[Self]:
        """For as long as it is open, the cluster lets its machines in."""
        self.allow()
        yield self
        for document in self.rights():
            ask_kubectl(self.lab, "delete", "--ignore-not-found", "-f", "-", document=document)

    def machine(self, name: str) -> Machine:
        return self.lab.machine(f"{self.called}-{name}" if name else self.called)

    def add(self, name: str = "", template: Template | None = None) -> Machine:
        """What the instance group does when it grows: a machine boots by the template. With no name, the only one."""
        machine = self.machine(name)
        machine.create(self.tools, template=template or self.template)
        return machine

    def remove(self, machine: Machine) -> None:
        """What it does when it shrinks: the machine is asked to shut down, and is gone."""
        machine.stop()
        machine.delete()

    def resize(self, add: Collection[str] = (), remove: Collection[Machine] = ()) -> list[Machine]:
        """Both, of several at once, as the group does it."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            gone = [pool.submit(self.remove, machine) for machine in remove]
            made = [pool.submit(self.add, name) for name in add]
            for each in gone:
                each.result()
            return [each.result() for each in made]

    def roll(self, old: Sequence[Machine], names: Sequence[str]) -> list[Machine]:
        """What the group does once it has this fleet's template: by the update policy and health check that the
        component registers, which see no more of a machine than 15021. `names`: of the machines that take their places.
        """
        policy = self.world.one("echo-fleet-group").value("updatePolicy")
        check = self.world.one("echo-fleet-health").value("httpHealthCheck")
        assert (policy["type"], policy["minimalAction"]) == ("PROACTIVE", "REPLACE")
        assert (policy["replacementMethod"], policy["maxUnavailableFixed"]) == ("SUBSTITUTE", 0)
        surge, made = int(policy["maxSurgeFixed"]), list[Machine]()
        for begin in range(0, len(names), surge):
            new = self.resize(add=names[begin : begin + surge])
            for machine in new:
                url = f"http://{machine.address}:{int(check['port'])}{check['requestPath']}"
                wait_for(f"{machine.name} to be healthy", partial(answers, url), 90)
            time.sleep(policy["minReadySec"])
            self.resize(remove=old[begin : begin + surge])
            made += new
        return made

    def members(self) -> set[str]:
        """Addresses of whoever is in: connected, and healthy."""
        return {
            entry["spec"]["address"]
            for entry in objects(self.lab, "workloadentries").values()
            if "istio.io/disconnectedAt" not in (entry["metadata"].get("annotations") or {})
            and {"Healthy": "True"}.items()
            <= {c["type"]: c["status"] for c in entry.get("status", {}).get("conditions", [])}.items()
        }

    def wait_for_members(self, machines: Collection[Machine], seconds: float = 90) -> None:
        """Until of all machines of fleets these are in, and no other."""
        wanted = {machine.address for machine in machines}
        stack = {self.lab.machine(name).address for name in ("vm-1", "vm-2")}
        wait_for(f"{[m.name for m in machines]} to be in", lambda: self.members() - stack == wanted, seconds)

    def _config_map(self, namespace: str, name: str) -> dict[str, str]:
        answer = json.loads(kubectl(self.lab, "get", "configmap", name, "-n", namespace, "-o", "json"))
        data: dict[str, str] = answer["data"]
        return data


@dataclass(frozen=True)
class Alone(Fleet):
    """One machine that joins by itself, and that is no group's."""

    called: ClassVar[str] = "echo-alone"
    described_by: ClassVar[str] = "instance"

    def _register(self, place: GcePlace, join: SelfJoinArgs) -> pulumi.Output[str]:
        args = GceInstanceArgs(
            instance=self.called,
            place=place,
            zone=f"{place.region}-a",
            gateway_address=self.gateway,
            join=join,
        )
        return GceInstance(self.called, args).service_account


def answers(url: str) -> bool:
    """Whether a health check would be content."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Members:
    """How many of fleets' machines are in, looked at again and again for as long as it is open."""

    def __init__(self, fleet: Fleet) -> None:
        self.fewest = sys.maxsize
        self._fleet, self._over = fleet, threading.Event()
        self._stack = {fleet.lab.machine(name).address for name in ("vm-1", "vm-2")}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(1):
            self.fewest = min(self.fewest, len(self._fleet.members() - self._stack))

    def __enter__(self) -> Members:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
