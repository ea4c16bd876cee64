"""A shop in a mesh that is there already: `front` in pods; `cart` in pods, and on a VM if one is configured.

Where there is a VM it joins the Istio that the cluster has, which this program only reads.
"""

import pulumi
import pulumi_kubernetes
from hybridmesh.components import (
    AccessPolicy,
    AccessPolicyArgs,
    AccessRule,
    ControlPlane,
    ControlPlaneArgs,
    EastWestGateway,
    EastWestGatewayArgs,
    MeshNamespace,
    MeshNamespaceArgs,
    Pods,
    PodsArgs,
    Routing,
    RoutingArgs,
    Sidecar,
    SidecarArgs,
    SidecarPackage,
    SshHost,
    SshHostArgs,
    Workload,
    WorkloadAccess,
    WorkloadAccessArgs,
    WorkloadArgs,
    WorkloadPort,
)

from hybridmesh.providers import ClusterAccess

config = pulumi.Config()
kubeconfig = config.get("kubeconfig") or "~/.kube/config"
image = config.get("image") or "registry.example/cart:1"
vm = config.get_object("vm")
render_to = config.get("renderTo")

provider = (
    # An empty kubeconfig, as the shell's KUBECONFIG would come in otherwise, and the plugin takes one of the two.
    pulumi_kubernetes.Provider("cluster", kubeconfig="", render_yaml_to_directory=render_to)
    if render_to
    else pulumi_kubernetes.Provider("cluster", kubeconfig=kubeconfig)
)
opts = pulumi.ResourceOptions(providers={"kubernetes": provider})

namespace = MeshNamespace("shop", MeshNamespaceArgs(namespace="shop"), opts).namespace
AccessPolicy("shop", AccessPolicyArgs(namespace=namespace), opts)

front = Workload("front", WorkloadArgs(workload="front", namespace=namespace, service_account="front"), opts)
Pods(
    "front",
    PodsArgs(workload="front", namespace=namespace, service_account=front.service_account, image=image),
    opts,
)

cart = Workload(
    "cart",
    WorkloadArgs(
        workload="cart",
        namespace=namespace,
        service_account="cart",
        ports=[WorkloadPort(name="http", port=80, target=8080)],
        has_machines=vm is not None,
        probe={"tcpSocket": {"port": 8080}},
    ),
    opts,
)
Pods(
    "cart",
    PodsArgs(
        workload="cart",
        namespace=namespace,
        service_account=cart.service_account,
        image=image,
        ports={"http": 8080},
    ),
    opts,
)
WorkloadAccess(
    "cart",
    WorkloadAccessArgs(
        workload="cart",
        namespace=namespace,
        allow=[AccessRule(callers=[front.identity], methods=["GET", "POST"])],
    ),
    opts,
)

if vm is not None:
    access = ClusterAccess(kubeconfig=kubeconfig)
    istio = ControlPlane(
        "istio",
        ControlPlaneArgs(mode="adopt", cluster=access, cluster_name=vm["clusterName"], network=vm["network"]),
        opts,
    )
    gateway = EastWestGateway(
        "gateway",
        EastWestGatewayArgs(
            mode="adopt",
            cluster=access,
            namespace=istio.namespace,
            network=vm["network"],
            discovery_host=istio.discovery_host,
        ),
        opts,
    )
    host = SshHost(
        SshHostArgs(
            address=vm["address"],
            host_key=vm["hostKey"],
            private_key=config.require_secret("privateKey"),
        )
    )
    sidecar = Sidecar(
        "cart-vm",
        SidecarArgs(
            machine="cart-vm",
            cluster=access,
            cluster_name=istio.cluster_name,
            istio_namespace=istio.namespace,
            revision=istio.revision,
            mesh_config=istio.mesh_config,
            root_certificate=istio.root_certificate,
            gateway_address=gateway.address,
            group=cart.group,
            service_account=cart.service_account,
            identity=cart.identity,
            connection=host.connection,
            mesh_address=host.mesh_address,
            package=SidecarPackage(**vm["package"]),
        ),
        opts,
    )
    Routing(
        "cart",
        RoutingArgs(
            workload="cart",
            namespace=namespace,
            host=cart.host,
            subsets={"k8s": {"version": "k8s"}, "vm": {"version": "vm"}},
            weights={"k8s": 90, "vm": 10},
        ),
        opts,
    )
    pulumi.export("vm", sidecar.entry)

pulumi.export("identity", cart.identity)
pulumi.export("host", cart.host)
