"""What is wrong by what the mesh says: WorkloadEntries, istiod, policies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hybridmesh.istio.entries import group_of, health, is_connected, is_probed, is_reported, report_is_lost
from hybridmesh.istio.names import LOCALITY_LABEL
from hybridmesh.providers.entries import entry_patch
from hybridmesh.providers.membership import sync_objection

from ..facts import MachineFacts
from ..others import others
from .model import CANNOT_COME, Case, Diagnosis, Found, of_facts


def _not_connected(case: Case) -> Iterator[Found]:
    if case.machine["namespace"] in case.mesh.blind:
        return
    if case.entry is None:
        yield Found(f"there is no WorkloadEntry {case.machine['entry']}: nobody sends it anything", "Kubernetes")
    elif not is_connected(case.entry):
        since = (case.entry["metadata"].get("annotations") or {}).get("istio.io/disconnectedAt", "its making")
        yield Found(f"its proxy is not connected to istiod since {since}", f"WorkloadEntry {case.machine['entry']}")


def _registration_refused(facts: MachineFacts, case: Case) -> Iterator[Found]:
    """What istiod was told by Kubernetes, and tells the agent (pkg/istio-agent/xds_proxy.go, upstreamErr)."""
    refusals = [line for line in facts.log if "ValidatingAdmissionPolicy" in line]
    if refusals and case.entry is None and case.machine["namespace"] not in case.mesh.blind:
        _, _, said = refusals[-1].partition("ValidatingAdmissionPolicy")
        yield Found(
            f"Kubernetes refuses the WorkloadEntry that istiod would make of it: ValidatingAdmissionPolicy{said}",
            "/var/log/istio/istio.log",
        )


def _config_rejected(case: Case) -> Iterator[Found]:
    for state in case.states or ():
        if state.get("proxy") != case.proxy:
            continue
        for kind, resource in sorted((state.get("resources") or {}).items()):
            if resource.get("lastError"):
                yield Found(
                    f"Envoy refused {kind.rpartition('.')[2]} from istiod, and goes on with what it had: "
                    f"{' '.join(resource['lastError'].split())[:600]}",
                    "istiod, /debug/syncz",
                )


def _out_of_sync(case: Case) -> Iterator[Found]:
    if is_connected(case.entry) and case.states is not None:
        objection = sync_objection(case.states, case.proxy)
        if objection:
            yield Found(objection.partition(". ")[0], "istiod, /debug/syncz")


def _entry_unhealthy(case: Case) -> Iterator[Found]:
    if case.entry is None or not (is_probed(case.entry) and is_reported(case.entry) and is_connected(case.entry)):
        return
    healthy, said = health(case.entry)
    if not healthy:
        yield Found(f"its app is not healthy by the workload's probe: {said}", f"WorkloadEntry {case.machine['entry']}")


def _health_unheard(case: Case) -> Iterator[Found]:
    if case.entry is not None and case.group is not None and report_is_lost(case.entry, case.group, case.now):
        yield Found(
            "istiod has lost what it said of its app's health, so that nobody calls it",
            f"WorkloadEntry {case.machine['entry']}",
        )


def _labels_drifted(case: Case) -> Iterator[Found]:
    if case.entry is None or case.group is None:
        return
    spec = case.group.get("spec") or {}
    labels = dict((spec.get("metadata") or {}).get("labels") or {})
    if case.machine.get("locality"):
        labels[LOCALITY_LABEL] = case.machine["locality"].replace("/", ".")
    patch = entry_patch(case.entry, case.machine["workload"], labels, {}, probed=True)
    wrong = {**patch.get("metadata", {}).get("labels", {}), **patch.get("spec", {}).get("labels", {})}
    if wrong:
        own = case.entry.get("spec") or {}
        there = {**(case.entry["metadata"].get("labels") or {}), **(own.get("labels") or {})}
        changes = ", ".join(
            f"{key} is {there.get(key, 'not there')}, should be {value or 'away'}" for key, value in wrong.items()
        )
        yield Found(
            f"its WorkloadEntry's labels are not its WorkloadGroup's: {changes}. Subsets and policies select by them",
            f"WorkloadEntry {case.machine['entry']}",
        )


def _endpoint_missing(case: Case) -> Iterator[Found]:
    if case.workload is None or not case.workload["host"] or not any(case.mesh.istiods.values()) or case.entry is None:
        return
    if case.mesh.endpoints is None:
        return
    mine = [e for e in case.mesh.endpoints if e.address == case.machine["meshAddress"]]
    mine = [e for e in mine if e.service == case.workload["host"]]
    if not mine:
        yield Found(
            f"istiod has no endpoint {case.machine['meshAddress']} for {case.workload['host']}: nobody calls it",
            "istiod, /debug/endpointShardz",
        )


def _policy_denies(case: Case) -> Iterator[Found]:
    labels = ((case.entry or {}).get("spec") or {}).get("labels") or {}
    there = case.mesh.policies.get(case.machine["namespace"], [])
    if case.machine["namespace"] in case.mesh.blind:
        there = []  # its entry's labels tell which of them select it
    mine = [p for p in there if _selects(p, labels) and not _is_tried(p)]
    refusing = [_policy_name(p) for p in mine if _action(p) == "DENY" and {} in _rules(p)]
    allowing = [p for p in mine if _action(p) == "ALLOW"]
    if allowing and not any(_rules(p) for p in allowing):
        refusing += [_policy_name(p) for p in allowing]
    if refusing:
        own = {f"{case.machine['namespace']}/{case.machine['workload']}-default-deny"}
        yield Found(
            f"every call to it is refused by AuthorizationPolicy {', '.join(refusing)}",
            "Kubernetes",
            # The stack's settings ask for it.
            severity="note" if set(refusing) == own else None,
        )
        return
    stats = case.facts.stats if case.facts else {}
    denied = sum(int(v) for k, v in stats.items() if k.endswith("rbac.denied") and re.fullmatch("[0-9]{1,20}", v))
    if denied:
        last = f"; the last: {case.facts.denied[-1]}" if case.facts and case.facts.denied else ""
        yield Found(
            f"policies have refused {denied} calls to it since its proxy started{last}",
            "Envoy's counter rbac.denied",
            ""
            if last
            else "hybrid-mesh:access says who may call what. Which rule refused what stands here once there is an "
            "access log: `sidecar.accessLog: errors`, and pulumi up, which restarts nothing (docs/security.md).",
            severity="note",
        )


def _plain_text_refused(facts: MachineFacts, case: Case) -> Iterator[Found]:
    """With STRICT mTLS an app's port has filter chains for TLS alone; a gateway's look at names, too."""
    if case.workload is not None and facts.unmatched:
        yield Found(
            f"somebody calls it in plain text, which strict mTLS refuses; the last: {facts.unmatched[-1]}",
            "/var/log/istio/istio.log",
        )


def _selects(policy: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    spec = policy.get("spec") or {}
    if spec.get("targetRefs") or spec.get("targetRef"):
        return False
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _action(policy: Mapping[str, Any]) -> str:
    return str((policy.get("spec") or {}).get("action") or "ALLOW")


def _is_tried(policy: Mapping[str, Any]) -> bool:
    """Whether it only counts what it would refuse (dry run)."""
    annotations = policy["metadata"].get("annotations") or {}
    return str(annotations.get("istio.io/dry-run", "")).lower() in ("1", "t", "true")


def _rules(policy: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (policy.get("spec") or {}).get("rules") or []


def _policy_name(policy: Mapping[str, Any]) -> str:
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def _istiod_down(case: Case) -> Iterator[Found]:
    namespace = case.topology["controlPlane"]["namespace"]
    for revision, ready in case.mesh.istiods.items():
        if ready == 0:
            yield Found(
                f"no istiod of revision {revision} is ready: proxies that follow it go on with what they know, and "
                "their certificates are not renewed",
                f"pods app=istiod,istio.io/rev={revision} in {namespace}",
                f"`kubectl get pods -n {namespace} -l app=istiod,istio.io/rev={revision}`; then `kubectl describe` and "
                "`kubectl logs --previous` of what is not ready.",
            )


def _gateway_down(case: Case) -> Iterator[Found]:
    if case.mesh.gateways == 0:
        name, namespace = case.topology["gateway"]["name"], case.topology["controlPlane"]["namespace"]
        yield Found(
            f"no pod of the gateway {name} is ready: VMs do not reach istiod",
            f"pods in {namespace}",
            f"`kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={name}` names its pods; then "
            "`kubectl describe` and `kubectl logs --previous` of what is not ready.",
        )


def _subset_empty(case: Case) -> Iterator[Found]:
    if case.mesh.endpoints is None:
        return
    for name, workload in sorted(case.topology["workloads"].items()):
        for subset, labels in sorted((workload["subsets"] or {}).items()):
            share = (workload["weights"] or {}).get(subset, 0)
            mine = [e for e in case.mesh.endpoints if e.service == workload["host"] and e.healthy]
            if share and not any(labels.items() <= dict(e.labels).items() for e in mine):
                yield Found(
                    f"subset {subset} of {name} gets {share:g} % of the requests, and has no endpoint: they fail with "
                    "503",
                    "istiod, /debug/endpointShardz",
                    "mend what is said of its machines, or the pods that do not get ready. Until then set its weight "
                    f"to 0 under `routing.{name}.weights`, and update the route alone, which waits for no pods: "
                    f"`pulumi up --target '**:mesh-{name}-destination-rule' "
                    f"--target '**:mesh-{name}-virtual-service'`.",
                )


def _member_unhealthy(case: Case) -> Iterator[Found]:
    for name, machine in others(case.topology, case.mesh.entries).items():
        entry = case.mesh.entries[machine["entry"]]
        if not (is_probed(entry) and is_reported(entry)):
            continue
        healthy, said = health(entry)
        if not healthy:
            yield Found(
                f"{name}, a machine that joined {machine['workload']} by itself, is not healthy by the workload's "
                f"probe: {said}",
                f"WorkloadEntry {machine['entry']}",
            )


def _another_workload(case: Case) -> Iterator[Found]:
    workloads = {(workload["namespace"], name) for name, workload in case.topology["workloads"].items()}
    for path, entry in sorted(case.mesh.entries.items()):
        group, label = group_of(entry), ((entry.get("spec") or {}).get("labels") or {}).get("app", "")
        if group and label != group and (entry["metadata"]["namespace"], label) in workloads:
            yield Found(
                f"a machine that joined as {group} says that it is {label}: requests to {label} may come to it",
                f"WorkloadEntry {path}: label app",
            )


def _farther_than_others(case: Case) -> Iterator[Found]:
    machines = {machine["meshAddress"]: name for name, machine in case.topology["machines"].items()}
    for name, workload in sorted(case.topology["workloads"].items()):
        subsets = sorted(workload["subsets"] or {}) or [""]
        for cluster, endpoints in sorted(case.mesh.passed_over.items()):
            _, port, subset, host = [*cluster.split("|"), "", "", ""][:4]
            if host != workload["host"] or subset not in subsets:
                continue
            addresses = [endpoint.rpartition(":")[0].strip("[]") for endpoint in endpoints]
            named = ", ".join(f"{machines[a]} ({a})" if a in machines else a for a in addresses)
            yield Found(
                f"{named}: no request to {name}:{port}{f', subset {subset},' if subset else ''} goes there from pods; "
                "each has enough healthy endpoints of it nearer to it",
                "/clusters of the pods' proxies: priority",
            )


DIAGNOSES = (
    Diagnosis(
        id="not-connected",
        title="The machine is not in the mesh",
        severity="critical",
        check=_not_connected,
        remedy="pulumi up joins it again; /var/log/istio/istio.log there tells why it is out.",
        explained_by=CANNOT_COME,
    ),
    Diagnosis(
        id="registration-refused",
        title="Kubernetes refuses to register the machine",
        severity="critical",
        check=of_facts(_registration_refused),
        remedy="by the labels that it says it has, a Service takes it that does not take its WorkloadGroup. If nobody "
        "has changed ISTIO_METAJSON_LABELS in cluster.env there, compare the Service's selector with the workload's "
        "labels, and those of the instance in its cloud; else see who is on the machine (docs/security.md).",
    ),
    Diagnosis(
        id="config-rejected",
        title="Envoy refused its configuration",
        severity="critical",
        check=_config_rejected,
        remedy="correct the Istio object that the message names: the newest EnvoyFilter, as a rule.",
    ),
    Diagnosis(
        id="out-of-sync",
        title="The machine is behind istiod",
        severity="warning",
        check=_out_of_sync,
        remedy="look again in a minute; if it stays, see /var/log/istio/istio.log there; `systemctl restart istio`.",
        explained_by=CANNOT_COME | {"config-rejected"},
    ),
    Diagnosis(
        id="entry-unhealthy",
        title="The application is not healthy",
        severity="critical",
        check=_entry_unhealthy,
        remedy="put the application right; the probe puts the machine back by itself (docs/health.md).",
        explained_by=frozenset({"app-not-listening"}),
    ),
    Diagnosis(
        id="health-unheard",
        title="Nothing is known of the application's health",
        severity="critical",
        check=_health_unheard,
        remedy="pulumi up, which lets it connect anew; or `systemctl restart istio` on the machine.",
        explained_by=frozenset({"app-not-listening", "proxy-not-ready"}),
    ),
    Diagnosis(
        id="labels-drifted",
        title="The WorkloadEntry's labels are not its group's",
        severity="warning",
        check=_labels_drifted,
        remedy="pulumi up --refresh; or delete the WorkloadEntry and `systemctl restart istio` on the machine.",
    ),
    Diagnosis(
        id="endpoint-missing",
        title="The machine is no endpoint of its service",
        severity="critical",
        check=_endpoint_missing,
        remedy="compare the WorkloadEntry's labels with the selector of the Service or ServiceEntry; see istiod's log.",
        explained_by=CANNOT_COME
        | {"not-connected", "entry-unhealthy", "health-unheard", "app-not-listening", "labels-drifted"},
    ),
    Diagnosis(
        id="policy-denies",
        title="A policy refuses calls",
        severity="warning",
        check=_policy_denies,
        remedy="hybrid-mesh:access says who may call what (docs/security.md); a policy of somebody else's is theirs.",
    ),
    Diagnosis(
        id="plain-text-refused",
        title="Callers without the mesh's TLS are refused",
        severity="note",
        check=of_facts(_plain_text_refused),
        remedy="the last address of that line is the caller's (`kubectl get pods -A -o wide`): it has no sidecar, its "
        "proxy does not run, or it is a load balancer's health check, which belongs to 15021.",
    ),
    Diagnosis(
        id="istiod-down",
        title="istiod is down",
        severity="critical",
        check=_istiod_down,
        of_stack=True,
    ),
    Diagnosis(
        id="gateway-down",
        title="The east-west gateway is down",
        severity="critical",
        check=_gateway_down,
        of_stack=True,
    ),
    Diagnosis(
        id="subset-empty",
        title="A subset has no endpoints",
        severity="critical",
        check=_subset_empty,
        explained_by=frozenset({"istiod-down"}),
        of_stack=True,
    ),
    Diagnosis(
        id="member-unhealthy",
        title="The application on a fleet's machine is not healthy",
        severity="warning",
        check=_member_unhealthy,
        remedy="see its serial console, or `journalctl` there; its group replaces it only if its proxy is not ready.",
        of_stack=True,
    ),
    Diagnosis(
        id="another-workload",
        title="A machine answers for another workload",
        severity="critical",
        check=_another_workload,
        remedy="nothing that the stack does leads to that: see who is on the machine. Take it out of the settings, and "
        "delete the WorkloadEntry (docs/security.md, what somebody can do who has stolen a VM).",
        of_stack=True,
    ),
    Diagnosis(
        id="farther-than-others",
        title="Others are nearer to all callers",
        severity="note",
        check=_farther_than_others,
        remedy="none, where the far ones stand by for the near ones; else give all a locality, or spread the requests "
        "over all (docs/traffic.md#locality).",
        of_stack=True,
    ),
)
