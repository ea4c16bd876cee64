"""A namespace of workloads."""

from .base import Model, setting


class Namespace(Model):
    """How a namespace of workloads is had."""

    existing: bool = setting(
        False,
        meaning="`true`: it exists, with its injection label, and is not this stack's to change or remove.",
        example=False,
        wrong="the stack could remove a namespace that others use.",
        fix="`true` or `false`.",
    )
