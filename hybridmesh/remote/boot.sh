#!/bin/sh
# Joins a machine that nobody logs in to: run at each boot by the startup script that carries it (startup.py), and
# idempotent, for it is join.sh that does the work. No token comes along: token.sh asks for one before each start of
# Istio. Failures go to the caller, who has them in the journal, and to the console, which a cloud keeps.
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh
HYBRID_MESH_CONSOLE=/dev/console
export HYBRID_MESH_CONSOLE

ATTEMPTS=3 # a mirror, or a network, that is busy while a fleet boots
PAUSE=10

# The address that this machine has where its cloud's metadata server is: with several interfaces, the first one's
own_address() {
    ip -o route get 169.254.169.254 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/\1/p'
}

# What one machine of a fleet does not share with the others, where it belongs in the order of the variables. A value in
# quotes may have lines of its own, which stay where they are.
complete_cluster_env() {
    address=$(own_address)
    [ -n "$address" ] || fail 'this machine has no address' 'see: ip route get 169.254.169.254'
    printf 'ISTIO_SVC_IP=%s\nPOD_NAME=%s\n' "$address" "${HOST%%.*}" >own
    awk '
        NR == FNR { own[++count] = $0; next }
        !quoted { while (added < count && own[added + 1] < $0) print own[++added] }
        { print; gsub(/\047"\047"\047/, ""); quoted = (quoted + gsub(/\047/, "")) % 2 }
        END { while (added < count) print own[++added] }' own files/cluster.env >completed
    mv completed files/cluster.env
}

join() {
    attempt=1
    until /bin/sh ./join.sh </dev/null; do
        [ "$attempt" -lt "$ATTEMPTS" ] || fail "joining failed $ATTEMPTS times" 'see the findings above; a reboot tries again'
        attempt=$((attempt + 1))
        log "attempt $attempt of $ATTEMPTS in ${PAUSE}s"
        sleep "$PAUSE"
    done
}

last_refusal() {
    [ ! -s "$STATE/token-refused" ] || cat "$STATE/token-refused"
}

step boot "$HOST"
complete_cluster_env
join
/bin/sh ./ready.sh >report </dev/null || {
    refused=$(last_refusal)
    fail "not in the mesh${refused:+: $refused}" 'see above; the proxy goes on trying'
}
log "in the mesh: $(cat report)"
