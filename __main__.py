"""The program: settings in, mesh out."""

from pathlib import Path

import pulumi

from components.hybrid_mesh import HybridMesh, HybridMeshArgs
from hybridmesh.settings import SettingsError
from hybridmesh.settings.pulumi_config import from_pulumi_config

try:
    settings = from_pulumi_config(Path(__file__).parent)
except SettingsError as error:
    raise pulumi.RunError(str(error)) from error

mesh = HybridMesh("mesh", HybridMeshArgs(settings=settings))

pulumi.export("topology", mesh.topology)
pulumi.export("drawing", mesh.drawing)
