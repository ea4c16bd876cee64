"""The settings of one stack as frozen models.

The stack file's names are camelCase; here they are snake_case. Every field carries its meaning, an example,
and, for the message when it is wrong, its consequence and its fix. Rules that need more than one field are
in `checks`.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HOST_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}( .*)?")
_URL = re.compile(r"https?://[^\s/]+\S*")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")


def _matches(pattern: re.Pattern[str], meaning: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"is not {meaning}")
        return value

    return AfterValidator(check)


def _no_bool(value: object) -> object:
    # YAML's `yes` and `on` are booleans, which pydantic would take for 1.
    if isinstance(value, bool):
        # A TypeError would not become a finding.
        raise ValueError("is a boolean, not a number")  # noqa: TRY004
    return value


def _ip(value: str) -> str:
    return str(ipaddress.ip_address(value))


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


Text = Annotated[str, AfterValidator(_not_empty)]
Name = Annotated[str, _matches(_LABEL, "an RFC 1123 label (1 to 63 of a-z, 0-9 and -, no - at either end)")]
PortName = Annotated[str, _matches(_PORT_NAME, "a port name (1 to 15 of a-z, 0-9 and -, with a letter)")]
LabelKey = Annotated[str, _matches(_LABEL_KEY, "a Kubernetes label key")]
LabelValue = Annotated[str, _matches(_LABEL_VALUE, "a Kubernetes label value (at most 63 of A-Z, a-z, 0-9, -_.)")]
Domain = Annotated[str, _matches(_DOMAIN, "a domain in lower case")]
EnvironmentName = Annotated[str, _matches(_ENVIRONMENT_NAME, "the name of a variable")]
Url = Annotated[str, _matches(_URL, "an http or https URL")]
Version = Annotated[str, _matches(_VERSION, "a full version such as 1.31.0")]
Sha256 = Annotated[
    str,
    BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v),
    _matches(_SHA256, "64 hexadecimal digits"),
]
HostKey = Annotated[str, _matches(_HOST_KEY, "an SSH public host key such as `ssh-ed25519 AAAA…`")]
IpAddress = Annotated[str, AfterValidator(_ip)]
Port = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=65535)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
Seconds = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=86400)]
Percent = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=100)]
Labels = Mapping[LabelKey, LabelValue]


def setting(
    default: Any = ..., *, meaning: str, example: Any = None, wrong: str = "", fix: str = "", **more: Any
) -> Any:
    """A field with all that a person needs to set it, or to put it right."""
    if "default_factory" in more:
        return Field(description=meaning, examples=[example], json_schema_extra={"wrong": wrong, "fix": fix}, **more)
    return Field(
        default,
        description=meaning,
        examples=[example],
        json_schema_extra={"wrong": wrong, "fix": fix},
        **more,
    )


class Model(BaseModel):
    """Frozen, camelCase outside, and without room for keys that nobody reads."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=False,
        hide_input_in_errors=True,
    )


class Cluster(Model):
    """The Kubernetes cluster that the mesh's control plane runs in."""

    name: Name = setting(
        meaning="Istio's cluster id. A VM's token is refused unless the VM and istiod agree on it.",
        example="embedded",
        wrong="istiod would refuse every VM's token.",
        fix="the name that istiod knows this cluster by, such as `embedded`.",
    )
    network: Name = setting(
        meaning="Istio's name for the network that the cluster's pods are in.",
        example="embedded",
        wrong="the mesh could not tell direct routes from those through a gateway.",
        fix="one name per routable network, such as `embedded`.",
    )
    kubeconfig: Text = setting(
        meaning="Path of the kubeconfig file, relative to the project's root.",
        example=".lab/dev/kubeconfig",
        wrong="the cluster could not be reached.",
        fix="the path of a kubeconfig file; `make dev` makes the one of the embedded environment.",
    )
    context: Text | None = setting(
        None,
        meaning="Context within that kubeconfig; default its current one.",
        example="kind-dev",
        wrong="another cluster than the one meant could be changed.",
        fix="a name that `kubectl config get-contexts` lists.",
    )
    domain: Domain = setting(
        "cluster.local",
        meaning="The cluster's DNS domain.",
        example="cluster.local",
        wrong="routes would name hosts that do not exist.",
        fix="the domain that the cluster's DNS serves, mostly `cluster.local`.",
    )


class Charts(Model):
    """Where Istio's Helm charts `base`, `istiod` and `gateway` come from. One of the two."""

    path: Text | None = setting(
        None,
        meaning="A folder that holds the charts, relative to the project's root.",
        example=".lab/dev/charts",
        wrong="Helm would find no chart.",
        fix="a folder with the folders base, istiod and gateway.",
    )
    repository: Url | None = setting(
        None,
        meaning="A Helm repository that serves the charts, in version `controlPlane.version`.",
        example="https://istio-release.storage.googleapis.com/charts",
        wrong="Helm would find no chart.",
        fix="the URL of a Helm repository.",
    )


class ControlPlaneTimeouts(Model):
    """How long the control plane may take."""

    install_seconds: Seconds = setting(
        300,
        meaning="Limit for each of Istio's Helm releases to become ready.",
        example=300,
        wrong="`up` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )
    root_certificate_seconds: Seconds = setting(
        120,
        meaning="Limit for istiod to publish its root certificate after its start.",
        example=120,
        wrong="`up` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )
    cleanup_seconds: Seconds = setting(
        60,
        meaning="Limit, on destroy, for Kubernetes to collect what Istio leaves behind.",
        example=60,
        wrong="`destroy` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )


class ControlPlane(Model):
    """istiod: installed by this stack, or adopted as it is."""

    mode: Literal["install", "adopt"] = setting(
        "install",
        meaning="`install` brings Istio by Helm and removes it on destroy; `adopt` reads an existing one.",
        example="install",
        wrong="it would be unclear who owns Istio.",
        fix="`install` or `adopt`.",
    )
    namespace: Name = setting(
        "istio-system",
        meaning="Istio's root namespace.",
        example="istio-system",
        wrong="istiod would not be found.",
        fix="the namespace that istiod runs in, mostly `istio-system`.",
    )
    revision: Name = setting(
        "default",
        meaning="Istio's revision; `default` is the one without a name.",
        example="default",
        wrong="VMs would ask an istiod that does not exist.",
        fix="`default`, or a revision such as `1-31-0`.",
    )
    version: Version = setting(
        meaning="Istio's version.",
        example="1.31.0",
        wrong="it would be unclear which charts to install, and which sidecars fit them.",
        fix='a full version in quotes, such as `"1.31.0"`.',
    )
    charts: Charts | None = setting(
        None,
        meaning="Where the Helm charts come from. Needed to install the control plane or the gateway.",
        example={"path": ".lab/dev/charts"},
        wrong="there would be nothing to install.",
        fix="`{path: folder}` or `{repository: URL}`.",
    )
    mesh_id: Name | None = setting(
        None,
        meaning="Istio's mesh id; default: none, which Istio reads as the trust domain.",
        example="shop",
        wrong="telemetry of two meshes would be mixed.",
        fix="a name that no other mesh has, or leave it out.",
    )
    trust_domain: Domain = setting(
        "cluster.local",
        meaning="The root of every identity: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. "
        "With `mode: adopt` the mesh's own is used.",
        example="cluster.local",
        wrong="certificates would carry identities that no policy knows.",
        fix="a domain, mostly `cluster.local`.",
    )
    values: Mapping[str, Any] = setting(
        default_factory=dict,
        meaning="More Helm values for the istiod chart.",
        example={"autoscaleEnabled": False},
        wrong="Helm would refuse them.",
        fix="a mapping, as in the chart's values.yaml.",
    )
    timeouts: ControlPlaneTimeouts = setting(
        default_factory=ControlPlaneTimeouts,
        meaning="How long the control plane may take.",
        example={"installSeconds": 300},
        wrong="`up` would wait for ever, or give up at once.",
        fix="a mapping of limits in seconds.",
    )


class Gateway(Model):
    """The east-west gateway: the way of VMs to istiod and to services of another network."""

    mode: Literal["install", "adopt"] = setting(
        "install",
        meaning="`install` brings it by Helm and removes it on destroy; `adopt` reads the address of an existing one.",
        example="install",
        wrong="it would be unclear who owns the gateway.",
        fix="`install` or `adopt`.",
    )
    name: Name = setting(
        "istio-eastwestgateway",
        meaning="Its Helm release, Service and Deployment.",
        example="istio-eastwestgateway",
        wrong="it could not be installed.",
        fix="a name that no other gateway in its namespace has.",
    )
    address: IpAddress | None = setting(
        None,
        meaning="The IP address at which VMs reach it; default: what the cluster's load balancer says.",
        example="192.0.2.100",
        wrong="VMs would not reach istiod: a hosts file takes no host name.",
        fix="an IP address, or leave it out.",
    )
    values: Mapping[str, Any] = setting(
        default_factory=dict,
        meaning="More Helm values for the gateway chart.",
        example={"autoscaling": {"enabled": False}},
        wrong="Helm would refuse them.",
        fix="a mapping, as in the chart's values.yaml.",
    )
    install_seconds: Seconds = setting(
        300,
        meaning="Limit for the gateway to become ready and to get its address.",
        example=300,
        wrong="`up` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )


class Package(Model):
    """The `istio-sidecar` package that VMs install."""

    url: Url = setting(
        meaning="Where VMs download it.",
        example="https://mirror.example.com/istio-sidecar.deb",
        wrong="VMs could not install the sidecar.",
        fix="an http or https URL that the VMs reach.",
    )
    sha256: Sha256 = setting(
        meaning="Its SHA-256. A file with another one is not installed.",
        example="0" * 64,
        wrong="a package that was tampered with would run as root on every VM.",
        fix="what `sha256sum` says of the package: 64 hexadecimal digits.",
    )
    version: Text = setting(
        meaning="Its version, as the package manager shows it.",
        example="1.31.0",
        wrong="it would be unclear whether a VM already has it.",
        fix='the package\'s version in quotes, such as `"1.31.0"`.',
    )


class SidecarTimeouts(Model):
    """How long the steps of a VM's membership may take."""

    dial_seconds: Seconds = setting(
        15,
        meaning="Limit for one attempt to connect by SSH.",
        example=15,
        wrong="an unreachable VM would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    dial_attempts: Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=100)] = setting(
        4,
        meaning="How often to try to connect by SSH.",
        example=4,
        wrong="an unreachable VM would hold up the whole run.",
        fix="1 to 100.",
    )
    download_seconds: Seconds = setting(
        120,
        meaning="Limit for a VM's download of the package.",
        example=120,
        wrong="a slow mirror would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    install_seconds: Seconds = setting(
        300,
        meaning="Limit for each call of a VM's package manager, the wait for its lock included.",
        example=300,
        wrong="a VM whose package manager hangs would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    ready_seconds: Seconds = setting(
        120,
        meaning="Limit for a VM's proxy to become ready after its start.",
        example=120,
        wrong="a VM that cannot join would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    sync_seconds: Seconds = setting(
        120,
        meaning="Limit for istiod to report a ready VM as in sync.",
        example=120,
        wrong="a VM that istiod does not serve would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    drain_seconds: Seconds = setting(
        5,
        meaning="How long a leaving VM's proxy serves the requests it has.",
        example=5,
        wrong="requests would be cut off.",
        fix="seconds, 1 to 86400.",
    )
    api_seconds: Seconds = setting(
        15,
        meaning="Limit for one request to the Kubernetes API.",
        example=15,
        wrong="an unreachable cluster would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )


class Sidecar(Model):
    """What makes a VM a member of the mesh."""

    package: Package | None = setting(
        None,
        meaning="The `istio-sidecar` package. Needed once a workload has machines.",
        example={
            "url": "https://mirror.example.com/istio-sidecar.deb",
            "sha256": "0" * 64,
            "version": "1.31.0",
        },
        wrong="VMs could not install the sidecar.",
        fix="`{url, sha256, version}`.",
    )
    dns_capture: bool = setting(
        True,
        meaning="Whether the proxy answers DNS on the VM, so that apps there find services by name.",
        example=True,
        wrong="apps on VMs could not find services by name.",
        fix="`true` or `false`.",
    )
    environment: Mapping[EnvironmentName, str] = setting(
        default_factory=dict,
        meaning="More variables for the agent on the VMs (`cluster.env`); nothing secret.",
        example={"CLOUD_PLATFORM": "none"},
        wrong="the shell that starts Istio on the VM would stop at it.",
        fix="names of letters, digits and _, and texts.",
    )
    token_seconds: Annotated[int, BeforeValidator(_no_bool), Field(ge=600, le=86400)] = setting(
        3600,
        meaning="How long the token that a VM joins with is valid. Kubernetes refuses less than 600.",
        example=3600,
        wrong="Kubernetes would refuse the token, or it would live longer than needed.",
        fix="seconds, 600 to 86400.",
    )
    timeouts: SidecarTimeouts = setting(
        default_factory=SidecarTimeouts,
        meaning="How long the steps of a VM's membership may take.",
        example={"readySeconds": 120},
        wrong="an unreachable VM would hold up the whole run.",
        fix="a mapping of limits in seconds.",
    )


class ServicePort(Model):
    """One port of a service."""

    name: PortName = setting(
        meaning="Its name.",
        example="http",
        wrong="neither the Service nor the WorkloadGroup could be made.",
        fix="a short name such as `http`.",
    )
    port: Port = setting(
        meaning="The port that clients use.",
        example=8080,
        wrong="clients could not reach the service.",
        fix="1 to 65535.",
    )
    target_port: Port | None = setting(
        None,
        meaning="The port that the app listens on, in pods and on VMs; default: `port`.",
        example=8080,
        wrong="the proxy would not reach the app.",
        fix="1 to 65535, or leave it out.",
    )
    protocol: Literal["HTTP", "HTTP2", "GRPC", "TCP"] = setting(
        "HTTP",
        meaning="What is spoken there. HTTP, HTTP2 and GRPC can be routed by request, TCP by connection.",
        example="HTTP",
        wrong="the proxy would take it for something else, and routes would not apply.",
        fix="HTTP, HTTP2, GRPC or TCP.",
    )

    @property
    def target(self) -> int:
        """The port that the app listens on."""
        return self.target_port or self.port


class HttpGet(Model):
    """A probe that asks for a page."""

    path: Text = setting(
        "/",
        meaning="The path asked for.",
        example="/health/ready",
        wrong="the app would never be healthy.",
        fix="a path that answers 200.",
    )
    port: Port = setting(
        meaning="The app's port.", example=8080, wrong="the app would never be healthy.", fix="1 to 65535."
    )
    scheme: Literal["HTTP", "HTTPS"] = setting(
        "HTTP",
        meaning="HTTPS verifies the app's certificate.",
        example="HTTP",
        wrong="the app would never be healthy.",
        fix="HTTP or HTTPS.",
    )


class TcpSocket(Model):
    """A probe that opens a connection."""

    port: Port = setting(
        meaning="The app's port.", example=8080, wrong="the app would never be healthy.", fix="1 to 65535."
    )


class Exec(Model):
    """A probe that runs a command."""

    command: tuple[Text, ...] = setting(
        meaning="The command and its arguments; no shell. 0 is healthy.",
        example=["/usr/bin/test", "-e", "/run/ready"],
        wrong="the app would never be healthy.",
        fix="a list with a command in it.",
        min_length=1,
    )


class Probe(Model):
    """Whether the app is ready: it takes a VM, and a pod, in and out of rotation. One of the three kinds."""

    http_get: HttpGet | None = setting(
        None,
        meaning="Asks for a page.",
        example={"path": "/health/ready", "port": 8080},
        wrong="the app's health would be unknown.",
        fix="`{path, port}`.",
    )
    tcp_socket: TcpSocket | None = setting(
        None,
        meaning="Opens a connection.",
        example={"port": 8080},
        wrong="the app's health would be unknown.",
        fix="`{port}`.",
    )
    exec: Exec | None = setting(
        None,
        meaning="Runs a command.",
        example={"command": ["/usr/bin/test", "-e", "/run/ready"]},
        wrong="the app's health would be unknown.",
        fix="`{command: [...]}`.",
    )
    initial_delay_seconds: Count = setting(
        0,
        meaning="Wait before the first probe.",
        example=0,
        wrong="probes would start at a wrong time.",
        fix="seconds, 0 or more.",
    )
    timeout_seconds: Seconds = setting(
        1,
        meaning="Limit for one probe.",
        example=1,
        wrong="a slow app would look dead.",
        fix="seconds, 1 or more.",
    )
    period_seconds: Seconds = setting(
        5,
        meaning="Time between two probes.",
        example=5,
        wrong="a dead app would be seen late.",
        fix="seconds, 1 or more.",
    )
    success_threshold: Annotated[int, BeforeValidator(_no_bool), Field(ge=1)] = setting(
        1,
        meaning="Successes in a row that make it healthy.",
        example=1,
        wrong="health would flap.",
        fix="1 or more.",
    )
    failure_threshold: Annotated[int, BeforeValidator(_no_bool), Field(ge=1)] = setting(
        3,
        meaning="Failures in a row that make it unhealthy.",
        example=3,
        wrong="health would flap.",
        fix="1 or more.",
    )


class Pods(Model):
    """The part of a workload that runs in Kubernetes."""

    image: Text = setting(
        meaning="The container image.",
        example="hybrid-mesh.lab/echo:1.31",
        wrong="the pods could not start.",
        fix="an image that the cluster's nodes can pull, or have.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = setting(
        "IfNotPresent",
        meaning="When the image is pulled.",
        example="IfNotPresent",
        wrong="the pods could not start.",
        fix="Always, IfNotPresent or Never.",
    )
    replicas: Count = setting(1, meaning="How many pods.", example=1, wrong="nobody would serve.", fix="0 or more.")
    version: LabelValue = setting(
        "k8s",
        meaning="Their label `version`, which subsets select.",
        example="k8s",
        wrong="no subset could select the pods.",
        fix="a label value such as `k8s`.",
    )
    command: tuple[Text, ...] = setting(
        (),
        meaning="Command and arguments instead of the image's own.",
        example=["/app/echo", "--port=8080"],
        wrong="the pods could not start.",
        fix="a list of texts.",
    )
    env: Mapping[EnvironmentName, str] = setting(
        default_factory=dict,
        meaning="Environment variables; nothing secret.",
        example={"LOG_LEVEL": "info"},
        wrong="the pods could not start.",
        fix="a mapping of texts.",
    )
    ready_seconds: Seconds = setting(
        300,
        meaning="Limit for the pods to become ready.",
        example=300,
        wrong="pods that cannot start would hold up the whole run.",
        fix="seconds, 1 to 86400.",
    )
    resources: Mapping[Literal["requests", "limits"], Mapping[str, str]] = setting(
        default_factory=dict,
        meaning="Kubernetes resource requests and limits.",
        example={"requests": {"cpu": "10m", "memory": "32Mi"}},
        wrong="the pods could not be placed.",
        fix="`{requests: {cpu: 10m}, limits: {…}}`.",
    )


class _WithPrivateKey(Model):
    private_key_file: Text | None = setting(
        None,
        meaning="Path of the private key, relative to the project's root. This or `privateKey`.",
        example=".lab/dev/ssh/id_ed25519",
        wrong="nobody could log in.",
        fix="the path of a private key without a passphrase.",
    )
    private_key: SecretStr | None = setting(
        None,
        meaning="The private key itself, as a secret of the stack. This or `privateKeyFile`.",
        example={"secure": "v1:…"},
        wrong="nobody could log in.",
        fix="`pulumi config set --secret --path 'hybrid-mesh:workloads.…privateKey' < key`.",
    )

    @property
    def key(self) -> str:
        """The private key, with the final newline that OpenSSH wants."""
        secret = self.private_key.get_secret_value() if self.private_key else ""
        return secret.strip() + "\n"


class Ssh(_WithPrivateKey):
    """How to reach a machine that exists."""

    address: Text = setting(
        meaning="Its IP address or host name.",
        example="192.0.2.11",
        wrong="the machine could not be reached.",
        fix="an IP address or a host name.",
    )
    port: Port = setting(
        22, meaning="sshd's port.", example=22, wrong="the machine could not be reached.", fix="1 to 65535."
    )
    user: Text = setting(
        "root",
        meaning="Who logs in; not root needs sudo without a password.",
        example="root",
        wrong="nothing could be installed.",
        fix="root, or a user with NOPASSWD sudo.",
    )
    host_key: HostKey = setting(
        meaning="Its public host key. A machine that shows another one is not talked to.",
        example="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…",
        wrong="anyone in between could take the machine's token and install software as root.",
        fix="what `ssh-keyscan -t ed25519 ADDRESS` prints after the address, checked on the machine itself.",
    )


class Command(_WithPrivateKey):
    """A machine that a pair of commands makes and removes, on the machine that runs Pulumi."""

    create: Text = setting(
        meaning="Makes the machine, or finds it made, and prints one line of JSON: "
        "`{name, address, port, user, hostKey}`.",
        example="python -m lab machine create vm-2",
        wrong="there would be no machine.",
        fix="an idempotent command.",
    )
    delete: Text = setting(
        meaning="Removes the machine, if it is there.",
        example="python -m lab machine delete vm-2",
        wrong="the machine would outlive the stack.",
        fix="an idempotent command.",
    )
    timeout_seconds: Seconds = setting(
        300,
        meaning="Limit for each of the commands.",
        example=300,
        wrong="a command that hangs would hold up the run.",
        fix="seconds, 1 to 86400.",
    )


class Host(Model):
    """One machine. One of the two kinds."""

    ssh: Ssh | None = setting(
        None,
        meaning="It exists and is reached by SSH.",
        example={"address": "192.0.2.11", "hostKey": "ssh-ed25519 AAAA…", "privateKeyFile": "id_ed25519"},
        wrong="there would be no machine.",
        fix="`{address, hostKey, privateKeyFile}`.",
    )
    command: Command | None = setting(
        None,
        meaning="A pair of commands makes and removes it.",
        example={"create": "make-vm", "delete": "remove-vm", "privateKeyFile": "id_ed25519"},
        wrong="there would be no machine.",
        fix="`{create, delete, privateKeyFile}`.",
    )
    mesh_address: IpAddress | None = setting(
        None,
        meaning="The IP address at which the mesh reaches it; default: the address that SSH uses.",
        example="10.0.0.11",
        wrong="the mesh would send its requests elsewhere.",
        fix="an IP address of the machine.",
    )


class Machines(Model):
    """The part of a workload that runs on VMs."""

    version: LabelValue = setting(
        "vm",
        meaning="Their label `version`, which subsets select.",
        example="vm",
        wrong="no subset could select the VMs.",
        fix="a label value such as `vm`.",
    )
    hosts: Mapping[Name, Host] = setting(
        meaning="The machines by name. Names are the stack's own; no two workloads share one.",
        example={"vm-1": {"ssh": {"address": "192.0.2.11"}}},
        wrong="there would be no machine.",
        fix="`{vm-1: {ssh: {…}}}`.",
    )


class Workload(Model):
    """A service, or a client: what runs under one identity, in Kubernetes, on VMs, or both."""

    namespace: Name = setting(
        meaning="Its Kubernetes namespace.",
        example="demo",
        wrong="it would have no identity.",
        fix="a namespace such as `demo`; not Istio's own.",
    )
    service_account: Name | None = setting(
        None,
        meaning="Its service account, hence its identity; default: the workload's name.",
        example="echo",
        wrong="it would have no identity.",
        fix="a name, or leave it out.",
    )
    network: Name | None = setting(
        None,
        meaning="The network of its VMs; default: `cluster.network`. Another one goes through the gateway.",
        example="embedded",
        wrong="traffic would take a route that does not exist.",
        fix="the name of a network, or leave it out.",
    )
    labels: Labels = setting(
        default_factory=dict,
        meaning="Labels of its pods, group and VMs, besides `app` and `version`.",
        example={"team": "shop"},
        wrong="Kubernetes would refuse the object.",
        fix="`{key: value}`.",
    )
    ports: tuple[ServicePort, ...] = setting(
        (),
        meaning="Its ports. With none it is a client, and gets no Service.",
        example=[{"name": "http", "port": 8080, "protocol": "HTTP"}],
        wrong="clients could not reach it.",
        fix="`[{name: http, port: 8080}]`.",
    )
    probe: Probe | None = setting(
        None,
        meaning="Whether the app is ready, on VMs and in pods.",
        example={"httpGet": {"path": "/health/ready", "port": 8080}},
        wrong="requests would go to apps that are not ready.",
        fix="`{httpGet: {path, port}}`.",
    )
    pods: Pods | None = setting(
        None,
        meaning="The part that runs in Kubernetes.",
        example={"image": "hybrid-mesh.lab/echo:1.31"},
        wrong="nothing would run in Kubernetes.",
        fix="`{image: …}`, or leave it out.",
    )
    machines: Machines | None = setting(
        None,
        meaning="The part that runs on VMs.",
        example={"hosts": {"vm-1": {"ssh": {}}}},
        wrong="nothing would run on VMs.",
        fix="`{hosts: {…}}`, or leave it out.",
    )


class OutlierDetection(Model):
    """When a client's proxy stops using an endpoint that fails."""

    consecutive_errors: Annotated[int, BeforeValidator(_no_bool), Field(ge=1)] = setting(
        5,
        meaning="Gateway errors (502, 503, 504, resets) in a row after which it is left out.",
        example=5,
        wrong="a dead VM would keep its share of requests.",
        fix="1 or more.",
    )
    interval_seconds: Seconds = setting(
        5,
        meaning="Time between two looks.",
        example=5,
        wrong="a dead VM would keep its share of requests.",
        fix="seconds, 1 to 86400.",
    )
    base_ejection_seconds: Seconds = setting(
        15,
        meaning="How long it is left out at first; longer each time.",
        example=15,
        wrong="a recovered VM would stay out.",
        fix="seconds, 1 to 86400.",
    )
    max_ejection_percent: Percent = setting(
        100,
        meaning="Share of the endpoints that may be left out at once.",
        example=100,
        wrong="dead VMs would keep their share of requests.",
        fix="0 to 100; 0 turns it off.",
    )


class Retries(Model):
    """What a client's proxy tries again: requests that are safe to repeat (GET, PUT, …) after a reset too."""

    attempts: Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=10)] = setting(
        3,
        meaning="How often; 0 for never.",
        example=3,
        wrong="a failing service would be flooded.",
        fix="0 to 10.",
    )
    per_try_seconds: Seconds | None = setting(
        None,
        meaning="Limit for each try; default none.",
        example=2,
        wrong="a slow endpoint would use up all the time.",
        fix="seconds, 1 to 86400, or leave it out.",
    )


class Routing(Model):
    """How the requests for one workload are split."""

    subsets: Mapping[Name, Labels] = setting(
        meaning="Groups of its endpoints by label.",
        example={"k8s": {"version": "k8s"}, "vm": {"version": "vm"}},
        wrong="there would be nothing to split between.",
        fix="`{k8s: {version: k8s}, vm: {version: vm}}`.",
    )
    weights: Mapping[Name, Percent] = setting(
        meaning="Percent of the requests by subset; they add up to 100.",
        example={"k8s": 90, "vm": 10},
        wrong="Istio would refuse the route.",
        fix="`{k8s: 90, vm: 10}`.",
    )
    outlier_detection: OutlierDetection = setting(
        default_factory=OutlierDetection,
        meaning="When an endpoint that fails is left out.",
        example={"consecutiveErrors": 5},
        wrong="a dead VM would keep its share of requests.",
        fix="a mapping.",
    )
    retries: Retries = setting(
        default_factory=Retries,
        meaning="What is tried again.",
        example={"attempts": 3},
        wrong="requests to a dying VM would fail.",
        fix="a mapping.",
    )


class Namespace(Model):
    """How a namespace of workloads is had."""

    existing: bool = setting(
        False,
        meaning="`true`: it exists, with its injection label, and is not this stack's to change or remove.",
        example=False,
        wrong="the stack could remove a namespace that others use.",
        fix="`true` or `false`.",
    )


class Settings(Model):
    """All settings of one stack."""

    cluster: Cluster = setting(
        meaning="The Kubernetes cluster.",
        example={"name": "embedded"},
        wrong="there would be nowhere to go.",
        fix="`{name, network, kubeconfig}`.",
    )
    control_plane: ControlPlane = setting(
        meaning="istiod.",
        example={"mode": "install"},
        wrong="there would be no mesh.",
        fix="`{mode, version, charts}`.",
    )
    gateway: Gateway = setting(
        default_factory=Gateway,
        meaning="The east-west gateway.",
        example={"name": "istio-eastwestgateway"},
        wrong="VMs would not reach istiod.",
        fix="a mapping, or leave it out.",
    )
    sidecar: Sidecar = setting(
        default_factory=Sidecar,
        meaning="What makes a VM a member of the mesh.",
        example={"dnsCapture": True},
        wrong="VMs could not join.",
        fix="a mapping, or leave it out.",
    )
    mtls: Literal["STRICT", "PERMISSIVE", "none"] = setting(
        "STRICT",
        meaning="PeerAuthentication in each namespace that this stack makes; `none` makes none.",
        example="STRICT",
        wrong="plain text could be accepted unseen.",
        fix="STRICT, PERMISSIVE or none.",
    )
    namespaces: Mapping[Name, Namespace] = setting(
        default_factory=dict,
        meaning="Namespaces of workloads that are not simply made by this stack.",
        example={"shop": {"existing": True}},
        wrong="the stack could remove a namespace that others use.",
        fix="`{name: {existing: true}}`.",
    )
    workloads: Mapping[Name, Workload] = setting(
        default_factory=dict,
        meaning="Services and clients by name.",
        example={"echo": {"namespace": "demo"}},
        wrong="the mesh would be empty.",
        fix="`{echo: {namespace: demo, …}}`.",
    )
    routing: Mapping[Name, Routing] = setting(
        default_factory=dict,
        meaning="How requests are split, by workload.",
        example={"echo": {"weights": {"k8s": 90, "vm": 10}}},
        wrong="requests would go to all endpoints alike.",
        fix="`{echo: {subsets, weights}}`.",
    )
