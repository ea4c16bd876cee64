"""Whether the engine that runs a program asks it before it does something, and where the answer is found."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.proto.resource_pb2_grpc import ResourceMonitorStub
from pulumi.runtime.settings import get_monitor, monitor_supports_feature

ERROR_HOOKS: Final = resource_pb2.RESOURCE_MONITOR_FEATURE_ERROR_HOOKS
RESOURCE_HOOKS: Final = resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_HOOKS
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_THREADS: Final = ThreadPoolExecutor(max_workers=32, thread_name_prefix="hooks")


def supports(feature: int) -> bool:
    """An old Pulumi has no hooks; mocks say that they have, and then do not.

    The Automation API runs inline programs in threads of one process, where a program that ends stops what the hooks of
    all others go by, and fails where one of these has failed before (pulumi/runtime/_callbacks.py, shutdown).
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    return isinstance(get_monitor(), ResourceMonitorStub) and monitor_supports_feature(feature)


async def in_thread(call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """What a hook waits for, in a thread that is no one's else.

    Each of the loop's own may hold a resource that waits for the engine, which waits for the hook: with as many
    resources under way as there are such threads, none would ever be free (pulumi/runtime/resource.py, do_rpc_call).
    """
    return await asyncio.get_running_loop().run_in_executor(_THREADS, call, *args)
