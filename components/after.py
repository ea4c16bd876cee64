"""Which resource a value stands behind, told to the engine otherwise than Pulumi would."""

from collections.abc import Awaitable
from typing import TypeVar, cast

import pulumi

_T = TypeVar("_T")


def after(resource: pulumi.Resource, value: "pulumi.Input[_T]") -> "pulumi.Output[_T]":
    """`value` as an output of `resource`, too: who uses it is made after the resource, and removed before it.

    A resource's URN is known in every preview, unlike its properties; so a preview shows what hangs on it.
    """
    return resource.urn.apply(lambda _: value)


def behind(resource: pulumi.Resource, value: "pulumi.Output[_T]") -> "pulumi.Output[_T]":
    """`value`, for which the engine is told of `resource` alone, which must itself come after all that it hangs on.

    The order of everything is the same then, and the state, which names the dependencies of each resource and of each
    of its properties in full, a tenth smaller.
    """
    known = cast("Awaitable[_T]", value.future(with_unknowns=True))
    return pulumi.Output({resource}, known, value.is_known(), value.is_secret())
