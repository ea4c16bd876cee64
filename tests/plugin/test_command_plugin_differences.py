"""What the stand-in does better than the official plugin. These alone are not asked of the official one."""

from __future__ import annotations

import time

import pytest

from tests.plugin.plugin import Plugin
from tests.plugin.sshd import Sshd

pytestmark = pytest.mark.lab

COMMAND = "command:remote:Command"


@pytest.fixture(autouse=True)
def _stand_in_only(plugin: Plugin) -> None:
    if "+stand-in" not in plugin.version():
        pytest.skip("the official plugin: keeps connections until it exits, hangs on a shown line over 64 KiB")


def test_the_connection_ends_with_the_command(plugin: Plugin, sshd: Sshd) -> None:
    plugin.create(COMMAND, {"connection": sshd.connection, "create": "true"})

    deadline = time.monotonic() + 10
    while sshd.established() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sshd.established() == 0


def test_a_long_line_is_shown(plugin: Plugin, sshd: Sshd) -> None:
    create = "head -c 300000 /dev/zero | tr '\\0' x"

    made = plugin.create(COMMAND, {"connection": sshd.connection, "create": create})

    assert made.output("stdout") == "x" * 300_000
    assert [len(line.text) for line in plugin.logged] == [300_000]
