"""Every rule, broken once: what is said, and that nothing but it is found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from hybridmesh.settings import Finding, SettingsError, parse
from tests.components.harness import dev_sections, read_file

Change = Callable[[dict[str, Any]], object]


def findings(*changes: Change) -> list[Finding]:
    """What is found in the dev stack after changes."""
    sections = dev_sections()
    for change in changes:
        change(sections)
    try:
        parse(sections, read_file)
    except SettingsError as error:
        return list(error.findings)
    return []


def at(path: str, value: Any) -> Change:
    """Sets one value, or with `...` removes it."""

    def change(sections: dict[str, Any]) -> None:
        *places, last = path.split("/")
        holder: Any = sections
        for place in places:
            holder = holder[int(place)] if isinstance(holder, list) else holder.setdefault(place, {})
        if value is ...:
            del holder[last]
        else:
            holder[int(last) if isinstance(holder, list) else last] = value

    return change


def both(first: Change, then: Change) -> Change:
    def change(sections: dict[str, Any]) -> None:
        first(sections)
        then(sections)

    return change


ECHO = "workloads/echo"
VM_1 = f"{ECHO}/machines/hosts/vm-1"
VM_2 = f"{ECHO}/machines/hosts/vm-2"
KEY = "privateKeyFile"


def two_entries(sections: dict[str, Any]) -> None:
    workloads = sections["workloads"]
    workloads["echo-eu"] = copy.deepcopy(workloads["echo"])
    for workload, machine in (("echo", "eu-vm1"), ("echo-eu", "vm1")):
        machines = workloads[workload]["machines"]
        machines["registration"] = "static"
        machines["hosts"] = {machine: machines["hosts"]["vm-1" if workload == "echo" else "vm-2"]}


def behind_two_bastions(sections: dict[str, Any]) -> None:
    hosts = sections["workloads"]["echo"]["machines"]["hosts"]
    hosts["vm-3"] = copy.deepcopy(hosts["vm-1"])
    for name, bastion in (("vm-1", "203.0.113.5"), ("vm-3", "203.0.113.9")):
        hosts[name]["ssh"]["bastion"] = {"address": bastion, "hostKey": hosts[name]["ssh"]["hostKey"]}
        hosts[name]["meshAddress"] = f"198.51.100.{bastion[-1]}"


IN_ISTIO = {"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}}
INJECTED = {"matchExpressions": [{"key": "istio-injection", "operator": "Exists"}]}
REGISTERS = "PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION"
# What is changed, where the finding is, and a word of the problem.
RULES: list[tuple[str, Change, str, str]] = [
    ("a gateway's name is none for Helm", at("gateway/name", "g" * 54), "gateway.name", "is too long"),
    (
        "a revision's name is none for Helm",
        at("controlPlane/revision", "r" * 47),
        "controlPlane.revision",
        "its Helm release would be `istiod-r",
    ),
    (
        "a second revision's name is none for Helm",
        at("controlPlane/revisions", {"r" * 47: {}}),
        f"controlPlane.revisions.{'r' * 47}",
        "its Helm release would be `istiod-r",
    ),
    ("a section is missing", at("cluster", ...), "cluster", "is missing"),
    ("a section is misspelt", at("gatway", {}), "gatway", "is not a setting"),
    ("a field is missing", at("cluster/name", ...), "cluster.name", "is missing"),
    ("a field is misspelt", at("cluster/netwrk", "x"), "cluster.netwrk", "is not a setting"),
    ("a name is no label", at("cluster/network", "Embedded"), "cluster.network", "RFC 1123"),
    ("a cluster id has a blank", at("cluster/name", "my cluster"), "cluster.name", "a cluster id"),
    ("a name is too long", at("cluster/network", "n" * 64), "cluster.network", "RFC 1123"),
    ("a name ends in a dash", at("cluster/network", "n-"), "cluster.network", "RFC 1123"),
    ("a name has a newline", at("cluster/network", "n\n"), "cluster.network", "RFC 1123"),
    ("the kubeconfig is not there", at("cluster/kubeconfig", "gone"), "cluster.kubeconfig", "cannot read"),
    ("the kubeconfig is empty", at("cluster/kubeconfig", " "), "cluster.kubeconfig", "is empty"),
    ("the mode is unknown", at("controlPlane/mode", "upgrade"), "controlPlane.mode", "'install' or 'adopt'"),
    ("the version is a number", at("controlPlane/version", 1.31), "controlPlane.version", "valid string"),
    ("the version is not whole", at("controlPlane/version", "1.31"), "controlPlane.version", "full version"),
    ("charts are missing", at("controlPlane/charts", ...), "controlPlane.charts", "controlPlane.mode"),
    ("charts are nowhere", at("controlPlane/charts", {}), "controlPlane.charts", "exactly one of"),
    (
        "charts are in two places",
        at("controlPlane/charts/repository", "https://charts.example.com"),
        "controlPlane.charts",
        "exactly one of",
    ),
    (
        "charts of another istiod are nowhere",
        at("controlPlane/revisions", {"canary": {"charts": {}}}),
        "controlPlane.revisions.canary.charts",
        "exactly one of",
    ),
    (
        "a value is the stack's own",
        at("controlPlane/values/global/network", "other"),
        "controlPlane.values.global.network",
        "`cluster.network`",
    ),
    *(
        (
            f"the value {value} is the stack's own",
            at(f"controlPlane/values/{value}", "other"),
            f"controlPlane.values.{value.replace('/', '.')}",
            f"is set by `{instead}`",
        )
        for value, instead in (
            ("revision", "controlPlane.revision"),
            ("global/istioNamespace", "controlPlane.namespace"),
            ("global/meshID", "controlPlane.meshId"),
            ("global/multiCluster/clusterName", "cluster.name"),
            ("global/proxy/clusterDomain", "cluster.domain"),
            ("meshConfig/trustDomain", "controlPlane.trustDomain"),
            ("meshConfig/rootNamespace", "controlPlane.namespace"),
        )
    ),
    *(
        (
            f"istiod's {value} leaves VMs without what they need",
            at(f"controlPlane/values/{value}", said),
            f"controlPlane.values.{value.replace('/', '.')}",
            problem,
        )
        for value, said, problem in (
            ("env/ENABLE_CA_SERVER", "false", "makes an istiod that signs no certificates"),
            ("env/PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION", False, "registers no VM"),
            ("env/PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS", "0", "hears of no VM's health"),
            ("env/ENABLE_DEBUG_ON_HTTP", "false", "tells nobody whether VMs are in sync"),
            (
                "env/PILOT_WORKLOAD_ENTRY_GRACE_PERIOD",
                "1m",
                "makes an istiod that takes a VM out of rotation 60 s after it has let go, and not 15",
            ),
            (
                "meshConfig/defaultConfig/discoveryAddress",
                "istiod.mesh.svc:15012",
                "makes a mesh config that sends proxies to istiod.mesh.svc:15012, a name that leads nowhere on a VM",
            ),
            ("meshConfig/proxyListenPort", 15101, "has proxies take what goes out at port 15101"),
            ("meshConfig/proxyInboundListenPort", 15106, "has proxies take what comes in at port 15106"),
            ("meshConfig/enableAutoMtls", False, "has callers speak mTLS only where a DestinationRule says so"),
        )
    ),
    (
        "a second istiod registers no VM",
        at("controlPlane/revisions", {"next": {"values": {"env": {REGISTERS: "false"}}}}),
        f"controlPlane.revisions.next.values.env.{REGISTERS}",
        "registers no VM",
    ),
    (
        "VMs of a second istiod are sent to the first",
        both(
            at("controlPlane/revisions", {"next": {}}),
            at("controlPlane/values/meshConfig/defaultConfig/discoveryAddress", "istiod.istio-system.svc:15012"),
        ),
        "controlPlane.values.meshConfig.defaultConfig.discoveryAddress",
        "there istiod is istiod-next.istio-system.svc",
    ),
    *(
        (f"{path} is {name}", at(path.replace(".", "/"), name), path, "is there in every cluster")
        for path, name in (
            ("workloads.client.namespace", "default"),
            ("workloads.client.namespace", "kube-system"),
            ("controlPlane.namespace", "kube-system"),
        )
    ),
    (
        "metrics are in a namespace that is there",
        at("observability", {"image": "x", "namespace": "default", "scrapers": ["10.0.0.0/8"]}),
        "observability.namespace",
        "is there in every cluster",
    ),
    (
        "a service account that is there",
        at("workloads/client/serviceAccount", "default"),
        "workloads.client.serviceAccount",
        "is there in every namespace",
    ),
    (
        "istiod does not look at a namespace of the stack's",
        at("controlPlane/values/meshConfig/discoverySelectors", [IN_ISTIO]),
        "controlPlane.values.meshConfig.discoverySelectors",
        "selects no namespace demo",
    ),
    (
        "a second istiod does not look at its own namespace",
        at("controlPlane/revisions", {"next": {"values": {"meshConfig": {"discoverySelectors": [INJECTED]}}}}),
        "controlPlane.revisions.next.values.meshConfig.discoverySelectors",
        "selects no namespace istio-system",
    ),
    (
        "an adopted mesh has values",
        at("controlPlane", {"mode": "adopt", "version": "1.31.0", "charts": {"path": "x"}, "values": {"a": 1}}),
        "controlPlane.values",
        "is not used",
    ),
    (
        "the gateway has no chart",
        at("controlPlane", {"mode": "adopt", "version": "1.31.0"}),
        "controlPlane.charts",
        "gateway.mode",
    ),
    *(
        (
            f"the gateway's {value} is the stack's own",
            at(f"gateway/values/{value}", "x"),
            f"gateway.values.{value.replace('/', '.')}",
            "by the stack itself",
        )
        for value in ("networkGateway", "name", "revision", "labels/istio", "labels/app")
    ),
    *(
        (f"all lines of {path} are gone", at(path, None), path.replace("/", "."), "has nothing after it")
        for path in (
            "gateway/values/service",
            "controlPlane/values/env",
            "controlPlane/values/meshConfig",
            "controlPlane/revisions/canary/values/telemetry",
        )
    ),
    *(
        (
            f"the gateway's Service is a {kind} without an address",
            at("gateway/values/service", {"type": kind}),
            "gateway.values.service.type",
            "is none to which a load balancer gives an address",
        )
        for kind in ("ClusterIP", "NodePort")
    ),
    *(
        (
            f"the gateway's port {name} is not where VMs ask for it",
            at("gateway/values/networkGatewayPorts", {name: {"port": 443}}),
            f"gateway.values.networkGatewayPorts.{name}.port",
            f"is not {port}, at which VMs ask for it",
        )
        for name, port in (("tls-istiod", 15012), ("tls", 15443))
    ),
    (
        "the gateway may have fewer pods than it has at least",
        at("gateway/values/autoscaling", {"maxReplicas": 1}),
        "gateway.values.autoscaling.maxReplicas",
        "is less than the two pods",
    ),
    ("the gateway's address is no name", at("gateway/address", "gw example"), "gateway.address", "neither an IP"),
    (
        "a unit is no unit",
        at("workloads/echo/machines/units", ["echo; reboot"]),
        "workloads.echo.machines.units[0]",
        "systemd service",
    ),
    (
        "a unit that the boot waits for",
        at("workloads/echo/machines/units", ["echo.socket"]),
        "workloads.echo.machines.units[0]",
        "for a socket, what it starts",
    ),
    *(
        (
            f"the application is {unit}",
            at("workloads/echo/machines/units", [unit]),
            "workloads.echo.machines.units[0]",
            problem,
        )
        for unit, problem in {
            "istio.service": "starts before the proxy, or is the proxy's own",
            "network-online.target": "starts before the proxy, or is the proxy's own",
            "hybrid-mesh-ready.service": "has the name of a unit that this program puts on a VM",
        }.items()
    ),
    *(
        (
            f"SSH is to go to {address}",
            both(at(f"{VM_1}/ssh/address", address), at(f"{VM_1}/meshAddress", "192.0.2.11")),
            "workloads.echo.machines.hosts.vm-1.ssh.address",
            "is neither an IP address nor a host name alone",
        )
        for address in ("192.0.2.11:22", "root@vm-1", "ssh://vm-1", "[2001:db8::1]", "vm 1")
    ),
    ("the gateway's name begins with a digit", at("gateway/name", "1gw"), "gateway.name", "is the name of a Service"),
    *(
        (f"{path} = {value} is more than Kubernetes or Istio reads", at(path.replace(".", "/"), value), path, "")
        for path, value in (
            ("workloads.echo.pods.replicas", 2**31),
            ("workloads.echo.probe.failureThreshold", 2**31),
            ("routing.echo.outlierDetection.consecutiveErrors", 2**31),
            ("routing.echo.timeout", "2562048h"),
        )
    ),
    ("an adopted gateway has values", at("gateway/mode", "adopt"), "gateway.values", "is not used"),
    ("the sidecar's package is missing", at("sidecar/package", ...), "sidecar.package", "is missing"),
    ("sidecar is missing", at("sidecar", ...), "sidecar.package", "is missing"),
    ("the package has no checksum", at("sidecar/package/sha256", ...), "sidecar.package.sha256", "is missing"),
    (
        "there is one file for all, and one for each kind",
        at("sidecar/package/files", {"deb-amd64": {"sha256": "ab" * 32}}),
        "sidecar.package",
        "one file for all VMs, and one for each kind",
    ),
    (
        "a kind of VM that Istio has no package for",
        at("sidecar/package/files", {"deb-riscv64": {"sha256": "ab" * 32}}),
        "sidecar.package.files.deb-riscv64",
        "",
    ),
    ("no VM at a time", at("sidecar/upgrade", {"batchSize": 0}), "sidecar.upgrade.batchSize", ""),
    ("a negative time", at("sidecar/upgrade", {"cutOffSeconds": -1}), "sidecar.upgrade.cutOffSeconds", ""),
    ("the checksum is short", at("sidecar/package/sha256", "ab"), "sidecar.package.sha256", "64 hexadecimal"),
    ("the package has no URL", at("sidecar/package/url", "/tmp/deb"), "sidecar.package.url", "http"),
    (
        "its URL has a password",
        at("sidecar/package/url", "https://me:pw@mirror/x.deb"),
        "sidecar.package.url",
        "without user and password, which previews",
    ),
    ("its URL has a user", at("sidecar/package/url", "http://token@mirror?x"), "sidecar.package.url", "without user"),
    ("its URL has half a bracket", at("sidecar/package/url", "http://[abc/x.deb"), "sidecar.package.url", "not a URL"),
    ("its URL has no such port", at("sidecar/package/url", "http://m:99999/x"), "sidecar.package.url", "not a URL"),
    ("a token lives too short", at("sidecar/tokenSeconds", 60), "sidecar.tokenSeconds", "600"),
    ("a limit is zero", at("sidecar/timeouts", {"syncSeconds": 0}), "sidecar.timeouts.syncSeconds", "1"),
    ("a variable is no name", at("sidecar/environment", {"A-B": "c"}), "sidecar.environment.A-B", "variable"),
    ("mTLS is a boolean", at("mtls", True), "mtls", "STRICT"),
    ("a namespace is misspelt inside", at("namespaces/demo", {"existng": True}), "namespaces.demo.existng", "setting"),
    ("a namespace is nobody's", at("namespaces", {"shop": {}}), "namespaces.shop", "of no workload"),
    ("a workload's name is no label", at("workloads/Echo", {"namespace": "x"}), "workloads.Echo", "RFC 1123"),
    (
        "a workload is in Istio's namespace",
        at("workloads/client/namespace", "istio-system"),
        "workloads.client.namespace",
        "root namespace",
    ),
    (
        "a workload is in Istio's namespace, which has another name",
        both(at("controlPlane/namespace", "mesh-system"), at("workloads/client/namespace", "mesh-system")),
        "workloads.client.namespace",
        "root namespace",
    ),
    ("a workload is nothing", at("workloads/client/pods", ...), "workloads.client", "neither pods nor machines"),
    ("a label is no label", at(f"{ECHO}/labels", {"team": "a b"}), "workloads.echo.labels.team", "label value"),
    (
        "version is a label, of the workload's name",
        at(f"{ECHO}/labels", {"version": "echo"}),
        "workloads.echo.labels.version",
        "itself",
    ),
    ("a label is the stack's own", at(f"{ECHO}/labels", {"app": "x"}), "workloads.echo.labels.app", "itself"),
    ("version is a label", at(f"{ECHO}/labels", {"version": "x"}), "workloads.echo.labels.version", "itself"),
    (
        "two workloads are one identity",
        at("workloads/client/serviceAccount", "echo"),
        "workloads.client.serviceAccount",
        "workloads.echo too",
    ),
    ("a port is out of range", at(f"{ECHO}/ports/0/port", 65536), "workloads.echo.ports[0].port", "65535"),
    (
        "policies for some groups only",
        at("controlPlane/admissionPolicies", ["echo"]),
        "controlPlane.admissionPolicies",
        "boolean",
    ),
    ("a port is a boolean", at(f"{ECHO}/ports/0/port", True), "workloads.echo.ports[0].port", "boolean"),
    (
        "a container's port has two hyphens in a row",
        at(f"{ECHO}/ports/0/name", "http--x"),
        "workloads.echo.ports[0].name",
        "two hyphens",
    ),
    *(
        (
            f"the app listens on Istio's port {port}",
            at(f"{ECHO}/ports/0", {"name": "http", "port": 8080, "targetPort": port}),
            "workloads.echo.ports[0].port",
            "proxy takes",
        )
        for port in (15000, 15001, 15004, 15006, 15008, 15009, 15020, 15021, 15053, 15090)
    ),
    (
        "the app listens on Istio's port, in pods alone",
        at("workloads/client/ports", [{"name": "http", "port": 15021}]),
        "workloads.client.ports[0].port",
        "proxy takes",
    ),
    (
        "a port is sshd's",
        at(f"{ECHO}/ports/0", {"name": "sftp", "port": 2022, "targetPort": 22, "protocol": "TCP"}),
        "workloads.echo.ports[0].port",
        "is sshd's on `vm-1`, which is never captured",
    ),
    (
        "a port is the one that Istio takes for sshd's",
        both(
            both(at(f"{ECHO}/ports/0", {"name": "sftp", "port": 22, "protocol": "TCP"}), at(f"{VM_1}/ssh/port", 2222)),
            at(f"{ECHO}/sidecar", {"capture": {"allInboundPorts": True}}),
        ),
        "workloads.echo.ports[0].port",
        "is sshd's for Istio, wherever all ports are captured",
    ),
    (
        "two ports are one",
        at(f"{ECHO}/ports", [{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
        "workloads.echo.ports[1].port",
        "ports[0] too",
    ),
    (
        "two ports have one name",
        at(f"{ECHO}/ports", [{"name": "a", "port": 80}, {"name": "a", "port": 81}]),
        "workloads.echo.ports[1].name",
        "ports[0] too",
    ),
    ("a probe is of no kind", at(f"{ECHO}/probe", {}), "workloads.echo.probe", "none of them"),
    (
        "a probe is of two kinds",
        at(f"{ECHO}/probe/tcpSocket", {"port": 1}),
        "workloads.echo.probe",
        "httpGet and tcpSocket",
    ),
    (
        "a probe starts too late for up",
        at(f"{ECHO}/probe/initialDelaySeconds", 120),
        "workloads.echo.probe",
        "the earliest that it can find a VM healthy, and `sidecar.timeouts.syncSeconds` is 120",
    ),
    (
        "a probe takes too many successes for up",
        at(f"{ECHO}/probe/successThreshold", 61),
        "workloads.echo.probe",
        "the earliest that it can find a VM healthy",
    ),
    ("there are no hosts", at(f"{ECHO}/machines/hosts", {}), "workloads.echo.machines.hosts", "is empty"),
    ("a host is of no kind", at(VM_1, {}), "workloads.echo.machines.hosts.vm-1", "none of them"),
    (
        "a host is of two kinds",
        at(f"{VM_1}/command", {"create": "a", "delete": "b", KEY: ".lab/dev/ssh/id_ed25519"}),
        "workloads.echo.machines.hosts.vm-1",
        "ssh and command",
    ),
    (
        "there is no host key",
        at(f"{VM_1}/ssh/hostKey", ...),
        "workloads.echo.machines.hosts.vm-1.ssh.hostKey",
        "missing",
    ),
    ("a host key is none", at(f"{VM_1}/ssh/hostKey", "x"), "workloads.echo.machines.hosts.vm-1.ssh.hostKey", "SSH"),
    (
        "there is no private key",
        at(f"{VM_1}/ssh/privateKeyFile", ...),
        "workloads.echo.machines.hosts.vm-1.ssh.privateKeyFile",
        "is missing",
    ),
    (
        "there is no private key of a machine that a command makes",
        at(f"{VM_2}/command/privateKeyFile", ...),
        "workloads.echo.machines.hosts.vm-2.command.privateKeyFile",
        "is missing",
    ),
    (
        "a private key is a public one",
        at(f"{VM_1}/ssh/privateKeyFile", ".lab/dev/machines/vm-1/host_key"),
        "workloads.echo.machines.hosts.vm-1.ssh.privateKeyFile",
        "no private key",
    ),
    (
        "an address is a name",
        at(f"{VM_1}/ssh/address", "vm-1.example.com"),
        "workloads.echo.machines.hosts.vm-1.meshAddress",
        "host name",
    ),
    (
        "a mesh address is none",
        at(f"{VM_1}/meshAddress", "10.0.0"),
        "workloads.echo.machines.hosts.vm-1.meshAddress",
        "IPv4",
    ),
    (
        "two workloads have one machine's name",
        at(
            "workloads/client/machines",
            {"hosts": {"vm-2": {"command": {"create": "a", "delete": "b", KEY: ".lab/dev/ssh/id_ed25519"}}}},
        ),
        "workloads.client.machines.hosts.vm-2",
        "has the name of",
    ),
    ("weights are 99", at("routing/echo/weights/vm", 9), "routing.echo.weights", "adds up to 99"),
    ("a weight is negative", at("routing/echo/weights", {"k8s": 110, "vm": -10}), "routing.echo.weights.k8s", "100"),
    (
        "a weight is for no subset",
        at("routing/echo/weights", {"k8s": 90, "cloud": 10}),
        "routing.echo.weights.cloud",
        "names no subset",
    ),
    (
        "a subset selects nothing",
        at("routing/echo/subsets/vm", {"version": "v2"}),
        "routing.echo.subsets.vm",
        "neither the pods nor the machines",
    ),
    (
        "a route leads nowhere",
        at("routing/ecco", {"subsets": {"a": {}}, "weights": {"a": 100}}),
        "routing.ecco",
        "no workload",
    ),
    (
        "a route leads to a client",
        at("routing/client", {"subsets": {"a": {}}, "weights": {"a": 100}}),
        "routing.client",
        "has no ports",
    ),
    ("a memory limit has no unit", at("sidecar/limits/memory", "512"), "sidecar.limits.memory", "a size such as"),
    ("a memory limit starves", at("sidecar/limits/memory", "8M"), "sidecar.limits.memory", "less than 64M"),
    ("no CPU is left", at("sidecar/limits/cpuPercent", 0), "sidecar.limits.cpuPercent", "greater than or equal to 1"),
    (
        "slowing down comes after the end",
        at("sidecar/limits", {"memory": "512M", "memoryHigh": "1G"}),
        "sidecar.limits.memoryHigh",
        "is not below",
    ),
    (
        "a workload's slowing down comes after the end",
        at(f"{ECHO}/sidecar/limits", {"memory": "512M", "memoryHigh": "512M"}),
        "workloads.echo.sidecar.limits.memoryHigh",
        "is not below",
    ),
    ("too few tasks", at("sidecar/limits/tasks", 3), "sidecar.limits.tasks", "greater than or equal to 64"),
    ("concurrency is negative", at("sidecar/concurrency", -1), "sidecar.concurrency", "greater than or equal to 0"),
    ("a log level is unknown", at("sidecar/logLevel", "loud"), "sidecar.logLevel", "a log level of Envoy's"),
    ("an access log is unknown", at("sidecar/accessLog", "some"), "sidecar.accessLog", "'all', 'errors' or 'none'"),
    ("a scope has no host", at("sidecar/egress", {"hosts": []}), "sidecar.egress.hosts", "at least 1 item"),
    ("a scope's host has no namespace", at("sidecar/egress", {"hosts": ["*"]}), "sidecar.egress.hosts[0]", "namespace"),
    (
        "a policy for other hosts is unknown",
        at("sidecar/egress", {"hosts": ["./*"], "outboundTrafficPolicy": "DENY"}),
        "sidecar.egress.outboundTrafficPolicy",
        "'ALLOW_ANY' or 'REGISTRY_ONLY'",
    ),
    (
        "a captured range is none",
        at("sidecar/capture", {"outboundCidrs": ["10.0.0.1/8"]}),
        "sidecar.capture.outboundCidrs[0]",
        "host bits",
    ),
    (
        "a range is both in and out",
        at("sidecar/capture", {"outboundCidrs": ["10.0.0.0/8"], "excludeOutboundCidrs": ["10.1.0.0/16"]}),
        "sidecar.capture.excludeOutboundCidrs",
        "beside `sidecar.capture.outboundCidrs`",
    ),
    (
        "a workload's limit is below where the stack slows down",
        both(at("sidecar/limits", {"memoryHigh": "512M"}), at(f"{ECHO}/sidecar", {"limits": {"memory": "256M"}})),
        "sidecar.limits.memoryHigh",
        "is not below `workloads.echo.sidecar.limits.memory`, 256M",
    ),
    (
        "a workload is slowed down above the stack's limit",
        both(at("sidecar/limits", {"memory": "256M"}), at(f"{ECHO}/sidecar", {"limits": {"memoryHigh": "512M"}})),
        "workloads.echo.sidecar.limits.memoryHigh",
        "is not below `sidecar.limits.memory`, 256M",
    ),
    (
        "a workload takes a range out of the stack's",
        both(
            at("sidecar/capture", {"outboundCidrs": ["10.0.0.0/8"]}),
            at(f"{ECHO}/sidecar", {"capture": {"excludeOutboundCidrs": ["10.1.0.0/16"]}}),
        ),
        "workloads.echo.sidecar.capture.excludeOutboundCidrs",
        "beside `sidecar.capture.outboundCidrs`",
    ),
    (
        "a workload captures all ports, and the stack some",
        both(
            at("sidecar/capture", {"inboundPorts": [9100]}),
            at(f"{ECHO}/sidecar", {"capture": {"allInboundPorts": True}}),
        ),
        "sidecar.capture.inboundPorts",
        "beside `workloads.echo.sidecar.capture.allInboundPorts`",
    ),
    (
        "all ports are captured, and some",
        at("sidecar/capture", {"allInboundPorts": True, "inboundPorts": [8080]}),
        "sidecar.capture.inboundPorts",
        "beside `sidecar.capture.allInboundPorts`",
    ),
    (
        "the app's port is not captured",
        at("sidecar/capture", {"inboundPorts": [9100]}),
        "sidecar.capture.inboundPorts",
        "lets port 8080 of `workloads.echo` bypass",
    ),
    (
        "the Service's port is captured, and the app's is not",
        both(
            at(f"{ECHO}/ports/0", {"name": "http", "port": 80, "targetPort": 8080}),
            at("sidecar/capture", {"inboundPorts": [80]}),
        ),
        "sidecar.capture.inboundPorts",
        "lets port 8080 of `workloads.echo` bypass",
    ),
    (
        "the app's port is excluded",
        at(f"{ECHO}/sidecar", {"capture": {"excludeInboundPorts": [8080]}}),
        "workloads.echo.sidecar.capture.excludeInboundPorts",
        "lets port 8080 of `workloads.echo` bypass",
    ),
    *(
        (
            f"{variable} has a setting",
            at("sidecar/environment", {variable: value}),
            f"sidecar.environment.{variable}",
            f"`sidecar.{instead}`",
        )
        for variable, value, instead in (
            ("ISTIO_SERVICE_CIDR", "10.0.0.0/8", "capture.outboundCidrs"),
            ("ISTIO_SERVICE_EXCLUDE_CIDR", "10.0.0.0/8", "capture.excludeOutboundCidrs"),
            ("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "5432", "capture.excludeOutboundPorts"),
            ("ISTIO_AGENT_FLAGS", "--proxyLogLevel=debug", "logLevel"),
        )
    ),
    (
        "a variable is each VM's own",
        at("sidecar/environment", {"ISTIO_SVC_IP": "10.0.0.1"}),
        "sidecar.environment.ISTIO_SVC_IP",
        "is set by `hosts.<name>.meshAddress`",
    ),
    *(
        (
            f"{variable} lets another user run the proxy",
            at("sidecar/environment", {variable: value}),
            f"sidecar.environment.{variable}",
            "lets another user than `istio-proxy` run the proxy",
        )
        for variable, value in (("EXEC_USER", "root"), ("ISTIO_INBOUND_INTERCEPTION_MODE", "TPROXY"))
    ),
    *(
        (
            f"{variable} breaks the script that starts Istio",
            at("sidecar/environment", {variable: value}),
            f"sidecar.environment.{variable}",
            "is a variable of the script that starts Istio",
        )
        for variable, value in (("PATH", "/opt/bin"), ("USER", "istio-proxy"), ("ISTIO_BIN_BASE", "/opt"), ("UID", "0"))
    ),
    *(
        (
            f"{variable} = {value} moves a folder that is known",
            at("sidecar/environment", {variable: value}),
            f"sidecar.environment.{variable}",
            f"moves what is looked for in {folder}",
        )
        for variable, value, folder in (
            ("ISTIO_LOG_DIR", "/var/log", "/var/log/istio"),
            ("OUTPUT_CERTS", "/etc/istio-output-certs", "/etc/certs"),
            ("OUTPUT_CERTS", "", "/etc/certs"),
        )
    ),
    *(
        (
            f"{variable} moves a port that is known",
            at("sidecar/environment", {variable: "16000"}),
            f"sidecar.environment.{variable}",
            f"know as {port}",
        )
        for variable, port in (("ENVOY_STATUS_PORT", 15021), ("ENVOY_PROMETHEUS_PORT", 15090))
    ),
    *(
        (
            f"pods are given {field} of VMs",
            at("workloads/client/sidecar", {field: value}),
            f"workloads.client.sidecar.{field}",
            "has no machines",
        )
        for field, value in (
            ("limits", {"memory": "512M"}),
            ("capture", {"inboundPorts": [8080]}),
            ("dnsCapture", True),
            ("concurrency", 2),
            ("logLevel", "debug"),
        )
    ),
    (
        "istiod is outside the table",
        at("controlPlane/version", "1.32.0"),
        "controlPlane.version",
        "not in the table",
    ),
    (
        "a revision's chart has another mesh id",
        at("controlPlane/revisions", {"canary": {"values": {"global": {"meshID": "other"}}}}),
        "controlPlane.revisions.canary.values.global.meshID",
        "is set by `controlPlane.meshId`",
    ),
    (
        "a Service's name begins with a digit",
        at("workloads/2048", {"namespace": "demo", "ports": [{"name": "http", "port": 80}], "pods": {"image": "x"}}),
        "workloads.2048",
        "begins with a digit",
    ),
    ("two entries have one name", two_entries, "workloads.echo-eu.machines.hosts.vm1", "would have the WorkloadEntry"),
    (
        "the kubeconfig is of a user who is not here",
        at("cluster/kubeconfig", "~nobodyhere/.kube/config"),
        "cluster.kubeconfig",
        "cannot read this file",
    ),
    (
        "the sidecar is newer",
        at("sidecar/package/version", "1.32.0"),
        "sidecar.package.version",
        "is newer than istiod",
    ),
    (
        "the sidecar is too old",
        at("sidecar/package/version", "1.29.0"),
        "sidecar.package.version",
        "more than one minor version older",
    ),
    (
        "an exception is unknown",
        at("versions/accept", ["all"]),
        "versions.accept[0]",
        "'istiod', 'sidecar' or 'system'",
    ),
]


def test_of_an_istiod_that_the_stack_installs_the_address_is_left_out_and_no_other_meant() -> None:
    own = at("controlPlane/values/meshConfig/defaultConfig/discoveryAddress", "istiod.istio-system.svc:15012")
    (found,) = findings(both(own, at("controlPlane/revisions", {"canary": {}})))
    assert (found.path.rpartition(".")[2], found.fix) == ("discoveryAddress", "leave it out.")


@pytest.mark.parametrize("given", ["x", [], 1])
def test_workloads_that_are_none_are_told_alone_and_not_that_others_name_none_of_them(given: object) -> None:
    assert [f.path for f in findings(at("workloads", given))] == ["workloads"]


@pytest.mark.parametrize(("change", "path", "problem"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_a_broken_rule_is_found_where_it_is(change: Change, path: str, problem: str) -> None:
    found = findings(change)
    assert path in [finding.path for finding in found], found
    finding = next(finding for finding in found if finding.path == path)
    assert problem in finding.problem
    assert finding.consequence.endswith(".")
    assert finding.fix


@pytest.mark.parametrize("rule", RULES, ids=[rule[0] for rule in RULES])
def test_a_broken_rule_is_one_line(rule: tuple[str, Change, str, str]) -> None:
    for finding in findings(rule[1]):
        assert "\n" not in str(finding)
        assert str(finding).startswith(f"hybrid-mesh:{finding.path}")


def test_a_namespace_of_every_cluster_can_be_used_as_somebody_else_s() -> None:
    (found,) = findings(at("workloads/client/namespace", "default"))
    assert found.fix == "a namespace of its own; or `namespaces.default.existing: true`."
    (found,) = findings(at("controlPlane/namespace", "kube-public"))
    assert found.fix == "a namespace of its own."


def test_an_istio_that_was_installed_without_a_cluster_id_can_be_named() -> None:
    assert findings(at("cluster/name", "Kubernetes")) == []


def test_one_address_behind_two_bastions_is_of_two_machines() -> None:
    assert findings(behind_two_bastions) == []

    without = [at(f"{ECHO}/machines/hosts/{name}/meshAddress", ...) for name in ("vm-1", "vm-3")]
    assert findings(behind_two_bastions, without[0]) == []
    (found,) = findings(behind_two_bastions, *without)
    assert found.path == "workloads.echo.machines.hosts.vm-3.ssh.address", "the mesh would not tell them apart"
    (found,) = findings(behind_two_bastions, at(f"{ECHO}/machines/hosts/vm-3/meshAddress", "198.51.100.5"))
    assert found.path == "workloads.echo.machines.hosts.vm-3.meshAddress"
    assert "is that of workloads.echo.machines.hosts.vm-1.meshAddress too" in found.problem

    def behind_one(sections: dict[str, Any]) -> None:
        behind_two_bastions(sections)
        hosts = sections["workloads"]["echo"]["machines"]["hosts"]
        hosts["vm-3"]["ssh"]["bastion"] = dict(hosts["vm-1"]["ssh"]["bastion"])

    (found,) = findings(behind_one)
    assert found.path == "workloads.echo.machines.hosts.vm-3.ssh.address"


def test_two_ports_of_one_address_are_two_machines_where_the_mesh_knows_them_by_others() -> None:
    def forwarded(sections: dict[str, Any]) -> None:
        hosts = sections["workloads"]["echo"]["machines"]["hosts"]
        hosts["vm-3"] = copy.deepcopy(hosts["vm-1"])
        hosts["vm-3"]["ssh"]["port"] = 2222

    (found,) = findings(forwarded)
    assert found.path == "workloads.echo.machines.hosts.vm-3.ssh.address"
    assert "one WorkloadEntry" in found.consequence
    assert findings(forwarded, at(f"{ECHO}/machines/hosts/vm-3/meshAddress", "198.51.100.9")) == []


@pytest.mark.parametrize("registration", ["auto", "static"])
@pytest.mark.parametrize("port", [8080, 9090])
def test_two_machines_that_would_be_one_endpoint_are_refused(registration: str, port: int) -> None:
    def beside(sections: dict[str, Any]) -> None:
        shop = sections["workloads"]["shop"] = copy.deepcopy(sections["workloads"]["echo"])
        shop["ports"] = [{"name": "http", "port": 80, "targetPort": port}]
        shop["machines"]["registration"] = registration
        shop["machines"]["hosts"] = {"vm-3": copy.deepcopy(shop["machines"]["hosts"]["vm-1"])}
        shop["machines"]["hosts"]["vm-3"]["ssh"]["port"] = 2222

    first = "workloads.echo.machines.hosts.vm-1.ssh.address"
    if port == 8080:
        (found,) = findings(beside)
        assert (found.path, found.value) == ("workloads.shop.machines.hosts.vm-3.ssh.address", "192.0.2.11")
        assert found.problem == f"is that of {first} too, in the same network"
        assert found.consequence == "Both take requests at port 8080 there: those for one would go to the other."
    else:
        assert findings(beside) == [], "one address may forward each port to a machine of its own"
    elsewhere = both(at("workloads/shop/network", "far"), at("networks/far", {"direct": True}))
    assert findings(beside, elsewhere) == [], "another network may have the same addresses"
    assert findings(beside, at("workloads/shop/machines/hosts/vm-3/meshAddress", "198.51.100.9")) == []
    assert findings(beside, at(f"{VM_1}/lost", True)) == [], "another machine may have its address by now"


def test_machines_of_one_static_workload_have_addresses_of_their_own() -> None:
    static = at(f"{ECHO}/machines/registration", "static")
    one = both(at(f"{VM_1}/meshAddress", "2001:DB8::1"), at(f"{VM_2}/meshAddress", "2001:db8:0::1"))
    (found,) = findings(static, one)
    assert found.path == "workloads.echo.machines.hosts.vm-2.meshAddress"
    assert "Both take requests at port 8080 there" in found.consequence
    (found,) = findings(one)
    assert "one WorkloadEntry" in found.consequence
    clients = both(at(f"{ECHO}/ports", []), both(at("routing", {}), at(f"{ECHO}/probe", ...)))
    assert findings(static, one, clients) == [], "nobody calls them"


def test_one_mistake_makes_one_finding() -> None:
    exceptions = {"a weight is negative": 2}
    for name, change, *_ in RULES:
        assert len(findings(change)) == exceptions.get(name, 1), (name, findings(change))


GOOD = {
    "the label app, as the stack sets it itself": at(f"{ECHO}/labels", {"app": "echo"}),
    "two machines behind one address, by two ports": both(
        at(
            f"{ECHO}/machines/hosts/vm-9",
            {"ssh": {"address": "192.0.2.11", "port": 2222, "hostKey": "ssh-ed25519 A", "agent": True}},
        ),
        at(f"{ECHO}/machines/hosts/vm-9/meshAddress", "10.0.0.9"),
    ),
    "a namespace that is there, and somebody else's": both(
        at("workloads/client/namespace", "default"), at("namespaces", {"default": {"existing": True}})
    ),
    "an adopted Istio in a namespace that is there": both(
        at("controlPlane", {"mode": "adopt", "version": "1.31.0", "namespace": "kube-system"}),
        at("gateway", {"mode": "adopt"}),
    ),
    "one account's name in two namespaces": both(
        at("workloads/client/namespace", "shop"), at("workloads/client/serviceAccount", "echo")
    ),
    "a machine that SSH reaches by its name, and the mesh at an address": both(
        at(f"{VM_1}/ssh/address", "vm-1.example.com"), at(f"{VM_1}/meshAddress", "192.0.2.11")
    ),
    "a machine and its bastion by names that /etc/hosts knows": both(
        both(at(f"{VM_1}/ssh/address", "VM_1"), at(f"{VM_1}/meshAddress", "192.0.2.11")),
        at(f"{VM_1}/ssh/bastion", {"address": "jump", "hostKey": "ssh-ed25519 A"}),
    ),
    "a machine by an IPv6 address of its link": both(
        at(f"{VM_1}/ssh/address", "fe80::1%eth0"), at(f"{VM_1}/meshAddress", "2001:db8::1")
    ),
    "no package where there is no machine": both(
        both(at(f"{ECHO}/machines", ...), at("routing", {})), at("sidecar/package", ...)
    ),
    "a package for each kind of machine, and none for all": at(
        "sidecar/package", {"version": "1.31.0", "files": {"deb-amd64": {"sha256": "ab" * 32}}}
    ),
    "flags of the agent that no setting has": at("sidecar/environment", {"ISTIO_AGENT_FLAGS": "--concurrency=2"}),
    "an istiod that registers no VM, for VMs that need not": both(
        at(f"controlPlane/values/env/{REGISTERS}", "false"), at(f"{ECHO}/machines/registration", "static")
    ),
    "an istiod that signs nothing, beside a CA that does": both(
        at("controlPlane/values/env/ENABLE_CA_SERVER", "false"),
        at("sidecar/environment/CA_ADDR", "ca.example.com:443"),
    ),
    "istiod by its own name, and by one that VMs may resolve": both(
        at("controlPlane/values/meshConfig/defaultConfig/discoveryAddress", "istiod.istio-system.svc:15012"),
        at(
            "controlPlane/revisions",
            {"next": {"values": {"meshConfig": {"defaultConfig": {"discoveryAddress": "istiod.example.com:443"}}}}},
        ),
    ),
    "a port for what comes in that VMs are told of": both(
        at("controlPlane/values/meshConfig/proxyInboundListenPort", 15106),
        at("sidecar/environment/INBOUND_CAPTURE_PORT", "15106"),
    ),
    "an address of istiod's that VMs are told over the mesh's": both(
        at("controlPlane/values/meshConfig/defaultConfig/discoveryAddress", "istiod:15012"),
        at("sidecar/environment/PILOT_ADDRESS", "istiod.example.com:15012"),
    ),
    "no mTLS of itself, where the rule asks for it": both(
        at("controlPlane/values/meshConfig/enableAutoMtls", False), at("routing/echo/tls", {"mode": "ISTIO_MUTUAL"})
    ),
    "values that have another form than the chart's": at("controlPlane/values", {"env": [], "meshConfig": "x"}),
    "a gateway that is reached at another address than its Service's": both(
        at("gateway/address", "192.0.2.100"),
        at(
            "gateway/values",
            {"service": {"type": "NodePort"}, "networkGatewayPorts": {"tls-istiod": {"port": 443}}},
        ),
    ),
    "a default of a chart that is taken away": both(
        at("controlPlane/values/resources", {"requests": {"memory": None}}),
        at("gateway/values", {"replicaCount": None, "resources": {"limits": {"cpu": None}}}),
    ),
    "a gateway of one pod": at("gateway/values/autoscaling", {"minReplicas": 1, "maxReplicas": 1}),
    "limits of an autoscaler that is off": at("gateway/values/autoscaling", {"enabled": False, "maxReplicas": 1}),
    "ports that a gateway's pods have otherwise": at(
        "gateway/values",
        {
            "service": {"type": "LoadBalancer"},
            "networkGatewayPorts": {"tls": {"port": 15443, "targetPort": 16443}, "status-port": {"port": 80}},
        },
    ),
    "variables that leave folders where they are": at(
        "sidecar/environment", {"OUTPUT_CERTS": "/etc/certs", "ISTIO_LOG_DIR": "./var/log/istio/"}
    ),
    "a variable that leaves a port where it is": at("sidecar/environment", {"ENVOY_STATUS_PORT": "15021"}),
    "a probe that finds a VM healthy just in time for up": at(f"{ECHO}/probe/initialDelaySeconds", 119),
    "an app at the port that sshd had on a machine that is lost": both(
        both(at(f"{VM_1}/ssh/port", 2222), at(f"{VM_1}/lost", True)), at(f"{ECHO}/ports/0/targetPort", 2222)
    ),
}


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_what_a_rule_is_not_about_is_taken(change: Change) -> None:
    assert findings(change) == []


def test_what_the_stack_says_wrongly_is_not_told_again_of_a_workload_that_says_something_else() -> None:
    else_ = at(f"{ECHO}/sidecar", {"concurrency": 2, "capture": {"excludeOutboundPorts": [5432]}})
    for capture in (
        {"allInboundPorts": True, "inboundPorts": [8080]},
        {"outboundCidrs": ["10.0.0.0/8"], "excludeOutboundCidrs": ["10.1.0.0/16"]},
    ):
        assert len(findings(at("sidecar/capture", capture), else_)) == 1
    assert len(findings(at("sidecar/limits", {"memory": "512M", "memoryHigh": "1G"}), else_)) == 1
    assert len(findings(at("sidecar/tracing", {"tags": {"team": {}}}), else_)) == 1


def test_all_findings_come_at_once_whatever_else_is_wrong() -> None:
    changes = [
        at("cluster/network", "A"),
        at("sidecar/package/sha256", "x"),
        at(f"{ECHO}/ports/0/port", 0),
        at("workloads/client/pods", ...),
        at("routing/echo/weights/vm", 9),
        at("gatway", {}),
    ]
    assert {finding.path for finding in findings(*changes)} == {
        "cluster.network",
        "sidecar.package.sha256",
        "workloads.echo.ports[0].port",
        "workloads.client",
        "routing.echo.weights",
        "gatway",
    }


@pytest.mark.parametrize(
    "change",
    [
        at("gateway/name", "g" * 53),
        at("gateway", {"mode": "adopt", "name": "g" * 54}),
        at("controlPlane/revision", "r" * 46),
        at("controlPlane/revisions", {"r" * 46: {}}),
        both(at("controlPlane/mode", "adopt"), at("controlPlane/revision", "r" * 47)),
    ],
)
def test_a_name_that_helm_takes_or_never_sees_is_taken(change: Change) -> None:
    assert not [finding for finding in findings(change) if "too long" in finding.problem]


def test_selectors_by_which_istiod_looks_at_all_that_the_stack_makes_are_taken() -> None:
    network = {"matchLabels": {"topology.istio.io/network": "embedded"}}
    taken: list[Any] = [[IN_ISTIO, INJECTED], [network, INJECTED], [{}], [], "nonsense"]
    for selectors in taken:
        assert findings(at("controlPlane/values/meshConfig/discoverySelectors", selectors)) == []
    others = at("namespaces", {"demo": {"existing": True}})
    assert findings(others, at("controlPlane/values/meshConfig/discoverySelectors", [IN_ISTIO])) == []


@pytest.mark.parametrize("selector", [1, {"matchLabels": ["a"]}, {"matchExpressions": ["a"]}, {"matchExpressions": 1}])
def test_selectors_that_are_none_are_istiod_s_to_refuse(selector: Any) -> None:
    assert findings(at("controlPlane/values/meshConfig/discoverySelectors", [selector])) == []


def test_a_wrong_workload_is_not_taken_for_a_missing_one() -> None:
    assert [f.path for f in findings(at(f"{ECHO}/ports/0/port", 0))] == ["workloads.echo.ports[0].port"]


def test_a_namespace_of_a_wrong_workload_is_not_taken_for_nobody_s() -> None:
    changes = (at("namespaces", {"shop": {"existing": True}}), at("workloads/client/namespace", "shop"))
    assert [f.path for f in findings(*changes, at("workloads/client/pods/image", ""))] == [
        "workloads.client.pods.image"
    ]


def test_a_misspelt_key_is_answered_with_the_nearest_known_one() -> None:
    (finding,) = findings(at("sidecar/dnsCaptre", True))
    assert finding.fix == "did you mean `dnsCapture`?"


def test_the_message_counts_and_says_that_nothing_was_touched() -> None:
    sections = dev_sections()
    sections["cluster"]["network"] = "A"
    with pytest.raises(
        SettingsError, match=r"^1 setting is wrong; nothing was touched\.\n  hybrid-mesh:cluster\.network = A: "
    ):
        parse(sections, read_file)


def test_what_is_outside_the_table_of_versions_can_be_accepted() -> None:
    changes = (at("controlPlane/version", "1.33.0"), at("sidecar/package/version", "1.30.0"))
    assert [f.path for f in findings(*changes)] == ["controlPlane.version", "sidecar.package.version"]
    assert "`versions.accept: [istiod]`" in findings(*changes)[0].fix
    assert findings(*changes, at("versions/accept", ["istiod", "sidecar"])) == []
