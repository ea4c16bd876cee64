"""Runs the metrics server: `python -m hybridmesh.metrics`, in a pod of the mesh."""

import signal
import sys

from .server import PORT, Cluster, serve


def main() -> None:
    """Serve until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"listening on {PORT}", flush=True)
    serve(Cluster()).serve_forever()


if __name__ == "__main__":
    main()
