"""What a machine's proxy is told the same way, whether it joins over SSH or by itself."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .sidecar import SidecarCapture, SidecarLimits, SidecarPackage, SidecarResources


class ProxyChoices(Protocol):
    """The fields that `SidecarArgs` and `SelfJoinArgs` share; their meaning is there."""

    @property
    def package(self) -> "SidecarPackage": ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def log_level(self) -> str | None: ...
    @property
    def capture(self) -> "SidecarCapture": ...
    @property
    def resources(self) -> "SidecarResources": ...
    @property
    def app_units(self) -> Sequence[str]: ...
    @property
    def supported_systems(self) -> str: ...
    @property
    def accept_findings(self) -> Sequence[str]: ...
    @property
    def limits(self) -> "SidecarLimits": ...
