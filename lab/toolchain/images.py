"""Container images: one archive in the OCI image layout, that every container engine imports.

Images are put together without one: a layer is a tar archive, and the rest is four small JSON documents
(github.com/opencontainers/image-spec). Layers are not compressed: the archive goes from one disk to the same
disk, and the import is bound by the processor. All images share the layer of the Debian root.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lab.toolchain import debian, pins
from lab.toolchain.job import Artifact, Job

ARCHIVE = "images.tar"
REGISTRY = "hybrid-mesh.lab"

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_TAR_SECONDS = 300.0
_PROXY_UID = 1337
"""Istio's injected proxy runs as this user, and its iptables rules know it by this number."""
_OWN = ("istio:", "machine:", "project:")
"""Sources that are no artifact of their own."""
_FOLDERS = ("metrics-packages:",)
"""Artifacts of which a folder is taken."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image of lab/images/images.toml."""

    name: str
    files: dict[str, str]
    """Source, a file or a folder, to absolute path in the image."""
    entrypoint: list[str]
    user: str = ""
    """`uid:gid`; root where empty."""
    environment: dict[str, str] = field(default_factory=dict)
    root: bool = True
    """Whether it stands on the Debian root."""


def images() -> Artifact:
    """All images of lab/images/images.toml as `images.tar`."""
    return _archive("images", pins.IMAGES / "images.toml", seconds=10)


def monitoring_images() -> Artifact:
    """Those of lab/images/monitoring.toml, the project's own code in one of them; an archive as `images`."""
    return _archive("monitoring-images", pins.IMAGES / "monitoring.toml", seconds=10, when_asked=True)


def _archive(name: str, recipe: Path, *, seconds: int, when_asked: bool = False) -> Artifact:
    wanted = read_recipe(recipe)
    sources = {source for image in wanted for source in image.files}
    for source in sorted(sources):
        if ":" in source and not source.startswith((*_OWN, *_FOLDERS)):
            raise ValueError(
                f"{recipe.name}: unknown source {source!r}; use an executable's name, {', '.join((*_OWN, *_FOLDERS))}"
            )
    artifacts = sorted(source.partition(":")[0] for source in sources if not source.startswith(_OWN))
    own = [file for source in sorted(sources) if _is_own(source) for file in _files(_project_file(source))]
    contents = [part for file, place in own for part in (place, file.read_bytes())]

    def make(job: Job) -> None:
        layout = job.folder / "layout"
        (layout / "blobs" / "sha256").mkdir(parents=True)
        base = _base_layer(job, layout)
        manifests = [_add(job, layout, image, base) for image in wanted]
        _write(layout / "oci-layout", {"imageLayoutVersion": "1.0.0"})
        _write(layout / "index.json", {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests})
        _tar(job, layout, job.folder / ARCHIVE, "--owner=0", "--group=0")
        shutil.rmtree(layout)

    return Artifact(
        name=name,
        pins=(recipe.read_bytes(), *contents, pins.IMAGE_TAG, str(_PROXY_UID), _PATH),
        make=make,
        seconds=seconds,
        needs=("debian-base", *(["istio-files"] if any(s.startswith("istio:") for s in sources) else []), *artifacts),
        when_asked=when_asked,
    )


def reference(name: str) -> str:
    """How containerd and pods call an image."""
    return f"{REGISTRY}/{name}:{pins.IMAGE_TAG}"


def read_recipe(recipe: Path) -> list[Image]:
    """The images of a recipe, in its order."""
    return [Image(name=name, **fields) for name, fields in tomllib.loads(recipe.read_text()).items()]


def _base_layer(job: Job, layout: Path) -> dict[str, object]:
    """The Debian root as a layer."""
    archive = layout / "base.tar"
    _tar(job, debian.root_of(job.needs["debian-base"]), archive, "--exclude=./dev/*")
    return _store(layout, archive, _LAYER)


def _tar(job: Job, folder: Path, archive: Path, *options: str) -> None:
    """Pack a folder; the same content gives the same bytes, as far as tar can see to it."""
    same = ["--sort=name", "--mtime=@0", "--numeric-owner"]
    job.run(["tar", "--create", *same, *options, "--file", archive, "--directory", folder, "."], seconds=_TAR_SECONDS)


def _add(job: Job, layout: Path, image: Image, base: dict[str, object]) -> dict[str, object]:
    """Add an image to the layout; gives its entry for the index."""
    archive = layout / "layer.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as layer:
        if image.root:
            _add_proxy_user(layer, debian.root_of(job.needs["debian-base"]))
        for source, place in sorted(image.files.items(), key=lambda item: item[1]):
            for file, below in _files(_source(job, source)):
                entry = tarfile.TarInfo(f"{place}/{below}".strip("/") if below else place.lstrip("/"))
                entry.size = file.stat().st_size
                entry.mode = 0o644 if entry.name.endswith((".json", ".py")) else 0o755
                with file.open("rb") as content:
                    layer.addfile(entry, content)
    layers = [*([base] if image.root else []), _store(layout, archive, _LAYER)]
    config = layout / "config.json"
    _write(
        config,
        {
            "architecture": pins.architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": image.entrypoint,
                "Env": [f"PATH={_PATH}", *(f"{name}={value}" for name, value in image.environment.items())],
                "User": image.user,
                "WorkingDir": "/",
            },
            # Layers are stored as they are, so a layer's digest is that of its content.
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        },
    )
    manifest = layout / "manifest.json"
    _write(
        manifest,
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _store(layout, config, _CONFIG),
            "layers": layers,
        },
    )
    own = reference(image.name)
    names = {"io.containerd.image.name": own, "org.opencontainers.image.ref.name": own}
    return {**_store(layout, manifest, _MANIFEST), "annotations": names}


def _add_proxy_user(layer: tarfile.TarFile, root: Path) -> None:
    """Add the user that the proxy runs as, as Istio's own base image does."""
    additions = {
        "etc/passwd": f"istio-proxy:x:{_PROXY_UID}:{_PROXY_UID}::/home/istio-proxy:/bin/sh\n",
        "etc/group": f"istio-proxy:x:{_PROXY_UID}:\n",
    }
    for name, line in additions.items():
        content = (root / name).read_bytes() + line.encode()
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        entry.mode = 0o644
        layer.addfile(entry, io.BytesIO(content))


def _files(source: Path) -> list[tuple[Path, str]]:
    """A file, or all files of a folder, in order, each with its place below that; nothing that Python has compiled."""
    if source.is_file():
        return [(source, "")]
    found = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [(path, str(path.relative_to(source))) for path in found]


def _source(job: Job, source: str) -> Path:
    if source.startswith("istio:"):
        return job.needs["istio-files"] / "packaging" / source.removeprefix("istio:")
    if _is_own(source):
        return _project_file(source)
    artifact, _, name = source.partition(":")
    return job.needs[artifact] / (name or artifact)


def _is_own(source: str) -> bool:
    return source.startswith(("machine:", "project:"))


def _project_file(source: str) -> Path:
    kind, _, name = source.partition(":")
    return (pins.MACHINE if kind == "machine" else pins.PROJECT) / name


def _store(layout: Path, file: Path, media_type: str) -> dict[str, object]:
    """Move a file to its place among the blobs; gives its descriptor."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    size = file.stat().st_size
    file.rename(layout / "blobs" / "sha256" / digest)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _write(file: Path, document: Iterable[object]) -> None:
    file.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
