"""The program: settings in, mesh out."""

# ruff: noqa: E402 - what the imports below make lives until the end: no use in looking for garbage in it
from hybridmesh.garbage import collect_what_is_new

collect_what_is_new()

import contextlib
from pathlib import Path

import pulumi

from components.debug_messages import without_debug_messages
from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.settings import SettingsError
from hybridmesh.settings.pulumi_config import from_pulumi_config

without_debug_messages()

try:
    settings = from_pulumi_config(Path(__file__).parent)
except SettingsError as error:
    raise pulumi.RunError(str(error)) from error


async def program() -> pulumi.Inputs:
    """Makes the mesh, and waits for it here: Pulumi's own wait goes through all pending outputs each time that one is
    known, a fifth of the time with twenty VMs, and more with more. A failure is the failed resource's to tell."""
    mesh = HybridMesh("mesh", HybridMeshArgs(settings=settings))
    with contextlib.suppress(Exception):
        await mesh.topology.future()
    return {"topology": mesh.topology, "drawing": mesh.drawing}


pulumi.run(program)
