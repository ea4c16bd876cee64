"""Where in a stack's settings Pulumi has encrypted something (`secure:`)."""

import re
from collections.abc import Iterator
from typing import Any

Place = tuple[str | int, ...]
"""Where a value stands: its section, then a key or an index for each step."""

_PLAIN_STEP = re.compile(r"[A-Za-z_][-\w]*")


def encrypted_places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where Pulumi has encrypted something, in sections of a stack file or below one place there."""
    if is_ciphertext(value):
        yield place
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from encrypted_places(inner, (*place, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from encrypted_places(inner, (*place, index))


def is_ciphertext(value: Any) -> bool:
    """Whether it is a value as Pulumi encrypts it."""
    return isinstance(value, dict) and set(value) == {"secure"} and isinstance(value["secure"], str)


def without_ciphertext(value: Any) -> Any:
    """The same, with a text in place of each value that Pulumi has encrypted."""
    if is_ciphertext(value):
        return "PRIVATE KEY (encrypted)"
    if isinstance(value, dict):
        return {key: without_ciphertext(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_ciphertext(inner) for inner in value]
    return value


def is_written_so(given: Any, written: Any) -> bool:
    """Whether a stack file that says `written` gives `given`, whatever is encrypted in it."""
    if is_ciphertext(written):
        return True
    if isinstance(written, dict):
        inside = {str(key): value for key, value in written.items()}
        return (
            isinstance(given, dict)
            and given.keys() == inside.keys()
            and all(is_written_so(given[key], value) for key, value in inside.items())
        )
    if isinstance(written, list):
        return (
            isinstance(given, list)
            and len(given) == len(written)
            and all(is_written_so(*pair) for pair in zip(given, written, strict=True))
        )
    return bool(given == written)


def value_at(sections: Any, place: Place) -> Any:
    """What stands at a place, or as much of the way there as there is."""
    value = sections
    for step in place:
        if isinstance(value, dict):
            value = next((inner for key, inner in value.items() if str(key) == step), None)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
    return value


def shown(place: Place) -> str:
    """A place as findings name it: `workloads.echo.ports[0].port`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


def for_pulumi(place: Place) -> str:
    """A place as `pulumi config set --path` wants it: `workloads.echo.labels["example.com/team"]`."""
    return "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" if _PLAIN_STEP.fullmatch(step) else f'["{step}"]'
        for step in place
    ).removeprefix(".")
