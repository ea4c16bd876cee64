"""Resources that do nothing: what is left is the engine's own time."""

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult


class Nothing(ResourceProvider):
    """Does nothing."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Nothing."""
        return CreateResult("nothing", props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Whether it is another round."""
        return DiffResult(changes=olds["round"] != news["round"])

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Nothing."""
        return UpdateResult(news)


class Trivial(Resource, name="Trivial"):
    """A resource that does nothing."""


config = pulumi.Config()
for number in range(config.require_int("count")):
    Trivial(Nothing(), f"trivial-{number}", {"round": config.require_int("round")})
