"""The main job, as a person does it: preview, up, look, change, destroy. The tests build on each other in order."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hybridmesh.ops.changes import readable
from lab.cluster import wait_for
from lab.machines import Machine
from lab.traffic import Answers, ask, in_pod, on_machine
from tests.e2e.machine import connections, running
from tests.e2e.mesh import ask_kubectl, kubectl, objects
from tests.e2e.processes import CommandLines
from tests.e2e.stack import PulumiError, Stack, console
from tests.environment import Lab

pytestmark = pytest.mark.lab

MACHINES = ("vm-1", "vm-2")
FILES = ("cluster.env", "mesh.yaml", "hosts", "root-cert.pem")
URL = "http://echo.demo.svc.cluster.local:8080/"
LISTING = (Path(__file__).parent / "machine_listing.sh").read_text()
TOKEN = "/var/run/secrets/tokens/istio-token"


def listing(machine: Machine) -> list[str]:
    return machine.ssh(["sh -s"], input_text=LISTING, timeout=120).splitlines()


def from_pod(lab: Lab, requests: int) -> Answers:
    return ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), URL, requests)


def from_machine(lab: Lab, name: str, requests: int) -> Answers:
    return ask(on_machine(lab.machine(name)), URL, requests)


@dataclass
class Joined:
    """What was seen while the stack was put up."""

    output: str
    command_lines: set[bytes]
    before: list[str]
    """Listing of vm-1 before."""
    connections: dict[str, int] = field(default_factory=dict)
    """SSH connections to each machine, by name."""


@pytest.fixture(scope="module")
def joined(lab: Lab, stack: Stack) -> Joined:
    """The stack, put up on an empty environment."""
    vm1 = lab.machine("vm-1")
    before = listing(vm1)
    count = connections(vm1)
    with CommandLines() as processes:
        output = stack.up()
    seen = Joined(output, processes.seen, before)
    seen.connections["vm-1"] = connections(vm1) - count
    # The machine was made in this run: `lab machine create` itself waits for a first login.
    seen.connections["vm-2"] = connections(lab.machine("vm-2")) - 1
    return seen


# ---------------------------------------------------------------------- before


def test_a_preview_on_an_empty_environment_shows_each_file_and_hides_only_what_is_unknown(stack: Stack) -> None:
    preview = stack.preview()
    vm1 = preview.split("::mesh-vm-1]")[-1].split("[urn=")[0]
    assert "+ hybridmesh:sidecar:Sidecar: (create)" in preview
    for line in ("ISTIO_META_CLUSTER_ID='embedded'", "SERVICE_ACCOUNT='echo'", "ISTIO_INBOUND_PORTS='8080'"):
        assert line in preview, f"cluster.env is not shown: {line}"
    assert re.search(r'discoveryAddress *: "istiod\.istio-system\.svc:15012"', preview)
    unknown = re.findall(r"^ +(\S+) *: \[unknown\]", preview, re.MULTILINE)
    assert "hosts" in unknown, vm1
    vm1_properties = re.search(r"Sidecar::mesh-vm-1\]\n(.*?)\n +\+ |\Z", preview, re.DOTALL)
    assert vm1_properties is not None
    hidden = set(re.findall(r"(\S+) *: \[unknown\]", vm1_properties.group(1)))
    assert hidden == {"hosts", "root-cert.pem"}


def test_a_preview_shows_no_secret_and_touches_nothing(lab: Lab, stack: Stack) -> None:
    count = connections(lab.machine("vm-1"))
    preview = stack.preview()
    assert "PRIVATE KEY" not in preview
    assert connections(lab.machine("vm-1")) == count
    assert "istio-system" not in kubectl(lab, "get", "namespaces", "-o", "name")


def test_a_wrong_value_stops_before_anything_is_touched_and_says_how_to_put_it_right(lab: Lab, stack: Stack) -> None:
    stack.change("routing.echo.weights", {"k8s": 90, "vm": 9})
    with pytest.raises(PulumiError) as refused:
        stack.up()
    stack.restore()
    message = str(refused.value)
    for part in ("routing.echo.weights", "99", "nothing was touched", "Istio would refuse", "Fix: "):
        assert part in message
    assert "Traceback" not in message
    # The engine writes down the stack itself, even of a program that refuses.
    assert {resource["type"] for resource in stack.resources()} <= {"pulumi:pulumi:Stack"}
    assert "istio-system" not in kubectl(lab, "get", "namespaces", "-o", "name")


# ---------------------------------------------------------------------- up


def test_every_machine_joins_with_at_most_three_connections(joined: Joined) -> None:
    assert set(joined.connections) == set(MACHINES)
    for name, count in joined.connections.items():
        assert 1 <= count <= 3, f"{name}: {count} SSH connections"


def test_up_ends_only_when_the_mesh_has_every_machine(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.output
    topology = stack.outputs()["topology"]
    assert set(topology["machines"]) == set(MACHINES)
    entries = objects(lab, "workloadentries")
    for name in MACHINES:
        machine = topology["machines"][name]
        assert machine["identity"] == "spiffe://cluster.local/ns/demo/sa/echo"
        assert machine["synced"] is True
        assert datetime.fromisoformat(machine["certificateExpiry"]) > datetime.now(UTC)
        entry = entries[machine["entry"].split("/")[1]]
        assert entry["spec"]["address"] == lab.machine(name).address
        assert entry["spec"]["serviceAccount"] == "echo"


def test_a_machine_s_first_probe_gives_envoy_the_time_to_start(lab: Lab, joined: Joined) -> None:
    assert joined.output
    for name in MACHINES:
        log = lab.machine(name).look(["cat", "/var/log/istio/istio.log"])
        assert "starting health check for health.AggregateProber in 1s" in log, name


def test_status_shows_every_machine_and_agrees_with_the_certificate_on_it(lab: Lab, joined: Joined) -> None:
    assert joined.output
    status = json.loads(console(lab, "status", "--stack", "dev", "--json").stdout)
    for machine in status["machines"]:
        assert machine["sync"] == "in sync"
        assert machine["healthy"] is True
        certificate = lab.machine(machine["name"]).ssh(
            [
                "openssl x509 -noout -ext subjectAltName -in /etc/certs/cert-chain.pem 2>/dev/null || "
                "curl -s localhost:15000/certs"
            ]
        )
        assert machine["identity"] in certificate
    text = console(lab, "status", "--stack", "dev").stdout
    for word in (*MACHINES, "in sync", "spiffe://cluster.local/ns/demo/sa/echo", "k8s 90 %, vm 10 %"):
        assert word in text


def test_the_token_is_in_no_state_output_log_command_line_or_open_file(lab: Lab, stack: Stack, joined: Joined) -> None:
    state = stack.state()
    for name in MACHINES:
        machine = lab.machine(name)
        assert machine.ssh([f"stat -c '%a %U' {TOKEN}"]).strip() == "600 istio-proxy"
        token = machine.ssh([f"cat {TOKEN}"]).strip()
        signature = token.rsplit(".", 1)[1]
        assert len(signature) > 100
        # As it is, and as it travels.
        for secret in (signature, stack.secret_inputs(name)):
            assert secret not in joined.output
            assert secret not in state
            assert not any(secret.encode() in line for line in joined.command_lines)
            for path, content in stack.kept():
                assert secret.encode() not in content, path
        folders = "/etc /var /run /tmp /home /root /usr/local"
        find = f"grep --files-with-matches --recursive --no-messages --file=- {folders} || true"
        holders = machine.ssh([find], input_text=signature).split()
        assert set(holders) <= {TOKEN.replace("/var/run", "/run"), TOKEN}
        as_nobody = machine.ssh(
            [f"setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{find}'"], input_text=signature
        )
        assert as_nobody == ""
        assert signature not in machine.ssh(["journalctl --no-pager"])
        assert machine.ssh(["stat -c %a /etc/certs/key.pem"]).strip() == "600"


def test_the_state_does_not_tell_where_the_program_lies(stack: Stack, joined: Joined) -> None:
    assert joined.output
    made = [resource for resource in stack.resources() if resource["type"] != "pulumi:pulumi:Stack"]
    assert len(made) > 7 * len(MACHINES)
    assert [resource["urn"] for resource in made if {"sourcePosition", "stackTrace"} & resource.keys()] == []


def test_a_second_up_changes_nothing_and_opens_no_connection(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.output
    before = {name: connections(lab.machine(name)) for name in MACHINES}
    assert stack.steps() == []
    output = stack.up()
    assert re.search(r"^ +\d+ unchanged$", output, re.MULTILINE), output
    assert not re.search(r"^ +[-+~].* \d+ (created|updated|deleted|replaced)$", output, re.MULTILINE), output
    assert {name: connections(lab.machine(name)) for name in MACHINES} == before


# ---------------------------------------------------------------------- traffic


def test_pods_and_machines_reach_each_other_by_the_services_name(lab: Lab, joined: Joined) -> None:
    assert joined.output
    answers = from_pod(lab, 200)
    assert answers.answered == 200, answers
    assert answers.by_platform["vm"] > 0
    assert answers.by_platform["kubernetes"] > 0
    for name in MACHINES:
        back = from_machine(lab, name, 50)
        assert back.answered == 50, back
        assert back.by_platform["kubernetes"] > 0


def test_calls_carry_the_callers_identity(lab: Lab, joined: Joined) -> None:
    assert joined.output
    callers = {"spiffe://cluster.local/ns/demo/sa/client": in_pod(lab.instance, lab.tools, "deploy/client", "demo")}
    callers["spiffe://cluster.local/ns/demo/sa/echo"] = on_machine(lab.machine("vm-1"))
    for identity, runner in callers.items():
        headers = json.loads(runner(["curl", "--silent", "--max-time", "10", URL]))["headers"]
        certificate = {key.lower(): value for key, value in headers.items()}["x-forwarded-client-cert"]
        assert f"URI={identity}" in certificate


def test_plain_text_is_refused_by_machines_and_pods(lab: Lab, joined: Joined) -> None:
    assert joined.output
    pod = json.loads(kubectl(lab, "get", "pods", "-n", "demo", "-l", "app=echo", "-o", "json"))["items"][0]
    addresses = [lab.machine(name).address for name in MACHINES] + [pod["status"]["podIP"]]
    for address in addresses:
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "5", f"http://{address}:8080/"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert done.returncode in (52, 56), f"{address}: {done.returncode} {done.stdout} {done.stderr}"
    outside = lab.machine("outside")
    outside.create(lab.tools)
    try:
        # The same address answers plain text where no sidecar stands before it: it is mTLS that refuses.
        assert outside.ssh([f"curl -s -o /dev/null -w '%{{http_code}}' http://{outside.address}:8080/"]) == "200"
    finally:
        outside.delete()


def test_a_tenth_of_a_thousand_requests_goes_to_the_machines(lab: Lab, joined: Joined) -> None:
    assert joined.output
    answers = from_pod(lab, 1000)
    assert answers.answered == 1000, answers
    # Four standard deviations of a binomial with n = 1000, p = 0.1: one run in 16,000 falls outside by chance.
    assert 62 <= answers.by_platform["vm"] <= 138, answers


# ---------------------------------------------------------------------- changes


def test_a_changed_weight_changes_the_route_alone_and_is_measured(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.output
    before = {name: connections(lab.machine(name)) for name in MACHINES}
    stack.change("routing.echo.weights", {"k8s": 50, "vm": 50})
    steps = stack.steps()
    assert {(step.operation, step.type) for step in steps} == {
        ("update", "hybridmesh:routing:Routing"),
        ("update", "kubernetes:networking.istio.io/v1:VirtualService"),
    }
    preview = stack.preview()
    assert re.search(r"~ weight *: 90 => 50", preview)
    assert re.search(r"~ weight *: 10 => 50", preview)
    stack.up()
    wait_for("the new weights", lambda: from_pod(lab, 100).by_platform["vm"] > 30, 20)
    answers = from_pod(lab, 1000)
    assert 437 <= answers.by_platform["vm"] <= 563, answers
    assert {name: connections(lab.machine(name)) for name in MACHINES} == before


def test_weights_of_nothing_and_all_work(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.output
    stack.change("routing.echo.weights", {"k8s": 0, "vm": 100})
    stack.up()
    wait_for("the new weights", lambda: from_pod(lab, 20).by_platform["kubernetes"] == 0, 20)
    answers = from_pod(lab, 200)
    assert answers.by_platform == {"vm": 200}
    assert set(answers.by_instance) == set(MACHINES)
    stack.restore()
    stack.up()


def test_a_changed_label_reaches_every_machine_and_shows_just_that(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.output
    before = {name: connections(lab.machine(name)) for name in MACHINES}
    stack.change("workloads.echo.labels", {"team": "shop"})
    steps = stack.steps()
    assert {step.operation for step in steps} == {"update"}
    sidecars = {step.name: step.changed for step in steps if step.type == "hybridmesh:sidecar:Sidecar"}
    assert set(sidecars) == {f"mesh-{name}" for name in MACHINES}
    preview = stack.preview()
    assert '+ ISTIO_METAJSON_LABELS=\'{"app":"echo"' in preview
    assert not re.search(r"[~+-] hosts ", preview)
    stack.up()
    entries = objects(lab, "workloadentries")
    assert len(entries) == 2
    for entry in entries.values():
        assert entry["spec"]["labels"]["team"] == "shop"
    for name in MACHINES:
        assert 1 <= connections(lab.machine(name)) - before[name] <= 3
    assert from_pod(lab, 100).answered == 100
    stack.restore()
    stack.up()


def test_a_machine_that_fell_out_is_seen_by_kubernetes_and_healed_by_up(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.output
    machine = lab.machine("vm-1")
    entry = stack.outputs()["topology"]["machines"]["vm-1"]["entry"].split("/")[1]
    machine.ssh(["systemctl stop istio"])
    wait_for("the entry to go", lambda: entry not in objects(lab, "workloadentries"), 120)
    count = connections(machine)
    changed = {step.name for step in stack.steps()}
    assert "mesh-vm-1-token" in changed
    assert not any("vm-2" in name for name in changed)
    assert connections(machine) == count
    stack.up()
    assert entry in objects(lab, "workloadentries")
    assert stack.steps() == []


def test_a_machine_that_serves_and_was_lost_sight_of_is_in_again_with_nothing_restarted(
    lab: Lab, stack: Stack, joined: Joined
) -> None:
    assert joined.output
    machine = lab.machine("vm-1")
    namespace, entry = stack.outputs()["topology"]["machines"]["vm-1"]["entry"].split("/")
    before = running(machine)
    kubectl(lab, "delete", "workloadentry", entry, "-n", namespace)
    assert "it joins anew, having been out or put back" in "\n".join(readable(stack.plan()))
    stack.up()
    assert entry in objects(lab, "workloadentries")
    after = running(machine)
    assert (after.agent, after.envoy) == (before.agent, before.envoy)
    assert 1 <= after.connections - before.connections <= 3
    assert stack.steps() == []


def test_a_machine_that_shows_another_host_key_is_not_talked_to(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.output
    logins = lab.machine("vm-1").look(["journalctl", "--unit=ssh", "--no-pager", "--output=cat"]).count("Accepted ")
    stack.change("workloads.echo.machines.hosts.vm-1.ssh.hostKey", lab.machine("vm-2").host_key)
    stack.change("workloads.echo.labels", {"team": "shop"})
    with pytest.raises(PulumiError) as refused:
        stack.up()
    assert "mesh-vm-1-preflight" in str(refused.value)
    assert "host key" in str(refused.value) or "knownhosts" in str(refused.value)
    after = lab.machine("vm-1").look(["journalctl", "--unit=ssh", "--no-pager", "--output=cat"]).count("Accepted ")
    assert after == logins
    stack.restore()
    stack.up()
    assert stack.steps() == []


def test_machines_of_another_network_go_through_the_gateway(lab: Lab, stack: Stack, joined: Joined) -> None:
    assert joined.output

    def endpoints() -> dict[str, int]:
        """How many requests the proxy of vm-1 has sent to each endpoint of echo's pods."""
        clusters = lab.machine("vm-1").ssh(["curl -s localhost:15000/clusters"])
        pattern = r"^outbound\|8080\|k8s\|echo\.demo\.svc\.cluster\.local::(\S+)::rq_total::(\d+)$"
        return {address: int(count) for address, count in re.findall(pattern, clusters, re.MULTILINE)}

    gateway = stack.outputs()["topology"]["gateway"]["address"] + ":15443"
    from_machine(lab, "vm-1", 50)
    assert endpoints()
    assert gateway not in endpoints()
    stack.change("networks.machines", {"direct": True})
    stack.change("workloads.echo.network", "machines")
    stack.change("routing.echo.weights", {"k8s": 100, "vm": 0})
    stack.up()
    wait_for(
        "the entries of the old network to go",
        lambda: [e["spec"]["network"] for e in objects(lab, "workloadentries").values()] == ["machines", "machines"],
        60,
    )
    answers = from_machine(lab, "vm-1", 50)
    assert answers.by_platform == {"kubernetes": 50}, answers
    assert set(endpoints()) == {gateway}
    assert endpoints()[gateway] >= 50
    stack.restore()
    stack.up()


# ---------------------------------------------------------------------- teardown


def test_destroy_leaves_machine_and_cluster_without_a_trace_and_up_works_again(
    lab: Lab, stack: Stack, joined: Joined
) -> None:
    stack.destroy()
    after = listing(lab.machine("vm-1"))
    assert [line for line in after if line not in set(joined.before)] == []
    assert [line for line in joined.before if line not in set(after)] == []
    assert not lab.machine("vm-2").exists
    namespaces = kubectl(lab, "get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").split()
    assert sorted(namespaces) == ["default", "kube-node-lease", "kube-public", "kube-system"]
    kinds = kubectl(lab, "api-resources", "--verbs=list", "-o", "name").split()
    for kind in kinds:
        found = ask_kubectl(lab, "get", kind, "-A", "-o", "name").stdout.splitlines()
        assert not [name for name in found if "istio" in name or "echo" in name], kind
    assert "istio.io" not in kubectl(lab, "get", "customresourcedefinitions", "-o", "name")
    stack.up()
    assert from_pod(lab, 50).answered == 50
