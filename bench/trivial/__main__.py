"""Resources that do nothing: what is left is the engine's own time."""

import pulumi
from nothing import Nothing
from pulumi.dynamic import Resource


class Trivial(Resource, name="Trivial"):
    """A resource that does nothing."""


config = pulumi.Config()
for number in range(config.require_int("count")):
    Trivial(Nothing(), f"trivial-{number}", {"round": config.require_int("round")})
