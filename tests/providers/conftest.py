"""A fake cluster in place of the one that a kubeconfig leads to, VMs that take what they get, and quick waits."""

import pytest
import tenacity

from hybridmesh.providers import adopted, adopters, awaited, departure, entries, membership, remains, token
from tests.providers.fake_cluster import FakeCluster


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> FakeCluster:
    fake = FakeCluster()
    for module in (adopted, adopters, awaited, departure, membership, remains, token):
        monkeypatch.setattr(module, "connect", lambda _: fake)
    monkeypatch.setattr(token, "bring", lambda props: fake.done.append(f"bring scripts to {props['machine']}"))
    for module in (departure, entries):
        monkeypatch.setattr(module, "time", clock)
    for module in (tenacity, tenacity.nap):
        monkeypatch.setattr(module, "time", clock)
    return fake
