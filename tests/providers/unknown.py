"""A value that is not known yet, as Pulumi's SDK hands it to a dynamic provider."""

from pulumi.runtime import rpc


def unknown() -> object:
    """What a provider gets in a preview for an input that only an update can tell."""
    found: object = rpc.deserialize_property(rpc.UNKNOWN, keep_unknowns=True)
    return found
