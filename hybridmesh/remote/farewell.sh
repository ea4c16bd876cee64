#!/bin/sh
# When this machine shuts down, before Istio and the applications stop: out of rotation first, then drained, so that
# no request is lost. istiod removes a machine's WorkloadEntry some 10 seconds after its agent has left (istiod's
# PILOT_WORKLOAD_ENTRY_GRACE_PERIOD); until it has, clients go on sending requests, which the proxy goes on serving.
SCRIPTS=$(cd -- "$(dirname -- "$0")" && pwd)
WORK=$(mktemp -d /run/hybrid-mesh-upkeep.XXXXXXXX) || exit 0
cp "$SCRIPTS/lib.sh" "$WORK" && cp -R "$SCRIPTS/settings" "$WORK" && cd "$WORK" || exit 0
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh
trap 'unexpected $?; rm -rf "$WORK"' EXIT
HYBRID_MESH_CONSOLE=/dev/console

DEREGISTER=$(setting deregister-seconds)
DRAIN=$(setting drain-seconds 5)

# The agent's connection to istiod is closed, with a word to the other side, and no new one is let through.
leave_istiod() {
    for tool in iptables ip6tables; do
        ! command -v "$tool" >/dev/null ||
            "$tool" -w 10 -I OUTPUT -p tcp --syn --dport 15012 -j REJECT --reject-with tcp-reset 2>/dev/null || :
    done
    close_connections
    ! is_connected
}

[ "$(systemctl is-system-running 2>/dev/null)" = stopping ] || exit 0
systemctl is-active --quiet istio || exit 0
if [ "$DEREGISTER" -gt 0 ]; then
    step deregister "${DEREGISTER}s"
    if leave_istiod; then sleep "$DEREGISTER"; else log 'note: the connection to istiod cannot be closed here; draining only'; fi
fi
if [ "$DRAIN" -gt 0 ]; then
    step drain "${DRAIN}s"
    if fetch POST http://127.0.0.1:15020/drain 5 >/dev/null 2>&1; then sleep "$DRAIN"; fi
fi
step end "$HOST may go"
