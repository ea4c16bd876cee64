"""Debian: the host's packages, and the roots of machines and images."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from lab.toolchain import pins
from lab.toolchain.job import Artifact, Job

_QUERY_SECONDS = 30.0
_INSTALL_SECONDS = 1200.0
_ROOT_SECONDS = 1200.0
_DPKG_JOURNAL = Path("/var/lib/dpkg/updates")
_DPKG_LOCK = Path("/var/lib/dpkg/lock-frontend")
_OTHERS_SECONDS = 300
"""How long another dpkg or apt-get is waited for."""
_APT = ("apt-get", "-o", f"DPkg::Lock::Timeout={_OTHERS_SECONDS}", "-q")
RPM_ROOT = "rpm-root"
OWN_NAMESPACES = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
"""What the recipes mount, and every process of theirs, ends with them, however they end."""


def missing_packages() -> list[str]:
    """The lines of lab/debian-packages.txt that this host has none of; the first choice of each."""
    asked = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n"],
        stdout=subprocess.PIPE,
        timeout=_QUERY_SECONDS,
        check=True,
    )
    rows = (line.split() for line in asked.stdout.decode().splitlines())
    installed = {row[0] for row in rows if row[1:] == ["installed"]}
    wanted = ([choice.strip() for choice in line.split("|")] for line in pins.lines(pins.DEBIAN_PACKAGES))
    return [choices[0] for choices in wanted if not installed.intersection(choices)]


def install_packages(job: Job, packages: list[str]) -> None:
    """Install packages on the host; none of what is there is removed for them.

    An interrupt ends a download, and waits for the end of dpkg: a killed one leaves packages half installed.
    """
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    if _was_killed():  # apt-get installs nothing until it is done
        job.run(["dpkg", "--configure", "-a"], env=env, seconds=_INSTALL_SECONDS, to_its_end=True)
    install = [*_APT, "install", "--yes", "--no-install-recommends", "--no-remove", *packages]
    job.run([*_APT, "update"], env=env, seconds=_INSTALL_SECONDS)
    job.run([*install, "--download-only"], env=env, seconds=_INSTALL_SECONDS)
    job.run(install, env=env, seconds=_INSTALL_SECONDS, to_its_end=True)


def _was_killed() -> bool:
    """Whether dpkg has not come to its end, and is not at work: it keeps the same files then, and waits for nobody."""
    wait = Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        stop=stop_after_delay(_OTHERS_SECONDS),
        wait=wait_fixed(0.5),
        retry_error_callback=lambda _: None,
    )
    wait(_ask_for_lock)
    return any(_DPKG_JOURNAL.glob("[0-9]*"))


def _ask_for_lock() -> None:
    """Raises BlockingIOError while dpkg or apt-get are at work."""
    with _DPKG_LOCK.open("a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def of_suite(name: str, suite: str) -> str:
    """An artifact's name: that of what everything is made of has none of its suite."""
    return name if suite == pins.DEBIAN_SUITE else f"{name}-{suite}"


def base(suite: str = pins.DEBIAN_SUITE) -> Artifact:
    """The Debian root that machines and images have in common: the folder `root` of the artifact."""
    recipe = pins.MACHINE / "base.sh"
    packages = pins.lines(pins.MACHINE / "packages-base.txt")

    def make(job: Job) -> None:
        where = [suite, pins.architecture(), _mirror(job)]
        job.run(
            [*OWN_NAMESPACES, "sh", recipe, root_of(job.folder), *where, job.downloads / "debian", *packages],
            seconds=_ROOT_SECONDS,
        )

    return Artifact(
        name=of_suite("debian-base", suite),
        pins=(recipe.read_bytes(), *packages, suite, pins.architecture()),
        make=make,
        seconds=80,
        when_asked=suite != pins.DEBIAN_SUITE,
    )


def machine_root(suite: str = pins.DEBIAN_SUITE) -> Artifact:
    """The lower layer of every machine of a suite: the folder `root` of the artifact."""
    return _made_of(
        of_suite("debian-base", suite),
        of_suite("machine-root", suite),
        "root.sh",
        "packages.txt",
        ("sshd.conf", "journald.conf", "hosts", "echo.service", "echo_app.py"),
        seconds=15,
        when_asked=suite != pins.DEBIAN_SUITE,
    )


def cloud_root() -> Artifact:
    """The lower layer of the machines that stand for a cloud's instances: the folder `root` of the artifact."""
    return _made_of("machine-root", "cloud-root", "cloud.sh", "packages-cloud.txt", (), seconds=15, when_asked=True)


def rpm_root() -> Artifact:
    """The lower layer of machines whose packages rpm keeps: the folder `root` of the artifact."""
    content = ("red-hat-base.spec",)
    return _made_of("machine-root", RPM_ROOT, "rpm.sh", "packages-rpm.txt", content, seconds=20, when_asked=True)


def _made_of(
    below: str, name: str, recipe: str, packages: str, content: tuple[str, ...], *, seconds: int, when_asked: bool
) -> Artifact:
    """A root that a recipe of lab/machine makes of a copy of another. `content`: the files there that it takes."""
    wanted = pins.lines(pins.MACHINE / packages)

    def make(job: Job) -> None:
        root = root_of(job.folder)
        job.run(["cp", "--archive", root_of(job.needs[below]), root], seconds=_ROOT_SECONDS)
        where = [root, job.downloads / "debian", pins.MACHINE]
        job.run([*OWN_NAMESPACES, "sh", pins.MACHINE / recipe, *where, *wanted], seconds=_ROOT_SECONDS)

    files = (recipe, "chroot.sh", *content)
    return Artifact(
        name=name,
        pins=(*((pins.MACHINE / file).read_bytes() for file in files), *wanted),
        make=make,
        seconds=seconds,
        needs=(below,),
        when_asked=when_asked,
    )


def root_name(release: str) -> str:
    """The artifact with the root of machines of a release, one of `pins.RELEASES`."""
    return RPM_ROOT if release == pins.RPM else of_suite("machine-root", release)


def _mirror(job: Job) -> str:
    """The mirror that this host itself gets the suite from; empty if it is of another suite or kind.

    One of Debian's mirrors has all of its suites.
    """
    if shutil.which("apt-get") is None:
        return ""
    wanted = ["Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main"]
    listed = job.output(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted, f"Codename: {pins.DEBIAN_SUITE}"],
        seconds=_QUERY_SECONDS,
    )
    # Of what else apt can read (mirror+file:, cdrom:, tor+http:), debootstrap reads nothing.
    return next((uri for uri in listed.split() if uri.startswith(("http://", "https://"))), "")


def root_of(folder: Path) -> Path:
    """The root inside each artifact that is one."""
    return folder / "root"
