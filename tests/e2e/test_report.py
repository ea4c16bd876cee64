"""The report of a running stack, in a real Chromium: light, dark, and on a phone."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from lab.traffic import ask, in_pod
from tests.e2e.stack import Stack, console
from tests.environment import Lab

pytestmark = pytest.mark.lab

CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--allow-file-access-from-files",
]  # fmt: skip
FRAME = """<!doctype html><body style="margin:0">
<iframe id="page" src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<pre id="found"></pre>
<script>
page.onload = () => {{
  const inside = page.contentDocument, shown = s => getComputedStyle(inside.querySelector(s)).display !== "none";
  found.textContent = JSON.stringify({{
    background: getComputedStyle(inside.body).backgroundColor,
    overflow: inside.scrollingElement.scrollWidth - {width},
    wide: shown(".picture.wide"), tall: shown(".picture.tall"), head: shown("thead"),
    smallest: Math.min(...[...inside.querySelectorAll(".picture text")].map(t => t.getBoundingClientRect().height)
      .filter(h => h > 0)),
    requests: inside.defaultView.performance.getEntriesByType("resource").length,
  }});
}};
</script>"""


@pytest.fixture(scope="module")
def page(lab: Lab, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    stack.restore()
    stack.up()
    ask(in_pod(lab.instance, lab.tools, "deploy/client", "demo"), "http://echo.demo.svc.cluster.local:8080/", 100)
    path = tmp_path_factory.mktemp("report") / "report.html"
    console(lab, "report", "--stack", "dev", "--config-file", str(stack.file), "--output", str(path))
    return path


def seen(page: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """What a reader has before them; the pictures are kept beside the page."""
    frame = page.with_name(f"frame-{width}{'-dark' if dark else ''}.html")
    frame.write_text(FRAME.format(page=page.as_uri(), width=width))
    taste = [f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--user-data-dir={frame.with_suffix('')}"]
    dumped = subprocess.run(
        [*CHROMIUM, *taste, "--virtual-time-budget=3000", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    size = [f"--window-size={max(width, 500)},1600", f"--screenshot={frame.with_suffix('.png')}"]
    subprocess.run([*CHROMIUM, *taste, *size, page.as_uri()], capture_output=True, timeout=60, check=True)
    assert frame.with_suffix(".png").stat().st_size > 20_000
    answer = re.search(r'<pre id="found">(.*?)</pre>', dumped)
    assert answer, dumped[-2000:]
    found: dict[str, Any] = json.loads(unescape(answer[1]))
    return found


def test_it_tells_of_the_running_stack(page: Path) -> None:
    text = page.read_text()
    assert (alarms := re.findall(r'<div class="finding .*?</div>', text, re.DOTALL)) == [], alarms
    for words in ("all well", "2 of 2", "vm-1", "vm-2", "k8s 90 %", "istiod"):
        assert words in text


def test_it_is_readable_at_a_desk_in_the_dark_and_on_a_phone(page: Path) -> None:
    desk, dark, phone = seen(page, 1100), seen(page, 1100, dark=True), seen(page, 390)
    assert desk["background"] == "rgb(244, 246, 248)"
    assert dark["background"] == "rgb(16, 21, 28)"
    assert (desk["wide"], desk["tall"], desk["head"]) == (True, False, True)
    assert (phone["wide"], phone["tall"], phone["head"]) == (False, True, False)
    for reader in (desk, dark, phone):
        assert reader["overflow"] <= 0, "nobody scrolls sideways"
        assert reader["requests"] == 0
        assert reader["smallest"] >= 10, "pixels of the smallest letters in the drawing"
