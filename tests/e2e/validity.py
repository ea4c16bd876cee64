"""Whether what a stack applies is valid to Kubernetes' API server, to Istio's webhook and to `istioctl analyze`."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from lab.instance import PROJECT_ROOT
from tests.e2e.mesh import ask_kubectl
from tests.e2e.stack import Stack
from tests.environment import Lab


@dataclass(frozen=True)
class Known:
    """A finding of `istioctl analyze` that is no fault: it counts pods alone. docs/security.md lists the objects."""

    code: str
    origin: str
    """Kind, namespace and name of the object."""
    about: str = ""
    """The beginning of the message, where one object may have several."""

    def is_in(self, finding: dict[str, Any]) -> bool:
        """Whether it is what was found."""
        same = (finding["code"], finding["origin"].split(" (")[0]) == (self.code, self.origin)
        return same and str(finding["message"]).startswith(self.about)


def only_vms_in_subset(workload: str) -> Known:
    """A subset `vm` that no pod is in."""
    return Known("IST0173", f"DestinationRule demo/{workload}", "The Subset vm ")


def only_vms_under(policy: str) -> Known:
    """An AuthorizationPolicy for a workload without pods."""
    return Known("IST0127", f"AuthorizationPolicy demo/{policy}")


def wildcard_host(namespace: str) -> Known:
    """A namespace's rule: it looks for a Service of that very name, where Istio does match `*`."""
    return Known("IST0174", f"DestinationRule {namespace}/namespace-default", f"The host *.{namespace}.")


def only_vms_selected(kind: str, name: str, namespace: str = "demo") -> Known:
    """A `Gateway`, `Sidecar` or `Telemetry` whose selector no pod fits."""
    return Known("IST0101", f"{kind} {namespace}/{name}")


def assert_analyzed(lab: Lab, known: set[Known], *namespaces: str) -> None:
    """`istioctl analyze` finds in the namespaces all that is known, and nothing else; the docs list each object."""
    page = (PROJECT_ROOT / "docs" / "security.md").read_text()
    assert [one for one in known if f"| {one.code} | `{one.origin}`" not in page] == []
    found: list[dict[str, Any]] = []
    for namespace in namespaces:
        done = subprocess.run(
            [str(lab.bin / "istioctl"), "analyze", "--namespace", namespace, "--output", "json"],
            env=lab.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout.strip(), done.stderr
        found += json.loads(done.stdout) or []
    unknown = [finding for finding in found if not any(one.is_in(finding) for one in known)]
    assert unknown == [], [f"{f['code']} {f['origin']}: {f['message']}" for f in unknown]
    gone = {one for one in known if not any(one.is_in(finding) for finding in found)}
    assert gone == set(), "no longer found: take it out here, and out of docs/security.md"


def assert_valid(lab: Lab, stack: Stack) -> set[str]:
    """Every object of the stack passes strict validation and Istio's webhook, unchanged; gives their kinds."""
    objects = [
        resource["inputs"]
        for resource in stack.resources()
        if resource["type"].startswith("kubernetes:") and "kind" in resource.get("inputs", {})
    ]
    for document in objects:
        # A field that a CRD does not know is dropped in silence unless validation is strict.
        answer = ask_kubectl(
            lab,
            *("apply", "--server-side", "--dry-run=server", "--validate=strict"),
            *("--field-manager=check", "--force-conflicts", "--filename=-"),
            document=document,
        )
        assert answer.returncode == 0, f"{document['kind']} {document['metadata']}: {answer.stderr}"
        assert "Warning" not in answer.stderr, f"{document['kind']} {document['metadata']}: {answer.stderr}"
    return {document["kind"] for document in objects}
