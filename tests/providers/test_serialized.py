"""Pulumi stores each provider as a pickle. It must not change with process or code, or every run shows a diff."""

import base64
import pickletools
import subprocess
import sys
from pathlib import Path

import pytest
from pulumi.dynamic.dynamic import ResourceProvider, serialize_provider

from hybridmesh.providers.adopted import AdoptedIstiodProvider
from hybridmesh.providers.adopters import AdoptersProvider
from hybridmesh.providers.awaited import AwaitedAddressProvider, AwaitedConfigMapProvider
from hybridmesh.providers.departure import DepartureProvider
from hybridmesh.providers.drift import DriftProvider
from hybridmesh.providers.lost import LostMachinesProvider
from hybridmesh.providers.membership import MembershipProvider
from hybridmesh.providers.preflight import PreflightProvider, VerdictProvider
from hybridmesh.providers.remains import IstioRemainsProvider
from hybridmesh.providers.token import IstioTokenProvider

PROVIDERS = [
    AdoptedIstiodProvider,
    AdoptersProvider,
    AwaitedAddressProvider,
    AwaitedConfigMapProvider,
    DepartureProvider,
    DriftProvider,
    IstioRemainsProvider,
    IstioTokenProvider,
    LostMachinesProvider,
    MembershipProvider,
    PreflightProvider,
    VerdictProvider,
]
PROJECT_ROOT = Path(__file__).parents[2]


def serialized(provider: type[ResourceProvider]) -> str:
    return str(serialize_provider(provider()))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_holds_the_class_by_name_and_no_code(provider: type[ResourceProvider]) -> None:
    pickle = base64.b64decode(serialized(provider))
    opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(pickle)]
    texts = {argument for name, argument in opcodes if "UNICODE" in name}
    assert texts == {provider.__module__, provider.__name__}
    assert len(pickle) < 150, "no room for code"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_is_no_secret_so_that_diffs_can_be_read(provider: type[ResourceProvider]) -> None:
    assert provider.serialize_as_secret_always is False


def test_it_is_the_same_in_every_process() -> None:
    names = [(provider.__module__, provider.__name__) for provider in PROVIDERS]
    program = (
        "import importlib\n"
        "from pulumi.dynamic.dynamic import serialize_provider\n"
        f"for module, name in {names!r}:\n"
        "    print(serialize_provider(getattr(importlib.import_module(module), name)()))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT_ROOT,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    assert said == [serialized(provider) for provider in PROVIDERS]


def test_as_many_as_a_large_stack_has_are_not_too_many() -> None:
    """Pulumi wraps a method of pickle's once more for each, which ends what is kept by value after some 300."""
    assert len({serialized(provider) for _ in range(300) for provider in PROVIDERS}) == len(PROVIDERS)
