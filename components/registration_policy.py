"""What a VM may say of itself as it registers: nothing that makes it an endpoint of another workload."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from hybridmesh.istio.names import AUTO_REGISTRATION_ANNOTATION, NAME_LABEL, canonical_service

from .after import after

_APP: Final = '"app"'
_API: Final = "admissionregistration.k8s.io/v1"
_SELECTORS: Final = {
    "Service": ("v1", "has(params.spec.selector) ? params.spec.selector : {}"),
    "ServiceEntry": (
        "networking.istio.io/v1",
        "has(params.spec.workloadSelector) && has(params.spec.workloadSelector.labels)"
        " ? params.spec.workloadSelector.labels : {}",
    ),
}
"""What has endpoints, and by which labels it finds those among VMs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistrationPolicyArgs:
    """Inputs of `RegistrationPolicy`."""

    group: str
    """The WorkloadGroup's name."""
    namespace: pulumi.Input[str]
    """The WorkloadGroup's namespace."""
    labels: Mapping[str, str]
    """The labels that the WorkloadGroup gives its VMs."""


class RegistrationPolicy(pulumi.ComponentResource):
    """Owns the ValidatingAdmissionPolicies of one WorkloadGroup, and what binds them.

    istiod takes a VM's labels from the VM (istio, `pilot/pkg/autoregistration/controller.go`, workloadEntryFromGroup).
    Kubernetes refuses the WorkloadEntry that istiod would make of them if its `app` is not the group's, or a Service or
    ServiceEntry of the namespace selected it, and does not select the group. Other labels are let pass: a VM of
    Google's may bring its instance's, and one that has not had its turn yet those of before a change. So is any later
    change of an entry, for istiod changes no labels of one that is there, and whoever else does has a right to.

    It does not own the group, nor judge an entry that somebody has written.
    """

    namespace: pulumi.Output[str]
    """The group's namespace, for the group itself: no VM registers by it before this is in force."""

    def __init__(self, name: str, args: RegistrationPolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "hybridmesh:registration_policy:RegistrationPolicy",
            name,
            {"group": args.group, "namespace": args.namespace},
            opts,
        )
        self._name, self._args = name, args
        namespace = pulumi.Output.from_input(args.namespace)
        self.namespace = namespace
        for kind in _SELECTORS:
            self.namespace = after(self._make(kind, namespace), self.namespace)
        self.register_outputs({})

    def _make(self, kind: str, namespace: pulumi.Output[str]) -> CustomResource:
        """The policy for what is of a kind; its binding."""
        group, labels, role = self._args.group, self._args.labels, kind.lower()
        child = pulumi.ResourceOptions(parent=self)
        # They are the cluster's. By the group's name and namespace, with dots, no other stack's are called so.
        own = namespace.apply(lambda there: f"{group}.{there}.{role}.hybrid-mesh")
        policy = CustomResource(
            f"{self._name}-{role}-policy",
            api_version=_API,
            kind="ValidatingAdmissionPolicy",
            metadata=ObjectMetaArgs(name=own),
            spec=namespace.apply(lambda there: policy_spec(kind, group, there, labels)),
            opts=child,
        )
        return CustomResource(
            f"{self._name}-{role}-binding",
            api_version=_API,
            kind="ValidatingAdmissionPolicyBinding",
            metadata=ObjectMetaArgs(name=own),
            spec={
                "policyName": after(policy, own),
                # Each of the entry's own namespace. Where there is none, none selects it.
                "paramRef": {"selector": {}, "parameterNotFoundAction": "Allow"},
                "validationActions": ["Deny"],
            },
            opts=child,
        )


def policy_spec(kind: str, group: str, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A policy's spec, for what is of `kind`."""
    version, selector = _SELECTORS[kind]
    there, key = "object.metadata.annotations", json.dumps(AUTO_REGISTRATION_ANNOTATION)
    return {
        # It fails only if it cannot be worked out, and lets nobody in then; nothing else depends on it.
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": version, "kind": kind},
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {NAME_LABEL: namespace}},
            "resourceRules": [
                {
                    "apiGroups": ["networking.istio.io"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE"],
                    "resources": ["workloadentries"],
                }
            ],
        },
        "matchConditions": [
            {
                "name": "registers-by-the-group",
                "expression": f"has({there}) && {key} in {there} && {there}[{key}] == {json.dumps(group)}",
            }
        ],
        "variables": [
            # JSON of texts is CEL, too.
            {"name": "group", "expression": json.dumps(canonical_service(labels, group).on(labels), sort_keys=True)},
            {"name": "entry", "expression": "has(object.spec.labels) ? object.spec.labels : {}"},
            {"name": "selector", "expression": selector},
        ],
        "validations": [
            {
                # By it all of a stack's own Services select, those that it has yet to make, too.
                "expression": f"!({_APP} in variables.entry) || !({_APP} in variables.group)"
                f" || variables.entry[{_APP}] == variables.group[{_APP}]",
                "message": f"this VM says that it has another label app than WorkloadGroup {namespace}/{group}",
            },
            {
                "expression": f"!{_selects('entry')} || {_selects('group')}",
                "messageExpression": f"{json.dumps(f'{kind} {namespace}/')} + params.metadata.name + "
                + json.dumps(f" selects this VM by the labels that it says it has, and not WorkloadGroup {group}"),
            },
        ],
    }


def _selects(labels: str) -> str:
    """Whether the variable `selector` selects what has the labels of another variable."""
    wanted, there = "variables.selector", f"variables.{labels}"
    return f"{wanted}.all(key, key in {there} && {there}[key] == {wanted}[key])"
