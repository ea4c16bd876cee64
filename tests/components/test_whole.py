"""Views that pulumi leaves alone carry what they are views of: dependencies, secrets, what is not known."""

from __future__ import annotations

from typing import Any

import pulumi

from components.whole import parts, whole
from tests.components.harness import run


def test_a_view_is_not_taken_apart_and_reads_like_its_dict() -> None:
    def program() -> pulumi.Output[Any]:
        one = whole(pulumi.Output.from_input({"a": {"b": 1}}))

        def look(known: list[Any]) -> None:
            assert known[0]["a"]["b"] == 1
            assert not isinstance(known[0], dict)
            assert parts({"x": known[0]}) == {"x": {"a": {"b": 1}}}
            assert type(parts({"x": known[0]})["x"]) is dict

        return pulumi.Output.all(one).apply(look)

    run(program)


def test_a_secret_stays_one() -> None:
    def program() -> pulumi.Output[Any]:
        both = pulumi.Output.all(whole(pulumi.Output.secret({"a": "x"})), "y")

        async def look() -> None:
            assert await both.is_secret()

        return pulumi.Output.from_input(look())

    run(program)
