"""The mesh config: what istiod's ConfigMap holds under the key `mesh`."""

import functools
from dataclasses import dataclass

from . import goyaml, protojson
from .errors import BootstrapError
from .names import mesh_config_map

FIELD = "mesh config"
"""How errors call it."""
DEFAULT_TRUST_DOMAIN = "cluster.local"
"""What istiod takes where the mesh config names none (pkg/config/constants)."""
DEFAULT_ROOT_NAMESPACE = "istio-system"
"""The same of the namespace whose policies hold for the whole mesh (pkg/config/mesh, DefaultMeshConfig)."""


@dataclass(frozen=True)
class MeshConfig:
    """What bootstrap files need of a mesh config. Istio's built-in defaults are not filled in."""

    trust_domain: str
    """As it is written; empty where it is not."""
    default_config: protojson.Message
    """`defaultConfig`: the fields it sets, as `protojson.read` gives them."""
    unknown: tuple[str, ...]
    """Paths in `defaultConfig` that Istio does not know, and so leaves out."""

    @property
    def effective_trust_domain(self) -> str:
        """The trust domain of the mesh's certificates."""
        return self.trust_domain or DEFAULT_TRUST_DOMAIN


@functools.lru_cache(maxsize=16)
def parse_mesh_config(text: str) -> MeshConfig:
    """Reads the YAML text of a mesh config; only `trustDomain` and `defaultConfig` are looked at.

    Raises `BootstrapError` where Istio could not read it either.
    """
    data = goyaml.load(text, FIELD)
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise BootstrapError(
            FIELD,
            data,
            "is not a mapping",
            "There would be nothing to configure a proxy from.",
            "the text under the key `mesh` of ConfigMap `istio` (with a revision: `istio-<revision>`).",
        )
    trust_domain = data.get("trustDomain", data.get("trust_domain"))
    if not isinstance(trust_domain, str | None):
        raise BootstrapError(
            f"{FIELD}: trustDomain",
            trust_domain,
            "is not text",
            "istiod would not start.",
            "quote it.",
        )
    unknown: list[str] = []
    default_config = protojson.read(
        "ProxyConfig",
        data.get("defaultConfig", data.get("default_config")),
        f"{FIELD}: defaultConfig",
        unknown.append,
    )
    return MeshConfig(trust_domain or "", default_config, tuple(unknown))


def mesh_config_text(text: str, revision: str = "default") -> str:
    """The mesh config in `text`: that text itself, or the value under `mesh` where `text` is a ConfigMap's manifest.

    Raises `BootstrapError` where the ConfigMap has none, or by its name is that of another revision.
    """
    data = goyaml.load(text, FIELD)
    if not isinstance(data, dict) or data.get("kind") != "ConfigMap":
        return text
    expected = mesh_config_map(revision)
    metadata = data.get("metadata")
    name = metadata.get("name", expected) if isinstance(metadata, dict) else expected
    if name != expected:
        raise BootstrapError(
            f"{FIELD}: ConfigMap metadata.name",
            name,
            f"is not {expected}, which is that of revision {revision or 'default'}",
            "The VM would be configured for one istiod and connect to another.",
            f"ConfigMap {expected}, or the revision that belongs to {name}.",
        )
    values = data.get("data")
    value = values.get("mesh") if isinstance(values, dict) else None
    if not isinstance(value, str):
        raise BootstrapError(
            f"{FIELD}: ConfigMap data.mesh",
            value,
            "is missing, or not text",
            "There would be nothing to configure a proxy from.",
            f"ConfigMap {expected} as istiod's namespace has it.",
        )
    return value
