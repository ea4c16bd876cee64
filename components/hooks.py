"""Whether the engine that runs a program asks it before it does something."""

from __future__ import annotations

import threading
from typing import Final

from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.proto.resource_pb2_grpc import ResourceMonitorStub
from pulumi.runtime.settings import get_monitor, monitor_supports_feature

ERROR_HOOKS: Final = resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS
RESOURCE_HOOKS: Final = resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS


def supports(feature: int) -> bool:
    """An old Pulumi has no hooks; mocks say that they have, and then do not.

    The Automation API runs inline programs in threads of one process, where a program that ends stops what the hooks of
    all others go by, and fails where one of these has failed before (pulumi/runtime/_callbacks.py, shutdown).
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    return isinstance(get_monitor(), ResourceMonitorStub) and monitor_supports_feature(feature)
