"""The program: settings in, mesh out."""

import gc
from pathlib import Path

import pulumi

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.settings import SettingsError
from hybridmesh.settings.pulumi_config import from_pulumi_config

# A run makes objects that live until its end. To look for garbage among them at each 700 new ones, which is Python's
# default, takes a quarter of the time of a large one (docs/benchmarks.md).
gc.set_threshold(20_000)

try:
    settings = from_pulumi_config(Path(__file__).parent)
except SettingsError as error:
    raise pulumi.RunError(str(error)) from error

mesh = HybridMesh("mesh", HybridMeshArgs(settings=settings))

pulumi.export("topology", mesh.topology)
pulumi.export("drawing", mesh.drawing)
