"""Google Cloud: where machines are made, and the fleets and instances of a workload."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hybridmesh.istio import pem_problem

from .base import AtLeastOne, Cidr, Labels, Matching, Model, Name, Percent, Port, Seconds, Text, Whole, setting

_PROJECT = re.compile(r"([a-z][-a-z0-9.]*:)?[a-z][-a-z0-9]{4,28}[a-z0-9]")
_REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_ZONE = re.compile(rf"{_REGION.pattern}-(ai[0-9]+)?[a-z]")
_MACHINE_TYPE = re.compile(r"custom-[0-9]+-[0-9]+(-ext)?|[a-z]+[0-9]+[a-z]*-[a-z0-9]+(-[a-z0-9]+)*")
_LINK = r"(https://[a-z.]+/compute/v1/)?(projects/[-a-z0-9.:]+/(global|regions/[-a-z0-9]+)/[a-z]+/)?"
_RESOURCE = re.compile(rf"{_LINK}[a-z]([-a-z0-9]{{0,61}}[a-z0-9])?")
_IMAGE = re.compile(
    r"(https://[a-z.]+/compute/[a-z0-9]+/)?projects/[-a-z0-9.:]+/global/images/(family/)?[a-z][-a-z0-9]*"
    # Of a name after its project Google's provider finds out whether it is an image's or a family's.
    r"|[-a-z0-9.:]+/[a-z][-a-z0-9]*"
)
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_WORD = "[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?"
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_API_SERVER = re.compile(rf"https://({_BYTE}(\.{_BYTE}){{3}}|(?!([^:]*\.)?[0-9]+(:|$)){_WORD}(\.{_WORD})*)(:{_PORT})?")
_DISK_KEY = re.compile(r"projects/[-a-z0-9.:]+/locations/[-a-z0-9]+/keyRings/[-_A-Za-z0-9]+/cryptoKeys/[-_A-Za-z0-9]+")
_ACCOUNT = re.compile(
    r"[a-z]([-a-z0-9]*[a-z0-9])?@[a-z][-a-z0-9]*(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\.iam\.gserviceaccount\.com"
)
_FLEET = re.compile(r"[a-z][-a-z0-9]{4,25}[a-z0-9]")


def _pem(value: str) -> str:
    if (problem := pem_problem(value)) is not None:
        raise ValueError(problem)
    return value


def _ipv4(value: str) -> str:
    if ":" in value:
        raise ValueError("is an IPv6 range, and machines on Google Cloud have IPv4 alone here")
    return value


Project = Annotated[str, Matching(_PROJECT, "a project's id (6 to 30 of a-z, 0-9 and -, a letter first)")]
GceRegion = Annotated[str, Matching(_REGION, "a region such as `europe-west3`")]
GceZone = Annotated[str, Matching(_ZONE, "a zone such as `europe-west3-a`")]
MachineType = Annotated[str, Matching(_MACHINE_TYPE, "a machine type such as `e2-small` or `n2-standard-4`")]
Resource = Annotated[str, Matching(_RESOURCE, "a name, or the self link of one such as `projects/p/global/networks/n`")]
Image = Annotated[str, Matching(_IMAGE, "an image such as `projects/debian-cloud/global/images/family/debian-12`")]
ApiServerUrl = Annotated[
    str, Matching(_API_SERVER, "an address such as `https://10.0.0.2` or `https://10.0.0.2:6443`, of a name or IPv4")
]
CertificateAuthority = Annotated[str, AfterValidator(_pem)]
Ipv4Range = Annotated[Cidr, AfterValidator(_ipv4)]
ServiceAccount = Annotated[
    str,
    Matching(
        _ACCOUNT,
        "a service account's e-mail such as `shop@my-project.iam.gserviceaccount.com`; a project's default one is "
        "every machine's of the project",
    ),
]
FleetName = Annotated[
    str, Matching(_FLEET, "a name of 6 to 27 of a-z, 0-9 and -, a letter first, as service accounts need it")
]
DiskKey = Annotated[
    str,
    Matching(_DISK_KEY, "a key such as `projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k`, without version"),
]
NetworkTag = Annotated[
    str,
    Matching(
        re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"), "a network tag (1 to 63 of a-z, 0-9 and -, a letter first)"
    ),
]
MetadataKey = Annotated[
    str, Matching(re.compile(r"[-_A-Za-z0-9]{1,128}"), "a key of metadata (1 to 128 of a-z, A-Z, 0-9, - and _)")
]
Metadata = Mapping[MetadataKey, str]
BootSeconds = Annotated[Whole, Field(ge=1, le=3600)]
DiskSize = Annotated[Whole, Field(ge=10, le=65536)]
Size = Annotated[Whole, Field(ge=1, le=1000)]


class GoogleWay(Model):
    """Where machines may connect to."""

    name: Name = setting(
        meaning="Part of the firewall rule's name.",
        example="mirror",
        wrong="the rule would have no name.",
        fix="a short name such as `mirror`.",
    )
    ranges: Annotated[tuple[Ipv4Range, ...], Field(min_length=1)] = setting(
        meaning="The addresses, as CIDRs.",
        example=["199.36.153.8/30"],
        wrong="the rule would lead nowhere.",
        fix="a list of IPv4 CIDRs such as `10.4.0.0/14`.",
    )
    ports: tuple[Port, ...] = setting(
        (),
        meaning="TCP ports; none: all ports of every protocol.",
        example=[443],
        wrong="more would be open than is needed.",
        fix="`[443]`, or leave it out.",
    )


class Gke(Model):
    """A GKE cluster, found by its name."""

    name: Name = setting(
        meaning="Its name.",
        example="prod",
        wrong="the cluster could not be found.",
        fix="the name that `gcloud container clusters list` shows.",
    )
    location: Annotated[str, Matching(re.compile(rf"{_REGION.pattern}|{_ZONE.pattern}"), "a region or a zone")] = (
        setting(
            meaning="Its region, or its zone.",
            example="europe-west3",
            wrong="the cluster could not be found.",
            fix="the location that `gcloud container clusters list` shows.",
        )
    )
    project: Project | None = setting(
        None,
        meaning="Its project; default: `google.project`.",
        example="my-clusters",
        wrong="the cluster could not be found.",
        fix="a project's id, or leave it out.",
    )
    public_endpoint: bool = setting(
        False,
        meaning="Whether machines reach its API server at its public address; default: at the private one.",
        example=False,
        wrong="machines could not get a token.",
        fix="true or false.",
    )


class GoogleApiServer(Model):
    """Kubernetes' API server, for machines that ask it for their token."""

    url: ApiServerUrl = setting(
        meaning="Its address as machines reach it.",
        example="https://10.0.0.2",
        wrong="machines could not get a token.",
        fix="`https://HOST` or `https://HOST:PORT`.",
    )
    certificate_authority: CertificateAuthority = setting(
        meaning="Who may vouch for it, PEM.",
        example={"fromFile": "kubernetes-ca.pem"},
        wrong="machines would trust no API server.",
        fix="`{fromFile: PATH}` of the cluster's CA certificate, decoded if it is base64 as in a kubeconfig.",
    )


class SharedStack(Model):
    """Another stack that owns network or cluster: names of its outputs, which take the place of values here."""

    stack: Text = setting(
        meaning="The stack, as Pulumi names it.",
        example="my-org/network/prod",
        wrong="there would be nothing to read.",
        fix="`<organization>/<project>/<stack>`; with a bucket as backend, `organization/<project>/<stack>`.",
    )
    network: Text | None = setting(
        None,
        meaning="Its output that is the network's name or self link, in the place of `google.network`.",
        example="networkSelfLink",
        wrong="machines would be in no network.",
        fix="an output's name, or leave it out.",
    )
    subnetwork: Text | None = setting(
        None,
        meaning="Its output that is the subnetwork's name or self link, in the place of `google.subnetwork`.",
        example="subnetworkSelfLink",
        wrong="machines would be in no network.",
        fix="an output's name, or leave it out.",
    )
    api_server: Text | None = setting(
        None,
        meaning="Its output that is the API server's address, `https://…`; with `certificateAuthority`.",
        example="clusterEndpoint",
        wrong="machines could not get a token.",
        fix="an output's name, or leave it out.",
    )
    certificate_authority: Text | None = setting(
        None,
        meaning="Its output that is the cluster's CA certificate, PEM.",
        example="clusterCertificate",
        wrong="machines would trust no API server.",
        fix="an output's name, or leave it out.",
    )


class Google(Model):
    """Google Cloud: project, place, and who may talk to whom."""

    project: Project = setting(
        meaning="The project that machines are made in.",
        example="my-project",
        wrong="nothing could be made.",
        fix="a project's id, as `gcloud projects list` shows it.",
    )
    region: GceRegion = setting(
        meaning="The region that machines are made in.",
        example="europe-west3",
        wrong="nothing could be made.",
        fix="a region such as `europe-west3`.",
    )
    network: Resource | None = setting(
        None,
        meaning="The VPC network, by name, or by self link; this or `sharedStack.network`. A Shared VPC's is of the "
        "host project, which its link has to say by the project's id: firewall rules are made there.",
        example="projects/my-host/global/networks/mesh",
        wrong="machines would be in no network.",
        fix="a network's name, or a link such as `projects/HOST/global/networks/NAME`.",
    )
    subnetwork: Resource | None = setting(
        None,
        meaning="The subnetwork of machines and of the gateway's address, of the network's project; this or "
        "`sharedStack.subnetwork`.",
        example="machines",
        wrong="machines would be in no network.",
        fix="a subnetwork's name.",
    )
    gke: Gke | None = setting(
        None,
        meaning="The cluster, whose API server machines ask for their token; this, `apiServer` or `sharedStack`.",
        example={"name": "prod", "location": "europe-west3"},
        wrong="machines could not get a token.",
        fix="`{name, location}`.",
    )
    api_server: GoogleApiServer | None = setting(
        None,
        meaning="The same for a cluster that is not found by its name.",
        example={"url": "https://10.0.0.2", "certificateAuthority": {"fromFile": "kubernetes-ca.pem"}},
        wrong="machines could not get a token.",
        fix="`{url, certificateAuthority}`.",
    )
    shared_stack: SharedStack | None = setting(
        None,
        meaning="Another stack that owns network or cluster.",
        example={"stack": "my-org/network/prod", "network": "networkSelfLink"},
        wrong="values that another stack owns would be copied, and grow stale.",
        fix="`{stack, network, …}`, or leave it out.",
    )
    reserve_gateway_address: bool = setting(
        True,
        meaning="Whether the gateway that the stack installs gets an internal load balancer, at an address "
        "reserved for it in `subnetwork`; the cluster is in `region` then, and in `gke.project`, or else `project`.",
        example=True,
        wrong="the gateway could get another address, or one in the internet.",
        fix="true or false.",
    )
    clients: tuple[Ipv4Range, ...] = setting(
        (),
        meaning="Who calls the applications on the machines: ranges of pods and of other machines.",
        example=["10.4.0.0/14", "10.2.0.0/20"],
        wrong="nobody could call the applications.",
        fix="a list of IPv4 CIDRs.",
    )
    observers: tuple[Ipv4Range, ...] = setting(
        (),
        meaning="Who reads the proxies' metrics and health (15020, 15021, 15090), besides `observability.scrapers`.",
        example=["10.4.0.0/14"],
        wrong="nobody could read the metrics.",
        fix="a list of IPv4 CIDRs.",
    )
    egress: tuple[GoogleWay, ...] = setting(
        (),
        meaning="What machines may connect to, besides the gateway (15012, 15443) and the API server.",
        example=[{"name": "pods", "ranges": ["10.4.0.0/14"]}],
        wrong="machines could not reach pods, or the mirror of packages.",
        fix="`[{name, ranges, ports}]`.",
    )
    deny_other_egress: bool = setting(
        True,
        meaning="Whether machines may connect to nothing else.",
        example=True,
        wrong="machines could connect to anywhere.",
        fix="true or false.",
    )
    labels: Labels = setting(
        default_factory=dict,
        meaning="Labels of all machines, their disks, and the gateway's address; a machine's own count over them.",
        example={"cost-center": "4711"},
        wrong="costs could not be told apart, or a policy would refuse the machines.",
        fix="`{key: value}`, in lower case.",
    )
    tags: tuple[NetworkTag, ...] = setting(
        (),
        meaning="Network tags of all machines, for routes and firewall rules of others; besides a machine's own.",
        example=["through-proxy"],
        wrong="others' routes and rules would not find the machines.",
        fix="a list of tags, in lower case.",
    )
    metadata: Metadata = setting(
        default_factory=dict,
        meaning="Metadata of all machines, nothing secret; a machine's own counts over it.",
        example={"enable-osconfig": "TRUE", "serial-port-logging-enable": "FALSE"},
        wrong="the machines' agents would do what they do by default, or a policy would refuse the machines.",
        fix='`{key: "value"}`, values such as TRUE in quotes.',
    )
    disk_key: DiskKey | None = setting(
        None,
        meaning="The key of Cloud KMS that encrypts the disks of all machines; default: Google's own.",
        example="projects/my-keys/locations/europe-west3/keyRings/mesh/cryptoKeys/disks",
        wrong="a policy would refuse the machines, or nobody could take the key from a disk.",
        fix="a key's path, as `gcloud kms keys list` shows it, or leave it out.",
    )
    firewall: Literal["make", "existing"] = setting(
        "make",
        meaning="Whether the machines' firewall rules are made, or are there, made by others; then the preview and the "
        "output `topology` say what they have to allow.",
        example="existing",
        wrong="the machines could be reached by nobody, or by more than shall.",
        fix="`make`, or `existing`.",
    )
    firewall_logs: bool = setting(
        False,
        meaning="Whether the firewall rules that are made log each connection, with what is known of both ends, to "
        "Cloud Logging, which costs by volume.",
        example=True,
        wrong="nobody could see what was let through, or denied.",
        fix="true or false.",
    )


class GceHardware(Model):
    """What a machine on Google Cloud is made of."""

    machine_type: MachineType = setting(
        "e2-small",
        meaning="Its size.",
        example="n2-standard-2",
        wrong="it could not be made.",
        fix="a machine type, as `gcloud compute machine-types list` shows them.",
    )
    image: Image = setting(
        "projects/debian-cloud/global/images/family/debian-12",
        meaning="The image that it boots: one with the application, or which installs it by itself.",
        example="projects/my-project/global/images/family/shop",
        wrong="it could not be made.",
        fix="an image's or family's path.",
    )
    disk_gb: DiskSize = setting(
        10, meaning="Its boot disk, in GB.", example=20, wrong="it could not be made.", fix="10 to 65536."
    )
    disk_type: Name = setting(
        "pd-balanced",
        meaning="The kind of its disk.",
        example="pd-ssd",
        wrong="it could not be made.",
        fix="pd-standard, pd-balanced or pd-ssd, or what the machine type takes.",
    )
    public_address: bool = setting(
        False,
        meaning="Whether it has an address in the internet.",
        example=False,
        wrong="it could be reached from everywhere.",
        fix="true or false.",
    )
    service_account: ServiceAccount | None = setting(
        None,
        meaning="The e-mail of a service account that is there, for it to run as; default: one that is made for it.",
        example="shop@my-project.iam.gserviceaccount.com",
        wrong="it would be somebody else to Kubernetes and to the firewall.",
        fix="an account's e-mail, as `gcloud iam service-accounts list` shows it, or leave it out.",
    )
    ssh: bool = setting(
        False,
        meaning="Whether SSH is let in, through Identity-Aware Proxy alone. The mesh does not need it.",
        example=True,
        wrong="nobody could log in, or more could than shall.",
        fix="true or false.",
    )
    labels: Labels = setting(
        default_factory=dict,
        meaning="Its labels on Google Cloud.",
        example={"team": "shop"},
        wrong="costs could not be told apart.",
        fix="`{key: value}`, in lower case.",
    )
    tags: tuple[NetworkTag, ...] = setting(
        (),
        meaning="Its network tags, besides `google.tags`.",
        example=["shop"],
        wrong="others' routes and rules would not find it.",
        fix="a list of tags, in lower case.",
    )
    metadata: Metadata = setting(
        default_factory=dict,
        meaning="Its metadata, over `google.metadata`; nothing secret, for every program on it may read all.",
        example={"shop-config": "eu"},
        wrong="what runs on it would not be told.",
        fix='`{key: "value"}`, values such as TRUE in quotes.',
    )


class Fleet(GceHardware):
    """Machines on Google Cloud that come and go as they are needed, and join by themselves."""

    min_size: Size = setting(
        1, meaning="Fewest machines.", example=2, wrong="the fleet could not be made.", fix="1 to 1000."
    )
    max_size: Size | None = setting(
        None,
        meaning="Most machines; default: as many as the fewest, which is a fixed size.",
        example=10,
        wrong="the fleet could not be made.",
        fix="`minSize` to 1000.",
    )
    cpu_target_percent: Annotated[Percent, Field(ge=1)] = setting(
        60,
        meaning="The use of CPU that the autoscaler aims at.",
        example=60,
        wrong="the fleet would be too large or too small.",
        fix="1 to 100.",
    )
    zones: tuple[GceZone, ...] = setting(
        (),
        meaning="The zones of the region that it uses; default: Google's choice of three.",
        example=["europe-west3-a", "europe-west3-b"],
        wrong="the fleet could not be made.",
        fix="zones of `google.region`.",
    )
    boot_seconds: BootSeconds = setting(
        180,
        meaning="From a machine's making until it is ready: as long, it is neither healed nor counted in scaling.",
        example=180,
        wrong="machines would be replaced while they boot.",
        fix="seconds, 1 to 3600.",
    )
    max_surge: AtLeastOne = setting(
        3,
        meaning="How many machines more there are during an update; at least as many as zones.",
        example=3,
        wrong="the fleet could not be made.",
        fix="the number of zones, 3 by default, or more.",
    )
    ready_seconds: Annotated[Whole, Field(ge=0, le=3600)] = setting(
        15,
        meaning="In an update, from when a new machine's proxy is ready until an old one may go: the time that the "
        "application takes to start after that, and to be found healthy by the workload's probe.",
        example=60,
        wrong="old machines would go before new ones serve.",
        fix="seconds, 0 to 3600.",
    )
    spot: bool = setting(
        False,
        meaning="Whether its machines are cheap, and may be taken away with 30 seconds' notice.",
        example=False,
        wrong="machines would vanish unexpectedly.",
        fix="true or false.",
    )
    update_seconds: Seconds = setting(
        1800,
        meaning="Limit for making all its machines, and for removing them. An update is waited for 15 minutes, "
        "whatever this says: the limit is the Google Cloud provider's. Then `up` fails, the group goes on, and the "
        "next `up` waits on.",
        example=1800,
        wrong="`up` would wait for ever, or give up at once.",
        fix="seconds, 1 to 86400.",
    )


class GceInstance(GceHardware):
    """One machine on Google Cloud that stays, and joins by itself."""

    zone: GceZone = setting(
        meaning="Its zone.",
        example="europe-west3-a",
        wrong="it could not be made.",
        fix="a zone of `google.region`.",
    )
    protect: bool = setting(
        False,
        meaning="Whether Google refuses to remove it.",
        example=True,
        wrong="it could be removed by mistake.",
        fix="true or false.",
    )


Fleets = Mapping[FleetName, Fleet]
Instances = Mapping[FleetName, GceInstance]
