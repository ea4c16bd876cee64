"""The stack of the end-to-end tests: faults happen to the same two VMs."""

from __future__ import annotations

from tests.e2e.conftest import stack, up

__all__ = ["stack", "up"]
