"""How much is tried at random: HYBRID_MESH_FUZZ says it, 10,000 in `make test-full`, 1,000 beside istioctl."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

MANY = int(os.environ.get("HYBRID_MESH_FUZZ", "100"))


def random(examples: int = MANY) -> settings:
    """Settings of a test that tries so many; where MANY is up to a thousand, the same ones in every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=MANY <= 1000,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
