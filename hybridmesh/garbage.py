"""How Python's garbage collector goes about a run of the program."""

import atexit
import gc


def collect_what_is_new() -> None:
    """The collector looks for garbage among the 10,000 newest objects, and leaves the older ones alone until the end.

    What a run makes either lives until its end or is soon garbage: a function that calls itself, which Pulumi's SDK
    makes to see whether a value is known, four hundred times a VM (pulumi/runtime/rpc.py, contains_unknowns). Python's
    default looks at 700 new objects at a time, a quarter of a large run, and again and again at all that lives, which
    makes the time grow faster than the VMs; a thousand VMs take no more memory without that (docs/benchmarks.md).
    Called before the imports, it takes an eighth off their half second. Nor does it look at the end, a third of a
    second, at what the end of the process frees.
    """
    gc.set_threshold(10_000, 1_000, 1_000)
    atexit.register(gc.freeze)
