"""The program's own file: what it changes of Pulumi's SDK, for a run's time alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.components.harness import PROJECT_ROOT

RUN = """
import runpy, pulumi
as_it_came = pulumi.log.debug, pulumi.log.warn, pulumi.log.error
try:
    runpy.run_path("__main__.py")
except pulumi.RunError as error:
    assert "cluster" in str(error), "there are no settings here"
print([before is now for before, now in zip(as_it_came, (pulumi.log.debug, pulumi.log.warn, pulumi.log.error))])
pulumi.log.debug("said", stream_id=1)
"""


@pytest.mark.parametrize(("asked", "kept"), [({}, [False, True, True]), ({"HYBRID_MESH_DEBUG": "1"}, [True] * 3)])
def test_debug_messages_of_the_sdk_are_said_to_who_asks_for_them_and_all_others_ever(
    asked: dict[str, str], kept: list[bool]
) -> None:
    env = {name: value for name, value in os.environ.items() if name != "HYBRID_MESH_DEBUG"} | asked
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=PROJECT_ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == str(kept), done.stderr
