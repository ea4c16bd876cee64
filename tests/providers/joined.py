"""A resource that stands for what is done to a machine."""

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, ResourceProvider


class JoinedProvider(ResourceProvider):
    """Does nothing."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Does nothing."""
        return CreateResult("joined", props)


class Joined(Resource, name="Joined"):
    """That a machine is joined."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(JoinedProvider(), name, props, opts)
