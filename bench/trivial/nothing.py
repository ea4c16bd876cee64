"""A provider that does nothing, in a module of its own.

Pulumi keeps what is in `__main__` by value, and fails at it for some three hundred resources: it wraps a method of
pickle's once more for each (pulumi.dynamic.dynamic.serialize_provider).
"""

from typing import Any

from pulumi.dynamic import CreateResult, DiffResult, ResourceProvider, UpdateResult


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
