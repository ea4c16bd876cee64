"""Where in the program a resource is made, which Pulumi would keep of each."""

import contextlib
import os
import sys
from collections.abc import Iterator


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
    before = getattr(sys, "tracebacklimit", None)
    sys.tracebacklimit = 1
    try:
        yield
    finally:
        sys.tracebacklimit = before
