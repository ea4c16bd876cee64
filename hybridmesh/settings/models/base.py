"""What all settings are made of: kinds of values, a field with its words, and the frozen model."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_CLUSTER_ID = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HOST_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}( .*)?")
_URL = re.compile(r"https?://[^\s/?#@]+([/?#]\S*)?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST = re.compile(
    r"(?=.{4,253}$)(?!.*\.\d+$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+"
)
_DOOR = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]*")
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]+\.(service|target|timer)")
_BEFORE_THE_PROXY = {"istio.service", "sysinit.target", "basic.target", "network.target", "network-online.target"}
_DURATION = re.compile(r"[1-9]\d{0,6}(ms|s|m)|[1-9]\d{0,5}h")
"""Istio reads none of three hundred years."""
_HEADER = re.compile(r"[a-z0-9]([-a-z0-9_]*[a-z0-9])?")
_PLACE = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LOCALITY = re.compile(rf"{_PLACE}(/{_PLACE}){{0,2}}")
_LOCALITY_MATCH = re.compile(rf"(\*|{_PLACE}(/(\*|{_PLACE}(/(\*|{_PLACE}))?))?)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_PRINCIPAL = re.compile(r"[a-z0-9][-a-z0-9.]*/ns/[a-z0-9][-a-z0-9]*/sa/[a-z0-9][-a-z0-9.]*")
_HTTP_PATH = re.compile(
    r"/[^*{}\s?#]*\*?|\*[^*{}\s?#]+"
    # A template, of what Istio takes in one (istio, pkg/config/security/security.go, validLiteral); nothing variable
    # follows `{**}`.
    r"|(?!.*\{\*\*\}.*\{)(?:/(?:[-a-zA-Z0-9._~%!$&'()+,;:@=]+|\{\*\*?\}))+/?"
)
_MEMORY = re.compile(r"[1-9][0-9]{0,9}[KMGT]")
_LABELS = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_EGRESS_HOST = re.compile(rf"(\.|\*|~|{_LABEL.pattern})/(\*|(\*\.)?{_LABELS})")
_ENVOY_LEVEL = "(trace|debug|info|warning|warn|error|critical|off)"
_LOG_LEVEL = re.compile(rf"(?:{_ENVOY_LEVEL}|[a-z0-9_]+:{_ENVOY_LEVEL})(?:,[a-z0-9_]+:{_ENVOY_LEVEL})*")
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")


@dataclass(frozen=True)
class Matching:
    """A text that a pattern matches, for the parser and in the JSON schema."""

    pattern: re.Pattern[str]
    meaning: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern.pattern})$"}

    def _check(self, value: str) -> str:
        if not self.pattern.fullmatch(value):
            raise ValueError(f"is not {self.meaning}")
        return value


def _no_bool(value: object) -> object:
    # YAML's `yes` and `on` are booleans, which pydantic would take for 1.
    if isinstance(value, bool):
        # A TypeError would not become a finding.
        raise ValueError("is a boolean, not a number")  # noqa: TRY004
    return value


def _splits(value: str) -> str:
    try:
        urlsplit(value).port  # noqa: B018 - it is looked at by asking
    except ValueError:
        raise ValueError("is not a URL: its host is no name and no address, or its port no port") from None
    return value


def _ip(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        # Not in Python's words, which repeat the value: it may be a secret in the wrong place.
        raise ValueError("is not an IPv4 or IPv6 address") from None


def _address(value: str) -> str:
    try:
        return _ip(value)
    except ValueError:
        if not _HOST.fullmatch(value):
            raise ValueError("is neither an IP address nor a full host name in lower case") from None
        return value


def _door(value: str) -> str:
    # An SSH address may be a name that /etc/hosts alone knows. A port, a user or a scheme has no place in it.
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _DOOR.fullmatch(value):
            raise ValueError("is neither an IP address nor a host name alone, without user and port") from None
    return value


def _cidr(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        problem = "has host bits set" if "host bits" in str(error) else "is not an IPv4 or IPv6 range"
        raise ValueError(problem) from None


def _memory(value: str) -> str:
    if memory_bytes(value) < 64 * 1024**2:
        raise ValueError("is less than 64M, with which no proxy starts")
    return value


def memory_bytes(size: str) -> int:
    """A size such as `512M` as systemd reads it: the units are powers of 1024."""
    unit: int = 1024 ** ("KMGT".index(size[-1]) + 1)
    return int(size[:-1]) * unit


def is_name(value: str) -> bool:
    """Whether Istio and Kubernetes take a text for a name, such as that of a subset; a label's value may be none."""
    return _LABEL.fullmatch(value) is not None


def _lost(value: object) -> object:
    # As one check, so that a finding names the setting, and not a part of the type.
    if isinstance(value, bool):
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValueError("is neither true nor a list of addresses")
    return tuple(value)


def _unit(value: str) -> str:
    # A cycle at boot, of which systemd leaves out one or the other.
    if value in _BEFORE_THE_PROXY:
        raise ValueError("starts before the proxy, or is the proxy's own, and cannot wait for it")
    if value.startswith("hybrid-mesh-"):
        raise ValueError("has the name of a unit that this program puts on a VM (hybrid-mesh-…)")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


Text = Annotated[str, AfterValidator(_not_empty)]
Name = Annotated[str, Matching(_LABEL, "an RFC 1123 label (1 to 63 of a-z, 0-9 and -, no - at either end)")]
ClusterId = Annotated[
    str, Matching(_CLUSTER_ID, "a cluster id (1 to 63 of A-Z, a-z, 0-9, -_., none of -_. at either end)")
]
PortName = Annotated[str, Matching(_PORT_NAME, "a port name (1 to 15 of a-z, 0-9 and -, with a letter)")]
LabelKey = Annotated[str, Matching(_LABEL_KEY, "a Kubernetes label key")]
LabelValue = Annotated[str, Matching(_LABEL_VALUE, "a Kubernetes label value (at most 63 of A-Z, a-z, 0-9, -_.)")]
Domain = Annotated[str, Matching(_DOMAIN, "a domain in lower case")]
EnvironmentName = Annotated[str, Matching(_ENVIRONMENT_NAME, "the name of a variable")]
Principal = Annotated[
    str, Matching(_PRINCIPAL, "an identity `<trust domain>/ns/<namespace>/sa/<service account>` without `*`")
]
HttpPath = Annotated[
    str,
    Matching(
        _HTTP_PATH,
        "a path such as `/orders`, `/orders/*` (all below), `*/health` (all that end so) or `/orders/{*}/items`",
    ),
]
Url = Annotated[
    str,
    # VMs get it as an argument of curl, and previews show it.
    Matching(
        _URL,
        "an http or https URL without user and password, which previews, the state and lists of processes would show",
    ),
    AfterValidator(_splits),
]
Version = Annotated[str, Matching(_VERSION, "a full version such as 1.31.0")]
Sha256 = Annotated[
    str,
    BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v),
    Matching(_SHA256, "64 hexadecimal digits"),
]
HostKey = Annotated[str, Matching(_HOST_KEY, "an SSH public host key such as `ssh-ed25519 AAAA…`")]
IpAddress = Annotated[str, AfterValidator(_ip)]
Address = Annotated[str, AfterValidator(_address)]
SshAddress = Annotated[str, AfterValidator(_door)]
Lost = Annotated[bool | tuple[str, ...], BeforeValidator(_lost)]
UnitName = Annotated[
    str,
    # One of those that basic.target waits for would be a cycle at boot, with a service that waits for the proxy.
    Matching(_UNIT, "a systemd service, target or timer such as `shop.service`; for a socket, what it starts"),
    AfterValidator(_unit),
]
Cidr = Annotated[str, AfterValidator(_cidr)]
MemorySize = Annotated[str, Matching(_MEMORY, "a size such as 512M (K, M, G or T)"), AfterValidator(_memory)]
EgressHost = Annotated[str, Matching(_EGRESS_HOST, "`namespace/host`, such as `./*`")]
LogLevel = Annotated[str, Matching(_LOG_LEVEL, "a log level of Envoy's")]
Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Count = Annotated[Whole, Field(ge=0, le=2**31 - 1)]
Seconds = Annotated[Whole, Field(ge=1, le=86400)]
Percent = Annotated[Whole, Field(ge=0, le=100)]
Labels = Mapping[LabelKey, LabelValue]
HostName = Annotated[str, Matching(_HOST, "a full host name such as `shop.vm.internal`, in lower case, no `*`")]
Duration = Annotated[str, Matching(_DURATION, "a duration such as `30ms`, `2s`, `5m` or `1h`")]
HeaderName = Annotated[str, Matching(_HEADER, "a header's name in lower case, such as `x-tester`")]
Locality = Annotated[
    str, Field(max_length=63), Matching(_LOCALITY, "a locality such as `europe-west3/a`: region, zone and subzone")
]
LocalityMatch = Annotated[
    str, Matching(_LOCALITY_MATCH, "a locality such as `europe-west3/a/*`: region, zone and subzone, or `*`")
]
Region = Annotated[str, Matching(_LABEL, "a region's name such as `europe-west3`, without zone")]
AtLeastOne = Annotated[Whole, Field(ge=1, le=2**31 - 1)]


def milliseconds(duration: str) -> int:
    """How long a `Duration` is."""
    unit = duration.lstrip("0123456789")
    return int(duration.removesuffix(unit)) * _MILLISECONDS[unit]


def setting(
    default: Any = ..., *, meaning: str, example: Any = None, wrong: str = "", fix: str = "", **more: Any
) -> Any:
    """A field with all that a person needs to set it, or to put it right."""
    if "default_factory" not in more:
        more["default"] = default
    return Field(description=meaning, examples=[example], json_schema_extra={"wrong": wrong, "fix": fix}, **more)


class Model(BaseModel):
    """Frozen, camelCase outside, and without room for keys that nobody reads."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=False,
        hide_input_in_errors=True,
    )
