"""What the cluster takes from the tools follows their pins."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.instance import Instance, Subnets
from lab.toolchain import Toolset


def tools(folder: Path, build: str) -> Toolset:
    """Artifacts as those pins make them: other paths, other content."""
    content = {
        "images": "images.tar",
        "monitoring-images": "images.tar",
        "prometheus": "prometheus.tar.gz",
        "sidecar-deb": "istio-sidecar.deb",
        "istio-files": "charts/istiod/Chart.yaml",
    }
    folders = {name: folder / name / build for name in content}
    for name, file in content.items():
        path = folders[name] / file
        path.parent.mkdir(parents=True)
        path.write_text(f"{name} of {build}")
        (folders[name] / "sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    return Toolset(folders, folder / "bin")


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    instance = Instance("dev", tmp_path / "lab")
    for part in ("config", "machines"):
        (instance.folder / part).mkdir(parents=True)
    state = {"slot": 5, "init_pid": 2**22 + 1, "init_start": 1, "inotify_before": 128}
    (instance.folder / "instance.json").write_text(json.dumps(state))
    return instance


def test_all_that_is_copied_or_imported_is_renewed_with_its_pins_and_left_alone_without(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported: list[str] = []

    def ctr(_: Cluster, *arguments: str, timeout: float = 0) -> str:  # noqa: ARG001 (its signature)
        if "import" in arguments:
            imported.append(arguments[-1])
        return "hybrid-mesh.lab/pause:1.31\n"

    monkeypatch.setattr(Cluster, "_ctr", ctr)
    mirror = instance.folder / "mirror"
    for build in ("one", "two"):
        cluster = Cluster(instance, tools(tmp_path, build))
        for _ in range(2):
            cluster._write_configs(Subnets(5))
            cluster.load_images()
            cluster.load_monitoring()
        assert imported == [str(cluster.tools.images), str(cluster.tools.monitoring_images)]
        imported.clear()
        assert (instance.folder / "charts" / "istiod" / "Chart.yaml").read_text() == f"istio-files of {build}"
        for file, sha in (("istio-sidecar.deb", "sha256"), ("prometheus.tar.gz", "prometheus-sha256")):
            content = (mirror / "files" / file).read_bytes()
            assert content.decode().endswith(f"of {build}")
            assert (mirror / sha).read_text() == hashlib.sha256(content).hexdigest()


def test_charts_that_were_copied_by_half_are_copied_again(instance: Instance, tmp_path: Path) -> None:
    (instance.folder / "charts.part").mkdir()
    (instance.folder / "charts.part" / "of-other-pins").touch()
    Cluster(instance, tools(tmp_path, "one"))._write_configs(Subnets(5))
    assert [path.name for path in (instance.folder / "charts").iterdir()] == ["istiod"]
