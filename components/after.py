"""A value that is known from the start, for those who must wait for a resource all the same."""

from typing import TypeVar

import pulumi

_T = TypeVar("_T")


def after(resource: pulumi.Resource, value: _T) -> "pulumi.Output[_T]":
    """`value` as an output of `resource`: who uses it is made after the resource, and removed before it.

    A resource's URN is known in every preview, unlike its properties; so a preview shows what hangs on it.
    """
    return resource.urn.apply(lambda _: value)
