"""Where in the program a resource is made, which Pulumi would keep of each."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_LOCK = threading.Lock()
_FOUND: list[int | None] = []
"""The limit that each who is inside has found. Programs that the Automation API runs side by side share one."""


@contextlib.contextmanager
def without_source_positions() -> Iterator[None]:
    """Resources that are made inside have no source position and no stack trace in the state. Also a decorator.

    Pulumi's SDK walks the stack for each, some twenty frames here, and reads the line of each; the engine takes them
    apart again, and keeps them: a ninth of the state, which tells how the machine that ran it names its folders, and
    which no command of Pulumi shows. It has no setting for that. One frame, its own, is the least that it copes with
    (pulumi/runtime/resource.py, _get_stack_trace), and Python's way to have less than all is `sys.tracebacklimit`.
    An error that is raised inside has its whole traceback where it is shown. With `HYBRID_MESH_DEBUG` in the
    environment nothing is left out.
    """
    if "HYBRID_MESH_DEBUG" in os.environ:
        yield
        return
    with _LOCK:
        _FOUND.append(getattr(sys, "tracebacklimit", None))
        sys.tracebacklimit = 1
    try:
        yield
    finally:
        with _LOCK:
            # Whoever comes first finds the program's own; the last to leave puts that back.
            own = _FOUND[0]
            _FOUND.pop()
            sys.tracebacklimit = 1 if _FOUND else own
