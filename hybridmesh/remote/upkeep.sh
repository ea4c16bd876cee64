#!/bin/sh
# What a member does for itself, run by the units that join.sh makes:
#   network   before each start of Istio: undoes a switch that a reboot cut off, waits for a way to istiod, and puts
#             our block into /etc/hosts
#   follow    every half a minute, where the gateway is a host name: the addresses that the name has now
#   ready N   once at boot: waits until the proxy is ready, for the applications that are ordered after it; at most N
#             seconds, for one that starts before is better than none
#   logs      every hour: Istio's logs and ours, where they have grown
# Each ends well, whatever it finds: a machine boots without a mesh, too.
SCRIPTS=$(cd -- "$(dirname -- "$0")" && pwd)
WORK=$(mktemp -d /run/hybrid-mesh-upkeep.XXXXXXXX) || exit 0
cp "$SCRIPTS/lib.sh" "$WORK" && cd "$WORK" || exit 0
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh
trap 'unexpected $?; rm -rf "$WORK"' EXIT

WAY_LIMIT=30 # a network that comes up later finds an agent that tries again
LOG_LIMIT=$((50 * 1024 * 1024))

has_way() {
    cut -d ' ' -f 1 "$STATE/hosts-known" 2>/dev/null | while read -r address; do
        if ip route get "$address" >/dev/null 2>&1; then echo yes; fi
    done | grep -q yes
}

# A join or a leave that is running here writes the file itself.
alone() {
    command -v flock >/dev/null || return 0
    exec 9>/run/hybrid-mesh.lock
    flock -n 9
}

follow() {
    [ -s "$STATE/hosts" ] || return 0
    alone || return 0
    refresh_hosts || log "note: $(no_hosts)"
    leave_old_addresses || log 'note: the agent stays with an address that the gateway no longer has, until that fails'
}

# The agent appends, so that it goes on at the start of an emptied file. All of it as the proxy, whose folder this is:
# a link that it has laid there leads to nothing that is not its own.
rotate() {
    no_room=3
    for file in /var/log/istio/istio.log /var/log/istio/istio.err.log; do
        code=0
        # shellcheck disable=SC2016 # the inner shell's own
        as_proxy /bin/sh -c '
            if [ ! -f "$0" ] || [ "$(stat -Lc %s "$0")" -le "$1" ]; then exit 0; fi
            [ -w "$0" ] || exit 1
            rm -f "$0.new"
            cp -p "$0" "$0.new" && mv -T "$0.new" "$0.1" || failed=yes
            rm -f "$0.new"
            true >"$0" || exit 1
            [ ! "${failed-}" ] || exit "$2"' "$file" "$LOG_LIMIT" "$no_room" || code=$?
        case $code in
            0) ;;
            "$no_room") log "note: there is no room for a copy of $file: it is emptied without one" ;;
            *) log "note: $file cannot be emptied by istio-proxy, and goes on growing: see whose it is, ls -l $file" ;;
        esac
    done
    # Each of our lines opens it anew.
    if [ -f "$LOG" ] && [ "$(stat -c %s "$LOG")" -gt "$LOG_LIMIT" ]; then mv -f "$LOG" "$LOG.1"; fi
}

[ -d "$STATE" ] || exit 0
case ${1-} in
    network)
        # Of this boot: it is under way, and waits for us.
        [ ! -e "$STATE/switching" ] || [ "$(cat "$STATE/switching")" = "$(this_boot)" ] || undo_half_switch before-start ||
            log 'note: what ran before the last change cannot be put back; pulumi up puts all right'
        within "$WAY_LIMIT" has_way || log "note: no way to istiod after ${WAY_LIMIT}s; Istio starts nevertheless"
        follow
        ;;
    follow) follow ;;
    ready)
        within "${2:-60}" agent_is_ready || log "note: the proxy is not ready after ${2:-60}s; applications start nevertheless"
        ;;
    logs) rotate ;;
    *) fail "unknown: ${1-}" 'upkeep.sh network, follow, ready SECONDS or logs' ;;
esac
