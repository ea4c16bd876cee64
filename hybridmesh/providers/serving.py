"""What the process that serves dynamic providers is told: many requests at a time, and a quick end."""

import atexit
import functools
import gc
import sys
from concurrent.futures import ThreadPoolExecutor

WORKERS = 64


@functools.cache
def make_room() -> None:
    """Lets that process serve many requests at once; in any other it does nothing.

    Pulumi serves them with four threads, and has no setting for it (pulumi/dynamic/__main__.py). Our providers wait,
    for minutes at worst: four VMs that do not come would hold up all others, and whatever else asks. The executor is
    nowhere to be had but from the garbage collector; where it is not found, everything works, four at a time.

    It also ends without looking for garbage in what it leaves, which takes it a third of a second.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or spec.name != "pulumi.dynamic.__main__":
        return
    atexit.register(gc.freeze)
    for found in gc.get_objects():
        if isinstance(found, ThreadPoolExecutor) and found._max_workers < WORKERS:
            found._max_workers = WORKERS
