"""Random bootstrap inputs end in files that a shell reads as data, or in a message of one line: nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hybridmesh.istio import BootstrapError, BootstrapOptions, bootstrap_files, group_from_yaml
from tests.fuzz import MANY, random
from tests.istio.cases import PLAIN, Case, cases, groups, mesh_configs, quotable, spelled, tricky

ATTACKS = [
    "$(touch executed)",
    "`touch executed`",
    "'; touch executed; '",
    '"; touch executed; "',
    "a\ntouch executed\n",
    "a\r\ntouch executed",
    "'\"'\"'; touch executed #",
    "\\'; touch executed; \\'",
    "$(touch executed)\u2028`touch executed`\u0085",
    "${IFS}touch${IFS}executed",
    "&& touch executed ||",
    "日本 $(touch executed) 🚀",
]
"""What would leave a file behind, if any shell ran it."""
odd = st.one_of(st.sampled_from(ATTACKS), quotable, tricky)


@st.composite
def attacked(draw: st.DrawFn) -> Case:
    """A case whose texts are what somebody would write who wants a command run."""
    group = draw(groups())
    group["spec"].setdefault("metadata", {}).update(
        labels=draw(st.dictionaries(odd, odd, max_size=4)), annotations=draw(st.dictionaries(odd, odd, max_size=2))
    )
    group["spec"]["template"]["network"] = draw(odd)
    for key in draw(st.lists(st.sampled_from(["name", "namespace"]), max_size=1)):
        group["metadata"][key] = draw(odd)
    mesh = draw(mesh_configs())
    mesh["trustDomain"] = draw(odd)
    mesh.setdefault("defaultConfig", {})["proxyMetadata"] = draw(st.dictionaries(odd, odd, max_size=3)) | {"M": "1"}
    case = draw(cases()) if draw(st.booleans()) else PLAIN
    return Case(
        **{
            **case.__dict__,
            "group": draw(spelled(group)),
            "mesh_config": draw(spelled(mesh)),
            "cluster_id": draw(odd),
            "revision": draw(st.one_of(st.just(case.revision), odd)),
            "internal_ip": draw(st.one_of(st.just(case.internal_ip), odd)),
        }
    )


def made(case: Case, environment: dict[str, str]) -> tuple[str, str]:
    """cluster.env; or nothing, and the message that the input is refused with."""
    try:
        files = bootstrap_files(
            group_from_yaml(case.group),
            case.mesh_config,
            BootstrapOptions(
                cluster_id=case.cluster_id,
                revision=case.revision,
                internal_ip=case.internal_ip,
                external_ip=case.external_ip,
                ingress_addresses=(case.ingress_ip,) if case.ingress_ip else (),
                auto_register=case.auto_register,
                dns_capture=case.dns_capture,
                environment=environment,
            ),
        )
    except BootstrapError as error:
        return "", str(error)
    assert isinstance(yaml.safe_load(files.mesh_yaml), dict)
    for line in files.hosts.splitlines():
        assert re.fullmatch(r"[0-9a-f.:]+ istiod[a-z0-9.-]*\.svc", line)
    return files.cluster_env, ""


@pytest.mark.timeout(3000)
def test_no_shell_runs_what_an_input_says(tmp_path: Path) -> None:
    count = {"files": 0, "message": 0}

    @random()
    @given(
        st.one_of(attacked(), cases()),
        st.dictionaries(st.one_of(st.from_regex(r"[A-Z][A-Z_]{0,8}", fullmatch=True), odd), odd, max_size=2),
    )
    def one(case: Case, environment: dict[str, str]) -> None:
        text, message = made(case, environment)
        count["message" if message else "files"] += 1
        if message:
            assert "Fix: " in message
            assert message.isprintable(), "one line, that a terminal only shows"
            return
        # As istio-start.sh does it: `set -a; . cluster.env; set +a`.
        (tmp_path / "cluster.env").write_text(text)
        shell = subprocess.run(
            ["sh", "-euc", "set -a; . ./cluster.env; exec env -0"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            timeout=20,
            check=False,
        )
        assert (shell.returncode, shell.stderr) == (0, b""), text
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cluster.env"], text
        read = dict(part.split("=", 1) for part in shell.stdout.decode().split("\0") if part)
        for name, value in {"ISTIO_META_CLUSTER_ID": case.cluster_id, **environment}.items():
            # No variable can have a NUL, which a shell drops.
            assert read[name] == value.replace("\0", "")

    one()
    print(count)
    assert count["files"] > MANY // 20
    assert count["message"] > MANY // 20
