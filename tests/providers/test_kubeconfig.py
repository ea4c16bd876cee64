"""Kubeconfigs that cannot be used."""

from __future__ import annotations

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hybridmesh.providers import kubernetes_cluster
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


def logging_in_by(folder: Path, *command: str) -> Path:
    path = folder / "kubeconfig"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command[0], "args": command[1:]}
    path.write_text(USER.format("exec: " + json.dumps(plugin)))
    return path


def test_a_program_to_log_in_with_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[subprocess.Popen[str]] = []

    def kill(process: subprocess.Popen[str]) -> None:
        started.append(process)
        process.send_signal(signal.SIGKILL)

    monkeypatch.setattr(kubernetes_cluster, "LOGIN_SECONDS", 0.2)
    monkeypatch.setattr(kubernetes_cluster._LimitedLogin, "kill", kill)
    kubeconfig = logging_in_by(tmp_path, "sh", "-c", "exec sleep 30", "secret")
    connect(ClusterAccess(kubeconfig=str(kubeconfig)).properties())
    assert [process.returncode for process in started] == [-signal.SIGKILL]
    (said,) = caplog.messages
    assert said.startswith("sh, by which the kubeconfig logs in, gave no login within 0.2 s and was ended. See by ")
    assert "secret" not in said


def test_one_that_answers_logs_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    login = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}
    kubeconfig = logging_in_by(tmp_path, "echo", json.dumps(login))
    made = kubernetes_cluster.KubernetesCluster(str(kubeconfig), "", 1)
    assert made._api.configuration.api_key == {"BearerToken": "Bearer t"}
    assert caplog.messages == []


def test_many_that_ask_at_once_log_in_once(tmp_path: Path) -> None:
    """Some log in by a browser."""
    login = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}
    script = f"echo once >>{tmp_path}/logins; sleep 0.2; echo '{json.dumps(login)}'"
    access = ClusterAccess(kubeconfig=str(logging_in_by(tmp_path, "sh", "-c", script)))
    with ThreadPoolExecutor(max_workers=8) as threads:
        assert len(set(threads.map(lambda _: connect(access.properties()), range(8)))) == 1
    assert (tmp_path / "logins").read_text() == "once\n"
