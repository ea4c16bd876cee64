"""The startup script: what it is as a text, and that it unpacks to what it was made of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridmesh import remote
from hybridmesh.istio.bootstrap import shell_quote
from hybridmesh.remote.startup import GOOGLE_IDENTITY, startup_script
from tests.remote.test_scripts import SCRIPTS, function, sh

FILES = {
    "cluster.env": "ISTIO_SERVICE_CIDR='*'\n",
    "hosts": "192.0.2.1 istiod.istio-system.svc\n",
    "kubernetes-ca.pem": "-----BEGIN CERTIFICATE-----\nkubernetes\n",
    "mesh.yaml": "defaultConfig: {}\n",
    "root-cert.pem": "-----BEGIN CERTIFICATE-----\nistio\n",
}
SETTINGS = {"api-server": "https://192.0.2.2:6443", "service-account": "demo/echo", **GOOGLE_IDENTITY}
METADATA_LIMIT = 256 * 1024
"""Of one value. Source: cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations."""


def unpacked(script: str, folder: Path) -> dict[str, bytes]:
    """What the script leaves in its folder before it boots, run in `folder` in the place of /run."""
    text = script.replace("mktemp -d /run/hybrid-mesh.XXXXXXXX", f"mkdir -p {folder}/here && echo {folder}/here")
    text = text.replace("trap 'rm -rf \"$folder\"' EXIT\n", "").replace("/bin/sh ./boot.sh </dev/null\n", "")
    subprocess.run(["sh"], input=text.encode(), check=True, timeout=20, cwd=folder)
    found = {str(f.relative_to(folder / "here")): f.read_bytes() for f in (folder / "here").rglob("*") if f.is_file()}
    shutil.rmtree(folder / "here")
    return found


def test_it_unpacks_to_the_scripts_files_and_settings_that_it_was_made_of(tmp_path: Path) -> None:
    found = unpacked(startup_script(FILES, SETTINGS), tmp_path)
    assert found == {
        **{f"files/{name}": text.encode() for name, text in FILES.items()},
        **{f"settings/{name}": f"{value}\n".encode() for name, value in SETTINGS.items()},
        **{name: (SCRIPTS / name).read_bytes() for name in remote.STARTUP_SCRIPTS},
    }


@given(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=80))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_arrives_as_it_is_and_is_never_run(tmp_path: Path, text: str) -> None:
    odd = f"$(touch executed) `touch executed`\n'\"\\ {text}\nEND\n"
    found = unpacked(startup_script({**FILES, "mesh.yaml": odd}, SETTINGS), tmp_path)
    assert found["files/mesh.yaml"] == odd.encode()
    assert not (tmp_path / "executed").exists()


def test_whoever_reads_it_sees_files_and_settings_as_they_are() -> None:
    script = startup_script(FILES, SETTINGS)
    for text in [*FILES.values(), *SETTINGS.values()]:
        assert text in script


def test_the_same_arguments_give_the_same_text_in_whatever_order() -> None:
    backwards = startup_script(dict(reversed(FILES.items())), dict(reversed(SETTINGS.items())))
    assert backwards == startup_script(FILES, SETTINGS)


def test_one_changed_line_of_a_file_is_one_changed_line_of_the_text() -> None:
    before = startup_script(FILES, SETTINGS).splitlines()
    after = startup_script({**FILES, "hosts": "192.0.2.9 istiod.istio-system.svc\n"}, SETTINGS).splitlines()
    changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert changed == [("192.0.2.1 istiod.istio-system.svc", "192.0.2.9 istiod.istio-system.svc")]


def test_it_leaves_room_in_the_metadata() -> None:
    assert len(startup_script(FILES, SETTINGS).encode()) < METADATA_LIMIT * 2 / 3


def test_it_is_plain_shell() -> None:
    subprocess.run(["sh", "-n"], input=startup_script(FILES, SETTINGS), text=True, check=True, timeout=20)
    if shutil.which("shellcheck"):
        subprocess.run(
            ["shellcheck", "--shell=sh", "-"], input=startup_script(FILES, SETTINGS), text=True, check=True, timeout=60
        )


def test_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="a token would be in a template"):
        startup_script({**FILES, "istio-token": "eyJh.e.c"}, SETTINGS)


@pytest.mark.parametrize("name", ["api-server", "service-account", "identity-url", "identity-header"])
def test_without_a_way_to_its_token_it_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} missing"):
        startup_script(FILES, {key: value for key, value in SETTINGS.items() if key != name})


def test_a_file_with_the_line_that_would_end_it_is_refused() -> None:
    with pytest.raises(ValueError, match="has a line '-- end of hybrid-mesh --'"):
        startup_script({**FILES, "mesh.yaml": "a\n-- end of hybrid-mesh --\nrm -rf /\n"}, SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api-server", "http://192.0.2.2"),
        ("api-server", 'https://192.0.2.2"\nheader = "x'),
        ("api-server", 'https://192.0.2.2" -o /etc/passwd'),
        ("service-account", "echo"),
        ("service-account", "demo/echo/../other"),
        ("identity-url", 'http://169.254.169.254/"'),
        ("identity-header", "Metadata-Flavor"),
        ("token-seconds", "1h"),
    ],
)
def test_what_would_make_another_request_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"payload: setting '{name}'"):
        startup_script(FILES, {**SETTINGS, name: value})


# ---------------------------------------------------------------- the scripts' parts that need no VM


@pytest.mark.parametrize(
    ("answer", "name", "value"),
    [
        ('{"access_token":"ya29.a-b_c","expires_in":3599,"token_type":"Bearer"}', "access_token", "ya29.a-b_c"),
        (
            '{\n  "status": {\n    "token": "eyJh.eyJz.c2ln",\n    "expirationTimestamp": "x"\n  }\n}\n',
            "token",
            "eyJh.eyJz.c2ln",
        ),
        ('{"status":{"token":"eyJh\\" evil"}}', "token", ""),
        ('{"error":"invalid_scope"}', "access_token", ""),
        ("<html>", "token", ""),
    ],
)
def test_a_token_is_read_from_an_answer_or_nothing_is(tmp_path: Path, answer: str, name: str, value: str) -> None:
    (tmp_path / "answer").write_text(answer)
    assert sh(f"{function('token.sh', 'json_value')}json_value {name}", folder=tmp_path).strip() == value


def test_an_answer_that_does_not_come_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    """The one before is the metadata server's, with the access token of the machine's account."""
    (tmp_path / "answer").write_text('{"access_token": "ya29.S3CRET"}')
    silent = "STATE=.; API=https://192.0.2.2; ACCOUNT=demo/echo; AUTHORITIES=ca; unredirected() { return 124; }\n"
    parts = "".join(function("token.sh", name) for name in ("request", "refuse", "explain"))
    said = sh(f"{silent}{parts}status=$(request </dev/null); (explain) 2>&1 || :; cat token-refused", folder=tmp_path)
    assert "https://192.0.2.2 cannot be reached: no answer within 15 s" in said
    assert "S3CRET" not in said


@pytest.mark.parametrize(("written", "young"), [(-60, True), (-1801, False), (18000, False), (None, False)])
def test_a_token_of_the_first_half_of_its_time_is_young_and_one_of_the_future_is_not(
    tmp_path: Path, written: int | None, young: bool
) -> None:
    """The future's is from before the clock was set back."""
    token = tmp_path / "token"
    if written is not None:
        token.touch()
        os.utime(token, (time.time() + written,) * 2)
    text = f"TOKEN={token}; SECONDS_VALID=3600\n{function('token.sh', 'is_young')}if is_young; then echo yes; fi"
    assert (sh(text, folder=tmp_path) == "yes\n") is young


def test_a_token_travels_by_stdin_and_never_in_a_command_line() -> None:
    text = (SCRIPTS / "token.sh").read_text()
    requests = re.findall(r"^.*\bcurl\b.*$", text, re.MULTILINE)
    assert [line for line in requests if "--config -" in line or "command -v" in line or line.startswith("#")]
    for line in text.splitlines():
        if re.search(r"\$(identity|token)\b", line):
            assert line.startswith(("header = ", "    [ -n ", "    printf '%s' ")), line


@pytest.mark.parametrize(
    ("settings", "own"), [({"api-server": "https://192.0.2.2"}, "yes"), ({}, "no"), ({"api-server": ""}, "no")]
)
def test_a_machine_gets_its_own_token_where_it_is_told_of_an_api_server(
    tmp_path: Path, settings: dict[str, str], own: str
) -> None:
    (tmp_path / "settings").mkdir()
    for name, value in settings.items():
        (tmp_path / "settings" / name).write_text(f"{value}\n")
    assert sh("if gets_own_token; then echo yes; else echo no; fi", folder=tmp_path).strip() == own


def completed(folder: Path, variables: str) -> str:
    """`variables` with those of one machine of a fleet."""
    (folder / "files").mkdir()
    (folder / "files/cluster.env").write_text(variables)
    own = "HOST=echo-fleet-x1.c.project.internal; own_address() { echo 192.0.2.7; }"
    return sh(
        f"{function('boot.sh', 'complete_cluster_env')}{own}; complete_cluster_env; cat files/cluster.env",
        folder=folder,
    )


@pytest.mark.parametrize(
    ("variables", "all_of_them"),
    [
        ("A=1\nZ=2\n", "A=1\nISTIO_SVC_IP=192.0.2.7\nPOD_NAME=echo-fleet-x1\nZ=2\n"),
        ("A=1\n", "A=1\nISTIO_SVC_IP=192.0.2.7\nPOD_NAME=echo-fleet-x1\n"),
        ("J=1\nQ=2\n", "ISTIO_SVC_IP=192.0.2.7\nJ=1\nPOD_NAME=echo-fleet-x1\nQ=2\n"),
    ],
)
def test_what_one_machine_does_not_share_is_added_to_the_variables_in_order(
    tmp_path: Path, variables: str, all_of_them: str
) -> None:
    assert completed(tmp_path, variables) == all_of_them


@pytest.mark.parametrize("value", ["one\nZwo\nA=3", "it's\nA\nZ='z'\n", "\n'\nX\n''\nB", "'Z\n\"'\"\nA"])
def test_a_variable_of_several_lines_is_whole_on_a_machine_of_a_fleet(tmp_path: Path, value: str) -> None:
    variables = {"CANONICAL_SERVICE": "echo", "EXTRA": value, "TRUST_DOMAIN": "x"}
    completed(tmp_path, "".join(f"{name}={shell_quote(text)}\n" for name, text in variables.items()))
    variables |= {"ISTIO_SVC_IP": "192.0.2.7", "POD_NAME": "echo-fleet-x1"}
    # As istio-start.sh does
    text = "set -ea; . files/cluster.env; for name in $0; do printf '%s\\0' \"${!name}\"; done"
    read = subprocess.run(
        ["bash", "-c", text, " ".join(variables)], cwd=tmp_path, capture_output=True, timeout=20, check=True
    )
    assert read.stdout.decode().split("\0")[:-1] == list(variables.values())


def test_a_join_waits_for_no_application_which_may_wait_for_the_startup_script(tmp_path: Path) -> None:
    """The farewell comes after them in the order of a boot, so that a job of theirs holds up its start."""
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "api-server").write_text("https://192.0.2.2\n")
    (tmp_path / "hybrid-mesh-token.timer").touch()
    fakes = 'timeout() { shift; "$@"; }\nsystemctl() { echo "$*" >>said; }\n'
    sh(f"{fakes}{function('join.sh', 'start_upkeep')}start_upkeep", folder=tmp_path)
    starts = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("start ")]
    assert starts == ["start hybrid-mesh-token.timer", "start --no-block hybrid-mesh-farewell.service"]
