"""Another istiod beside the first: a second control plane of the same mesh."""

from dataclasses import dataclass, field, replace
from typing import Any

import pulumi

from hybridmesh.istio import istiod_host
from hybridmesh.istio.nested import merged

from .after import after
from .control_plane import (
    ControlPlaneArgs,
    HelmCharts,
    adopted_mesh_config,
    chart_version,
    charts_to_install,
    istiod_release,
    released_mesh_config,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RevisionArgs:
    """Inputs of `Revision`."""

    plane: ControlPlaneArgs
    """The control plane that it stands beside: mesh, namespace, charts and values are the same but for what follows."""
    revision: str
    """Its revision."""
    follows: pulumi.Input[str]
    """Istio's root namespace, as an output of that control plane: its CRDs come first, and go last."""
    charts: HelmCharts | None = None
    """Where its chart comes from; default as the control plane's."""
    version: str | None = None
    """Its version, as `ControlPlaneArgs.version`; default that of its `charts`, else the control plane's."""
    values: dict[str, Any] = field(default_factory=dict)
    """Its Helm values, over the control plane's."""


class Revision(pulumi.ComponentResource):
    """Owns one more istiod with `mode: install`; nothing with `mode: adopt`.

    It owns neither Istio's namespace nor its CRDs, and no gateway; who follows it, each VM and namespace says.
    """

    revision: pulumi.Output[str]
    """Its revision; who uses it waits for it."""
    mesh_config: pulumi.Output[str]
    """Its mesh config, YAML."""
    discovery_host: pulumi.Output[str]
    """The host name by which machines ask for it."""

    def __init__(self, name: str, args: RevisionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        version = args.version or chart_version(args.charts) or args.plane.version or chart_version(args.plane.charts)
        inputs = {"revision": args.revision, "version": version}
        super().__init__("hybridmesh:revision:Revision", name, inputs, opts)
        plane = replace(
            args.plane,
            revision=args.revision,
            charts=args.charts or args.plane.charts,
            values=merged(args.plane.values, args.values),
        )
        if plane.mode == "install":
            release = istiod_release(name, plane, charts_to_install(name, plane.charts), args.follows, self)
            self.revision = after(release, args.revision)
            self.mesh_config = released_mesh_config(name, plane, release, self)
        else:
            self.revision = pulumi.Output.from_input(args.revision)
            self.mesh_config = adopted_mesh_config(name, plane, pulumi.ResourceOptions(parent=self))
        self.discovery_host = self.revision.apply(lambda revision: istiod_host(plane.namespace, revision))
        self.register_outputs({"meshConfig": self.mesh_config, "discoveryHost": self.discovery_host})
