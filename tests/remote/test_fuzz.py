"""Random files and settings of a payload arrive as they are, and nothing in them is run; or a message says why not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridmesh import remote
from tests.fuzz import MANY, random
from tests.istio.test_fuzz import odd

PLAIN_TEXT = st.one_of(odd, st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
COPY = """. ./lib.sh
for name in settings/*; do setting "${name#settings/}" >"$OUT/${name#settings/}"; done
cp files/* "$OUT/"
"""
"""In the place of preflight.sh: what the scripts' own way to read a setting gives, and each file."""


def refusal(name: str, value: str) -> str:
    """What a setting is refused with; empty if it is taken."""
    try:
        remote.payload({}, {name: value})
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.timeout(3000)
def test_what_a_payload_carries_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = remote._script("lib.sh")
    monkeypatch.setattr(remote, "_script", lambda name: library if name == "lib.sh" else COPY.encode())
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    command = remote.COMMAND_PREFLIGHT.replace("/run/", f"{run}/").replace('test "$(id -u)" = 0', "true")
    count = {"carried": 0, "message": 0}

    @random(max(10, MANY // 10))
    @given(
        st.dictionaries(st.sampled_from(sorted(remote.FILES)), PLAIN_TEXT, min_size=1, max_size=5),
        st.dictionaries(st.sampled_from(sorted(remote.SETTINGS)), PLAIN_TEXT, min_size=1, max_size=5),
    )
    def one(files: dict[str, str], given_settings: dict[str, str]) -> None:
        refused = {name: refusal(name, value) for name, value in given_settings.items()}
        accepted = {name: value for name, value in given_settings.items() if not refused[name]}
        for name, message in refused.items():
            assert not message or (name in message and message.isprintable())
        count["message"] += len(given_settings) - len(accepted)
        out.mkdir()
        done = subprocess.run(
            ["sh", "-c", command],
            input=remote.payload(files, accepted, remote.PREFLIGHT_SCRIPTS),
            env={"PATH": os.environ["PATH"], "OUT": str(out)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for name, value in files.items():
            assert (out / name).read_bytes() == value.encode()
        for name, value in accepted.items():
            assert (out / name).read_bytes() == value.encode() + b"\n", name
        count["carried"] += len(files) + len(accepted)
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["run"], "nothing was run, and nothing is left"

    one()
    print(count)
    assert count["message"]
