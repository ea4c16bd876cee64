"""Exceptions from the table of supported versions."""

from typing import Literal

from .base import Model, setting


class Versions(Model):
    """Exceptions from the table of supported versions, docs/versions.md."""

    accept: tuple[Literal["istiod", "sidecar", "system"], ...] = setting(
        (),
        meaning="What may be outside the table: istiod's version, the sidecar's against istiod's, the VMs' system. "
        "Each preview says what may break.",
        example=["system"],
        wrong="a combination that nobody has tried would be rolled out unseen.",
        fix="a list of istiod, sidecar and system, after reading docs/versions.md.",
    )
