"""What istiod says of the proxies that it serves (`/debug/syncz`; istio, `pilot/pkg/xds/debug.go`)."""

from collections.abc import Mapping, Sequence
from typing import Any

_NEEDED = ("Cluster", "Listener")


def sync_objection(states: Sequence[Mapping[str, Any]], proxy: str) -> str:
    """Why a proxy is not in sync by what all istiods say, with the remedy; empty if it is.

    In sync: every type that istiod has sent is acknowledged, none was refused, and clusters and listeners are
    among them. A proxy that has moved from one istiod to another is listed by both for a while.
    """
    mine = [state for state in states if state.get("proxy") == proxy]
    if not mine:
        return f"istiod does not list its proxy {proxy}. Check that istiod runs, and the VM's /var/log/istio."
    objections = [_resources_objection(state.get("resources") or {}) for state in mine]
    return "" if "" in objections else objections[0]


def _resources_objection(resources: Mapping[str, Mapping[str, str]]) -> str:
    refused = {t: r["lastError"] for t, r in resources.items() if r.get("lastError")}
    if refused:
        kind, said = next(iter(sorted(refused.items())))
        reason = " ".join(said.split())
        return f"its proxy refused {_short(kind)} from istiod: {reason}. Correct the Istio object that this names."
    waiting = sorted(_short(t) for t, r in resources.items() if r.get("sent") and r.get("sent") != r.get("acked"))
    if waiting:
        return f"its proxy has not acknowledged {', '.join(waiting)}. Look at /var/log/istio on the VM."
    sent = {_short(t) for t, r in resources.items() if r.get("sent")}
    missing = sorted(set(_NEEDED) - sent)
    return f"istiod has not sent it {', '.join(missing)} yet. Look at istiod's log." if missing else ""


def _short(type_url: str) -> str:
    return type_url.rpartition(".")[2]
