"""A stack on Pulumi's real engine whose program reads what it is given, and joins machines that stand for VMs."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.engine import Engine


@dataclass(frozen=True)
class GivenStack:
    """It; `given.json` beside the program has what it is given."""

    engine: Engine

    def give(self, given: object) -> None:
        """What its program reads from now on."""
        (self.engine.folder / "program" / "given.json").write_text(json.dumps(given))

    def put_up(self, given: object, *options: str, check: bool = True) -> str:
        """What an update says; without `check`, of one that must fail."""
        self.give(given)
        return self.engine.up(*options, check=check)

    def joined(self) -> set[str]:
        """The machines of tests.providers.joined that are in the state."""
        return {r["inputs"]["machine"] for r in self.engine.resources() if r["type"].endswith(":Joined")}
