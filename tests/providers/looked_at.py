"""Resources that stand for a VM's token and membership, in what they note when a refresh looks at them."""

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from hybridmesh.providers.drift import note_what_runs, note_what_was_left, runs_another_join


class TokenProvider(ResourceProvider):
    """Of a VM that was put back."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Does nothing."""
        return CreateResult("token", props)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Has looked at it."""
        note_what_runs(props, "digest-1")
        return ReadResult(id_, props)

    def diff(self, _id: str, olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """As the token's."""
        return DiffResult(changes=runs_another_join(olds))

    def update(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Says what the token's goes by."""
        print("runs another join:", runs_another_join(olds), flush=True)
        return UpdateResult(news)


class MembershipProvider(ResourceProvider):
    """Of the same."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Does nothing."""
        return CreateResult("membership", props)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """As the membership's."""
        note_what_was_left(props, "digest-2 applied 0a1b")
        return ReadResult(id_, props)


class LookedAt(Resource, name="LookedAt"):
    """Either."""

    def __init__(self, provider: ResourceProvider, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(provider, name, {"namespace": "demo", "entry": "echo-192.0.2.11"}, opts)
