"""When a machine counts as a member, and what is said when it does not."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hybridmesh.providers.cluster import ClusterError, UnansweredError
from hybridmesh.providers.membership import MembershipProvider, sync_objection
from tests.providers.fake_cluster import FakeCluster, entry, state
from tests.providers.unknown import unknown

NAME = "demo/echo-192.0.2.11"
INPUTS: dict[str, Any] = {
    "kubeconfig": "kubeconfig",
    "requestSeconds": 15.0,
    "machine": "vm-1",
    "namespace": "demo",
    "entry": "echo-192.0.2.11",
    "group": "echo",
    "labels": {"app": "echo", "version": "vm"},
    "ports": {"http": 8080.0},
    "proxy": "vm-1.demo",
    "istioNamespace": "istio-system",
    "revision": "default",
    "probed": True,
    "joined": "digest",
    "syncSeconds": 120.0,
}


@pytest.fixture
def member(cluster: FakeCluster) -> FakeCluster:
    cluster.entries = {NAME: entry(healthy=True)}
    cluster.states = [state()]
    return cluster


def refused(**changes: object) -> str:
    with pytest.raises(ClusterError) as error:
        MembershipProvider().create({**INPUTS, **changes})
    return str(error.value)


def test_a_member_is_registered_in_sync_and_healthy(member: FakeCluster) -> None:
    made = MembershipProvider().create({**INPUTS, "brought": "{}"})
    assert made.outs is not None
    assert "brought" not in made.outs, "the state has it once"
    assert (made.outs["registration"], made.outs["address"], made.outs["synced"]) == (NAME, "192.0.2.11", True)
    assert member.done == [], "an entry that is up to date is not touched"


def test_what_only_a_preview_tells_is_no_reason_to_look() -> None:
    old = {**INPUTS, "brought": None}
    assert MembershipProvider().diff("id", old, {**INPUTS, "brought": "{}"}).changes is False


def test_it_waits_for_a_machine_that_is_on_its_way(member: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [None, entry(connected=False), entry(healthy=False), entry(healthy=True)]
    asked = iter(answers + [answers[-1]] * 10)
    monkeypatch.setattr(member, "workload_entry", lambda *_: next(asked))
    assert MembershipProvider().create(dict(INPUTS)).outs is not None


def test_a_request_that_was_not_answered_does_not_end_the_wait(
    member: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [UnansweredError("503"), entry(healthy=False), entry(healthy=True), UnansweredError("503")]

    def answer(*_: str) -> Any:
        given = answers.pop(0) if answers else entry(healthy=True)
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(member, "workload_entry", answer)
    made = MembershipProvider().create(dict(INPUTS))
    assert made.outs is not None
    assert made.outs["address"] == "192.0.2.11"
    assert answers == []


def test_a_cluster_that_answers_no_more_is_said_at_the_limit(
    member: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: str) -> Any:
        raise UnansweredError("could not read it.")

    monkeypatch.setattr(member, "workload_entry", never)
    assert refused() == "vm-1 is not in the mesh after 120 s: could not read it."


def test_every_refusal_names_machine_check_and_remedy(member: FakeCluster) -> None:
    member.entries = {}
    assert refused().startswith(f"vm-1 is not in the mesh after 120 s: there is no WorkloadEntry {NAME}. ")
    assert "istio.err.log" in refused()


def test_a_disconnected_proxy_is_no_member(member: FakeCluster) -> None:
    member.entries = {NAME: entry(connected=False)}
    assert "not connected to istiod. Check the way from the VM to the gateway's port 15012" in refused()


def test_a_proxy_that_no_istiod_lists_is_no_member(member: FakeCluster) -> None:
    member.states = [state(proxy="vm-2.demo")]
    assert "istiod does not list its proxy vm-1.demo" in refused()


def test_what_is_sent_and_not_acknowledged_is_named(member: FakeCluster) -> None:
    member.states = [state(Listener={"sent": "n2", "acked": "n1"})]
    assert "has not acknowledged Listener" in refused()


def test_what_the_proxy_refused_is_named_with_its_reason(member: FakeCluster) -> None:
    member.states = [state(Listener={"sent": "n2", "acked": "n1", "lastError": "bad port"})]
    assert "refused Listener from istiod: bad port" in refused()
    member.states = [state(Listener={"sent": "n2", "acked": "n1", "lastError": "\x1b[2Jbad port"})]
    assert "refused Listener from istiod: \\x1b[2Jbad port" in refused(), "the proxy's own words"


def test_a_proxy_that_has_been_sent_nothing_is_not_in_sync() -> None:
    assert "istiod has not sent it Cluster" in sync_objection([state(Cluster={})], "vm-1.demo")
    assert "istiod has not sent it Listener" in sync_objection([state(Listener={})], "vm-1.demo")


def test_a_type_that_was_asked_for_and_never_sent_does_not_count() -> None:
    assert sync_objection([state(Secret={})], "vm-1.demo") == ""


def test_a_proxy_that_moved_is_in_sync_if_one_istiod_says_so() -> None:
    old, new = state(Listener={"sent": "n2", "acked": "n1"}), state()
    assert sync_objection([old, new], "vm-1.demo") == ""
    assert sync_objection([old, old], "vm-1.demo") != ""


def test_an_unhealthy_app_is_no_member_and_the_probe_is_quoted(member: FakeCluster) -> None:
    member.entries = {NAME: entry(healthy=False)}
    assert refused().endswith(
        "not healthy by the workload's probe: connection refused. Start the app, or correct the probe."
    )
    member.entries[NAME]["status"]["conditions"][0]["message"] = "\x1b[2J"
    assert "probe: \\x1b[2J. Start" in refused()


def test_a_machine_whose_health_istiod_has_lost_is_told_apart_from_one_that_is_unhealthy(member: FakeCluster) -> None:
    silent = entry()
    silent["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = "echo"
    member.entries = {NAME: silent}
    member.custom = {"demo/workloadgroups": [{"metadata": {"name": "echo"}, "spec": {"probe": {"periodSeconds": 2}}}]}
    assert refused().endswith(
        "istiod has lost what the VM said of it, as happens when it is busy, and the VM says it once. Run `pulumi up` "
        "again, by which it connects anew."
    )


def test_the_groups_are_asked_for_once_and_not_while_it_waits(
    member: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = entry()
    silent["metadata"]["annotations"]["istio.io/autoRegistrationGroup"] = "echo"
    member.entries = {NAME: silent}
    asked: list[str] = []

    def objects_in(*place: str) -> list[dict[str, Any]]:
        asked.append(place[2])
        return []

    monkeypatch.setattr(member, "objects_in", objects_in)
    assert "the probe has not answered yet" in refused()
    assert asked == ["workloadgroups"]


def test_istiod_is_asked_once_the_app_is_healthy_and_for_what_is_said_in_the_end(
    member: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def sync_states(*_: str) -> list[dict[str, Any]]:
        asked.append("istiod")
        return [state(Cluster={})]

    monkeypatch.setattr(member, "sync_states", sync_states)
    member.entries = {NAME: entry(healthy=False)}
    said = refused()
    assert said.index("Start the app") < said.index("istiod has not sent it Cluster")
    assert asked == ["istiod"]


def stale_entry(connected: datetime) -> dict[str, Any]:
    """One whose app was healthy in an earlier life of its proxy."""
    made = entry(healthy=True)
    made["metadata"]["annotations"]["istio.io/connectedAt"] = connected.isoformat()
    made["status"]["conditions"][0]["lastProbeTime"] = (connected - timedelta(seconds=1)).isoformat()
    return made


def test_an_app_that_was_healthy_before_its_proxy_connected_is_looked_at_anew(
    member: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.custom = {"demo/workloadgroups": [{"metadata": {"name": "echo"}, "spec": {"probe": {"periodSeconds": 2}}}]}
    member.entries = {NAME: stale_entry(datetime.now(UTC))}
    asked: list[str] = []
    groups = member.objects_in

    def objects_in(group: str, version: str, plural: str, namespace: str) -> Sequence[Mapping[str, Any]]:
        asked.append(plural)
        return groups(group, version, plural, namespace)

    monkeypatch.setattr(member, "objects_in", objects_in)
    assert "its app is not healthy by the workload's probe: the probe has not answered since the proxy" in refused()
    assert 1 <= len(asked) <= 120 / 5 + 1, "the same for all that wait, every five seconds"


def test_what_was_said_before_counts_once_the_agent_must_have_spoken(member: FakeCluster) -> None:
    member.custom = {"demo/workloadgroups": [{"metadata": {"name": "echo"}, "spec": {"probe": {"periodSeconds": 2}}}]}
    member.entries = {NAME: stale_entry(datetime.now(UTC) - timedelta(minutes=5))}
    assert MembershipProvider().create(dict(INPUTS)).outs is not None


def test_without_a_probe_health_is_not_asked_for(member: FakeCluster) -> None:
    made = entry()
    del made["metadata"]["annotations"]["proxy.istio.io/health-checks-enabled"]
    member.entries = {NAME: made}
    assert MembershipProvider().create({**INPUTS, "probed": False}).outs is not None


def test_a_stale_entry_gets_the_labels_and_ports_of_its_group(member: FakeCluster) -> None:
    MembershipProvider().update(
        "id", {}, {**INPUTS, "labels": {"app": "echo", "version": "v2", "team": "shop"}, "ports": {"grpc": 9000.0}}
    )
    there = member.entries[NAME]
    wanted = {
        "app": "echo",
        "version": "v2",
        "team": "shop",
        "service.istio.io/canonical-name": "echo",
        "service.istio.io/canonical-revision": "v2",
    }
    assert there["metadata"]["labels"] == wanted
    assert there["spec"]["labels"] == wanted
    assert there["spec"]["ports"] == {"grpc": 9000}
    assert there["spec"]["address"] == "192.0.2.11"
    assert member.done == [f"patch {NAME}"]


def test_a_machine_s_locality_comes_to_its_stale_entry_and_goes_from_it(member: FakeCluster) -> None:
    there = {**INPUTS["labels"], "topology.istio.io/locality": "eu.a"}
    MembershipProvider().update("id", {}, {**INPUTS, "labels": there})
    assert member.entries[NAME]["spec"]["locality"] == "eu/a"
    MembershipProvider().update("id", {}, dict(INPUTS))
    assert "locality" not in member.entries[NAME]["spec"]
    member.entries[NAME]["spec"]["locality"] = "cloud/z"
    MembershipProvider().update("id", {}, dict(INPUTS))
    assert member.entries[NAME]["spec"]["locality"] == "cloud/z", "what no label tells is left alone"


def test_a_label_that_is_dropped_leaves_the_entry(member: FakeCluster) -> None:
    labels = {**member.entries[NAME]["spec"]["labels"], "old": "yes"}
    member.entries = {NAME: entry(labels=labels, healthy=True)}
    MembershipProvider().update("id", {}, dict(INPUTS))
    assert "old" not in member.entries[NAME]["spec"]["labels"]


def test_a_probe_that_is_dropped_ends_health_checks_of_the_entry(member: FakeCluster) -> None:
    MembershipProvider().update("id", {}, {**INPUTS, "probed": False})
    assert "proxy.istio.io/health-checks-enabled" not in member.entries[NAME]["metadata"]["annotations"]


def test_a_new_join_is_looked_at_anew_and_nothing_else_is() -> None:
    def changes(**news: object) -> bool | None:
        return MembershipProvider().diff("id", {**INPUTS, "synced": True}, {**INPUTS, **news}).changes

    assert changes() is False
    assert changes(syncSeconds=5.0) is False
    assert changes(joined="other") is True
    assert changes(joined=unknown()) is True
    assert changes(labels={"app": "echo"}) is True
    for key in ("namespace", "entry", "staticEntry", "group", "ports", "probed", "proxy", "revision", "istioNamespace"):
        assert changes(**{key: "other"}) is True, key
    for key in ("kubeconfig", "context"):
        assert changes(**{key: "other"}) is True, f"a refresh goes by its {key}"


def test_a_refresh_sees_an_entry_that_was_edited_and_the_update_puts_it_right(member: FakeCluster) -> None:
    state = MembershipProvider().create(dict(INPUTS)).outs
    assert state is not None
    assert MembershipProvider().read("id", state).outs == state
    member.entries[NAME]["spec"]["labels"]["version"] = "hand"
    edited = MembershipProvider().read("id", state).outs
    assert edited is not None
    assert member.done == [], "a refresh changes nothing"
    assert MembershipProvider().diff("id", edited, dict(INPUTS)).changes
    MembershipProvider().update("id", edited, dict(INPUTS))
    assert member.entries[NAME]["spec"]["labels"]["version"] == "vm"


def test_a_refresh_that_sees_no_entry_or_no_cluster_leaves_what_is_known(
    member: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {**INPUTS, "synced": True}
    member.entries = {}
    assert MembershipProvider().read("id", dict(state)).outs == state, "the token's look says that it is out"

    def refuse(*_: str) -> None:
        raise ClusterError("could not read it.")

    monkeypatch.setattr(member, "workload_entry", refuse)
    left = MembershipProvider().read("id", dict(state))
    assert (left.id, left.outs) == ("id", state)


def test_a_static_entry_that_was_edited_is_the_stacks_own_to_put_right(member: FakeCluster) -> None:
    state = {**INPUTS, "staticEntry": True}
    member.entries[NAME]["spec"]["labels"]["version"] = "hand"
    assert MembershipProvider().read("id", state).outs == state
    assert MembershipProvider().update("id", state, dict(state)).outs is not None
    assert member.done == []


def test_a_static_entry_that_somebody_has_deleted_is_not_the_machine_s_fault(member: FakeCluster) -> None:
    member.entries = {}
    assert refused(staticEntry=True).endswith(
        f"there is no WorkloadEntry {NAME}, though the stack has made it: somebody has deleted it. Run "
        "`pulumi up --refresh`."
    )
