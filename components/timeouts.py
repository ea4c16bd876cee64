"""How long the engine lets one resource take."""

import pulumi


def within(seconds: int) -> pulumi.CustomTimeouts:
    """Limits of making, of changing and of removing it, each in seconds."""
    limit = f"{seconds}s"
    return pulumi.CustomTimeouts(create=limit, update=limit, delete=limit)
