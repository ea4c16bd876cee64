"""Kubeconfigs that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridmesh.providers.cluster import ClusterAccess, ClusterError, connect

SELECTED = "current-context: x\n"
USER = (
    f"{SELECTED}contexts: [{{{{name: x, context: {{{{cluster: c, user: u}}}}}}}}]\n"
    "clusters: [{{name: c, cluster: {{server: 'https://192.0.2.1'}}}}]\nusers: [{{name: u, user: {{{}}}}}]\n"
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"a:\n  [", "it is not YAML (line 2)"),
        (b"\xff\xfe\x80", "it is not YAML"),
        (b"\x00", "it is not YAML"),
        (b"a token, by mistake", "it is YAML, and not of a kubeconfig's form"),
        (b"- a\n- b\n", "it is YAML, and not of a kubeconfig's form"),
        (b"clusters: 3\n", "it is YAML, and not of a kubeconfig's form"),
        (f"{SELECTED}contexts: [{{name: x, context: 3}}]\n".encode(), "it is YAML, and not of a kubeconfig's form"),
        (USER.format("client-certificate-data: '!!!', client-key-data: x").encode(), "is not in base64"),
        (b"", "file is empty"),
        (SELECTED.encode(), "Expected object with name x"),
        (None, "No configuration found. Check"),
    ],
)
def test_a_kubeconfig_that_is_none_is_said_with_what_to_check(tmp_path: Path, text: bytes | None, why: str) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ClusterError) as error:
        connect(ClusterAccess(kubeconfig=str(path)).properties())
    assert f"cannot use the kubeconfig {path}: " in str(error.value)
    assert why in str(error.value)
    assert "Check the settings `cluster.kubeconfig`" in str(error.value)
    assert "by mistake" not in str(error.value), "it may be a secret"
