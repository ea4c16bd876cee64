#!/bin/sh
# Runs the switch that a join has laid ready, if it has; then waits until this machine's proxy is ready and carries the
# expected identity.
# Prints one JSON line: spiffeId, certificateExpiry (RFC 3339), version (of the package), hostname.
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh

SPIFFE_ID=$(setting spiffe-id)
LIMIT=$(setting ready-timeout-seconds 90)
NAMESPACE=$(setting istio-namespace istio-system)
GENERATION=$(setting generation)
PROXY_GROUP=$(proxy_group) # it is asked for again and again

json_string() {
    printf '"%s"' "$(printf '%s' "$1" | tr -d '[:cntrl:]' | sed 's/[\\"]/\\&/g')"
}

# As the proxy: a link that it has laid there shows nothing that it could not read itself.
show_logs() {
    for file in /var/log/istio/istio.err.log /var/log/istio/istio.log; do
        [ -s "$file" ] || continue
        echo "--- last lines of $file on $HOST"
        as_proxy tail -n 20 "$file" | cut -c 1-500
    done
    echo "--- systemctl status istio on $HOST"
    timeout 10 systemctl status --no-pager --lines=0 istio || :
}

# The likeliest cause, by what the agent says
remedy() {
    recent=$(as_proxy tail -n 60 /var/log/istio/istio.log /var/log/istio/istio.err.log 2>/dev/null || :)
    case $recent in
        *'certificate has expired or is not yet valid'*) echo "compare date -u here with that of istiod's node; is this VM's clock right, then istiod's certificate has ended: restart istiod; then pulumi up" ;;
        *'certificate signed by unknown authority'*) echo 'the root certificate here is not that of istiod: pulumi up --refresh; unless something on the way reads TLS' ;;
        *'TLS dial option with root certificates'*) echo 'what came as root-cert.pem is not a certificate: see ConfigMap istio-ca-root-cert' ;;
        *Unauthenticated* | *'authentication failure'*) echo "istiod refuses the token or the cluster id: pulumi up mints a new token; see istiod's log in $NAMESPACE" ;;
        *'authentication handshake failed: context deadline exceeded'* | *'TLS handshake timeout'*) echo "istiod's port 15012 takes connections and answers no TLS: large packets are lost on the way (MTU), or nobody stands behind the gateway" ;;
        *'authentication handshake failed: EOF'* | *'authentication handshake failed: read tcp'*) echo 'TLS with istiod is broken off on the way: the gateway knows no istiod of that name, or something between reads TLS' ;;
        *'no such host'* | *'lookup istiod'*) echo "istiod's name is not known here: see the hybrid-mesh block in /etc/hosts" ;;
        *'connection refused'* | *'i/o timeout'* | *'deadline exceeded'*) echo "open the way from this VM to istiod's address in /etc/hosts, port 15012 (firewall, gateway)" ;;
        *) echo "see the log lines and istiod's log in namespace $NAMESPACE, then pulumi up" ;;
    esac
}

# give_up WHAT [REMEDY]
give_up() {
    show_logs 2>&1 | scrub >&2
    fail "$1" "${2:-$(remedy)}"
}

# wait_for SECONDS WHAT COMMAND…
wait_for() {
    seconds=$1
    what=$2
    shift 2
    within "$seconds" "$@" || give_up "$what, after ${seconds}s"
}

restart_is_over() {
    [ -z "$(systemctl list-units --all --no-legend --plain 'hybrid-mesh-start-*')" ]
}

is_switched() {
    [ -z "$GENERATION" ] || [ "$(cat "$STATE/generation" 2>/dev/null)" = "$GENERATION" ]
}

# A change may wait for its turn, or for somebody to mend what ended the roll, for longer than its token lasts.
check_token() {
    reason=$(unfit_certificate "$STATE/next/files")
    if [ -z "$reason" ] || ! has_ended "$STATE/next/files/istio-token"; then return; fi
    fail "the token that came with the change has ended, and the certificate here is not for it ($reason)" \
        "let it have another one: $(setting token-again); so every VM that had no turn yet"
}

# How long a switch may take, there and all the way back; one that an earlier run has begun goes on without it
switch_seconds() {
    echo $(($(setting cut-off-seconds 15) + $(setting drain-seconds 5) + 2 * ($(setting install-timeout-seconds 300) + LIMIT) + 300))
}

# What the stack wants runs here, or the switch to it is made: detached, since this session may end.
switch() {
    is_switched && return
    step switch
    [ "$(cat "$STATE/next/settings/generation" 2>/dev/null)" = "$GENERATION" ] ||
        fail 'this VM neither runs what the stack wants, nor has it laid ready' \
            "let the join run again: $(setting join-again)"
    check_token
    rm -f "$STATE/outcome"
    now
    quietly timeout 60 systemd-run --collect --unit="hybrid-mesh-start-$$-$NOW" \
        --description='hybrid-mesh: from what ran here to what the stack wants' \
        --property=TimeoutStopSec=900 --property="ExecStopPost=-/bin/sh $STATE/next/switch.sh rescue" /bin/sh "$STATE/next/switch.sh" ||
        fail 'the switch cannot be started' 'see the output above and: systemctl status'
    wait_for "$(switch_seconds)" 'the switch is not over' restart_is_over
    is_switched && return
    [ -s "$STATE/outcome" ] || fail 'the switch was cut off' "see $LOG, then pulumi up"
    sed -n '3,$p' "$STATE/outcome" >&2
    fail "$(sed -n 1p "$STATE/outcome")" "$(sed -n 2p "$STATE/outcome")"
}

certificate_is_there() {
    certificates=$(own_certificates)
    [ -n "$certificates" ]
}

[ -n "$SPIFFE_ID" ] || fail 'setting spiffe-id is empty' 'pass the identity of the workload'
[ -d "$STATE" ] || fail 'this machine was never joined' 'run the join first'
step restart
wait_for "$(switch_seconds)" 'the restart is not over' restart_is_over
switch
step ready "wait for http://127.0.0.1:15021/healthz/ready, at most ${LIMIT}s"
wait_for "$LIMIT" 'the proxy is not ready' agent_is_ready
step certificate
wait_for "$LIMIT" 'Envoy has no certificate' certificate_is_there
expiry=$(printf '%s\n' "$certificates" | awk -v id="$SPIFFE_ID" '$1 == id { print $2; exit }')
[ -n "$expiry" ] ||
    give_up "the certificate is for $(printf '%s\n' "$certificates" | cut -d ' ' -f 1 | sort -u | paste -sd , -), expected $SPIFFE_ID" \
        "let the stack's workload, its WorkloadGroup and the token have one service account, then pulumi up"
printf '{"spiffeId":%s,"certificateExpiry":%s,"version":%s,"hostname":%s}\n' "$(json_string "$SPIFFE_ID")" \
    "$(json_string "$expiry")" "$(json_string "$(installed_version)")" "$(json_string "$HOST")"
step end
