"""The part of a workload that runs on VMs."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import SecretStr

from .base import (
    AtLeastOne,
    HostKey,
    IpAddress,
    LabelValue,
    Locality,
    Lost,
    Model,
    Name,
    Port,
    Seconds,
    SshAddress,
    Text,
    UnitName,
    setting,
)
from .google import Fleets, Instances


class _WithPrivateKey(Model):
    agent: bool = setting(
        False,
        meaning="The key is in the ssh-agent of whoever runs Pulumi or the console (`SSH_AUTH_SOCK`). "
        "Instead of a private key.",
        example=True,
        wrong="nobody could log in.",
        fix="true, or a private key.",
    )
    private_key_file: Text | None = setting(
        None,
        meaning="Path of the private key, relative to the project's root. This or `privateKey`.",
        example=".lab/dev/ssh/id_ed25519",
        wrong="nobody could log in.",
        fix="the path of a private key.",
    )
    private_key: SecretStr | None = setting(
        None,
        meaning="The private key itself, as a secret of the stack. This or `privateKeyFile`.",
        example={"secure": "v1:…"},
        wrong="nobody could log in.",
        fix="`pulumi config set --secret --path 'hybrid-mesh:workloads.…privateKey' < key`.",
    )
    private_key_passphrase: SecretStr | None = setting(
        None,
        meaning="The private key's passphrase, if it has one, as a secret of the stack.",
        example={"secure": "v1:…"},
        wrong="the private key could not be used.",
        fix="`pulumi config set --secret --path 'hybrid-mesh:workloads.…privateKeyPassphrase'`.",
    )

    @property
    def key(self) -> str | None:
        """The private key, with the final newline that OpenSSH wants; None: it is in an agent, or not given."""
        if self.private_key is None:
            return None
        return self.private_key.get_secret_value().strip() + "\n"

    @property
    def passphrase(self) -> str | None:
        """The private key's passphrase."""
        return self.private_key_passphrase.get_secret_value() if self.private_key_passphrase else None


class Bastion(_WithPrivateKey):
    """A machine that SSH goes through. Without key and agent of its own it takes what opens the machine behind it."""

    address: SshAddress = setting(
        meaning="Its IP address or host name.",
        example="203.0.113.5",
        wrong="the machines behind it could not be reached.",
        fix="an IP address or a host name; `port` and `user` are settings of their own.",
    )
    port: Port = setting(
        22, meaning="sshd's port.", example=22, wrong="the machines could not be reached.", fix="1 to 65535."
    )
    user: Text = setting(
        "root",
        meaning="Who logs in there. Needs no rights but to forward a TCP connection.",
        example="jump",
        wrong="the machines behind it could not be reached.",
        fix="a user's name.",
    )
    host_key: HostKey = setting(
        meaning="Its public host key. A bastion that shows another one is not talked to.",
        example="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…",
        wrong="anyone could take its place.",
        fix="what `ssh-keyscan -t ed25519 ADDRESS` prints after the address, checked on the machine itself.",
    )


class _Reached(_WithPrivateKey):
    bastion: Bastion | None = setting(
        None,
        meaning="A machine that SSH goes through to get there.",
        example={"address": "203.0.113.5", "user": "jump", "hostKey": "ssh-ed25519 AAAA…"},
        wrong="the machine could not be reached.",
        fix="`{address, user, hostKey}`, or leave it out.",
    )

    @property
    def bastion_login(self) -> _WithPrivateKey:
        """What opens the bastion: its own key or agent, or else this machine's."""
        bastion = self.bastion
        return bastion if bastion is not None and (bastion.agent or bastion.private_key is not None) else self


class Ssh(_Reached):
    """How to reach a machine that exists."""

    address: SshAddress = setting(
        meaning="Its IP address or host name.",
        example="192.0.2.11",
        wrong="the machine could not be reached.",
        fix="an IP address or a host name; `port` and `user` are settings of their own.",
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


class Command(_Reached):
    """A machine that a pair of commands makes and removes, on the machine that runs Pulumi."""

    create: Text = setting(
        meaning="Makes the machine, or finds it made, and prints one line of JSON: "
        "`{name, address, port, user, hostKey}`. Where it fails, it leaves nothing: `delete` never runs for a machine "
        "whose `create` has failed.",
        example="python -m lab machine create vm-2",
        wrong="there would be no machine.",
        fix="an idempotent command.",
    )
    delete: Text = setting(
        meaning='Removes the machine, if it is there. `"true"` removes nothing.',
        example="python -m lab machine delete vm-2",
        wrong="the machine would outlive the stack.",
        fix="an idempotent command.",
    )
    timeout_seconds: Seconds = setting(
        300,
        meaning="Limit for each of the commands. It ends their shell; what a script has started goes on, and is waited "
        "for: bound that in the script, as by `timeout`.",
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
    locality: Locality | None = setting(
        None,
        meaning="Where it is, as region, region/zone or region/zone/subzone; default: what its cloud says.",
        example="europe-west3/europe-west3-a",
        wrong="load balancing by locality would take it for somewhere else.",
        fix="`region/zone`.",
    )
    revision: Name | None = setting(
        None,
        meaning="The istiod that it follows; default: `machines.revision`. A network's gateway: the first.",
        example="canary",
        wrong="it would ask an istiod that does not exist.",
        fix="`controlPlane.revision`, or one of `controlPlane.revisions`.",
    )
    weight: AtLeastOne | None = setting(
        None,
        meaning="Its share of the requests among the endpoints; default 1. Needs `registration: static`.",
        example=2,
        wrong="it would get more or less than its share.",
        fix="1 or more, or leave it out.",
    )
    lost: Lost = setting(
        False,
        meaning="`true`: it is gone for good. It goes from mesh and stack at the next `up` or `destroy`, and nobody "
        "asks it. A list of addresses: the machines that had its name at these (`ssh.address`) are gone for good.",
        example=True,
        wrong="a machine that nobody can reach would hold up every `up` and `destroy`.",
        fix="`true`, or addresses that it had before, such as `[192.0.2.11]`; or leave it out.",
    )

    @property
    def gone(self) -> bool:
        """Whether the machine itself is declared lost."""
        return self.lost is True


class Machines(Model):
    """The part of a workload that runs on VMs."""

    version: LabelValue = setting(
        "vm",
        meaning="Their label `version`, which subsets select.",
        example="vm",
        wrong="no subset could select the VMs.",
        fix="a label value such as `vm`.",
    )
    registration: Literal["auto", "static"] = setting(
        "auto",
        meaning="`auto`: istiod makes a WorkloadEntry when a machine's proxy connects, and removes it after it left. "
        "`static`: the stack makes it, in the preview, and it is there whether the machine is or not.",
        example="static",
        wrong="it would be unclear who makes the machines' WorkloadEntries.",
        fix="auto or static.",
    )
    revision: Name | None = setting(
        None,
        meaning="The istiod that the machines follow, by its revision; default: `controlPlane.revision`.",
        example="canary",
        wrong="they would ask an istiod that does not exist.",
        fix="`controlPlane.revision`, or one of `controlPlane.revisions`.",
    )
    units: Sequence[UnitName] = setting(
        (),
        meaning="The systemd units of the application on the machines: at boot they start once the proxy is ready, or "
        "after `sidecar.timeouts.bootSeconds` without it.",
        example=["shop.service"],
        wrong="the application would start before the mesh is there, and its first calls would fail.",
        fix="`[shop.service]`, or leave it out.",
    )
    fleets: Fleets = setting(
        default_factory=dict,
        meaning="Fleets on Google Cloud by name. Their machines join by themselves, without SSH.",
        example={"shop-fleet": {"minSize": 2, "maxSize": 10}},
        wrong="nothing would run there.",
        fix="`{shop-fleet: {minSize: 2}}`, or leave it out.",
    )
    instances: Instances = setting(
        default_factory=dict,
        meaning="Single machines on Google Cloud by name. They join by themselves, without SSH.",
        example={"shop-one": {"zone": "europe-west3-a"}},
        wrong="nothing would run there.",
        fix="`{shop-one: {zone: europe-west3-a}}`, or leave it out.",
    )
    hosts: Mapping[Name, Host] = setting(
        default_factory=dict,
        meaning="The machines by name. Names are the stack's own; no two workloads share one.",
        example={"vm-1": {"ssh": {"address": "192.0.2.11"}}},
        wrong="there would be no machine.",
        fix="`{vm-1: {ssh: {…}}}`.",
    )
