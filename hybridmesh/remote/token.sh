#!/bin/sh
# Gets this machine its token for istiod with nothing but who it is in its cloud: the metadata server tells who it is
# (an access token of its service account), Kubernetes gives that account a token of the workload's ServiceAccount,
# which is all that it may ask for. Neither token is in a command line, a log, or a file that others can read.
#   start   before each start of Istio
#   renew   every few minutes: nothing, as long as the token is young
# It ends well only with a token, and says why it has none. Istio starts nevertheless: a certificate may be enough.
SCRIPTS=$(cd -- "$(dirname -- "$0")" && pwd)
WORK=$(mktemp -d /run/hybrid-mesh-upkeep.XXXXXXXX) || exit 1
cp "$SCRIPTS/lib.sh" "$WORK" && cp -R "$SCRIPTS/settings" "$WORK" && cd "$WORK" || exit 1
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh
trap 'unexpected $?; rm -rf "$WORK"' EXIT

API=$(setting api-server)
ACCOUNT=$(setting service-account)
IDENTITY_URL=$(setting identity-url)
IDENTITY_HEADER=$(setting identity-header)
SECONDS_VALID=$(setting token-seconds 3600)
TOKEN=$TOKENS/istio-token
AUTHORITIES=$STATE/kubernetes-ca.pem
now
END=$((NOW + 40)) # a metadata server, or a way to Kubernetes, that is not there yet at boot

# refuse WHAT REMEDY
refuse() {
    printf '%s (remedy: %s)\n' "$1" "$2" >"$STATE/token-refused"
    fail "$1" "$2"
}

# Reads a configuration of curl's from stdin, so that no secret is in a command line; prints the answer's status
request() {
    rm -f answer problem # an answer that does not come must not leave that of before, which has a token in it
    unredirected timeout 15 curl --disable --silent --noproxy '*' --connect-timeout 5 --output answer \
        --write-out '%{http_code}' --config - 2>problem || :
}

# One string of a JSON object without such a string further in
json_value() {
    tr -d '\n' <answer | sed -n "s/.*\"$1\" *: *\"\([A-Za-z0-9._~+/=-]*\)\".*/\1/p"
}

# Who this machine is, as its cloud says
ask_cloud() {
    status=$(printf 'url = "%s"\nheader = "%s"\n' "$IDENTITY_URL" "$IDENTITY_HEADER" | request)
    identity=
    [ "$status" != 200 ] || identity=$(json_value access_token)
    rm -f answer
    [ -n "$identity" ]
}

# A token of the one ServiceAccount
ask_kubernetes() {
    printf '{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["istio-ca"],"expirationSeconds":%s}}' \
        "$SECONDS_VALID" >body
    url=$API/api/v1/namespaces/${ACCOUNT%%/*}/serviceaccounts/${ACCOUNT#*/}/token
    status=$(request <<END
url = "$url"
cacert = "$AUTHORITIES"
header = "Authorization: Bearer $identity"
header = "Content-Type: application/json"
header = "Accept: application/json"
data-binary = "@body"
END
    )
    token=
    if [ "$status" = 201 ]; then
        token=$(json_value token)
        rm -f answer
    fi
    [ -n "$token" ]
}

# An answer that will not change by asking again at once
is_final() {
    case $status in
        400 | 401 | 403 | 404 | 422) return 0 ;;
        *) return 1 ;;
    esac
}

try() {
    until "$@"; do
        if is_final || is_past "$END"; then return 1; fi
        sleep 1
    done
}

explain() {
    case $status in
        401) refuse "Kubernetes does not know who this machine is ($API answered 401)" \
            "let the instance's scopes have cloud-platform and userinfo.email, and the cluster accept this cloud's tokens" ;;
        403) refuse "Kubernetes gives this machine's account no token of $ACCOUNT ($API answered 403)" \
            "let the machine run as the fleet's own service account: its RoleBinding in ${ACCOUNT%%/*} names who may" ;;
        404) refuse "there is no ServiceAccount $ACCOUNT ($API answered 404)" 'pulumi up' ;;
        000 | '') refuse "$API cannot be reached: $(grep . problem || echo 'no answer within 15 s')" \
            "open the way from this machine to Kubernetes' API server, and check the certificate in $AUTHORITIES" ;;
        *) refuse "$API answered $status: $(head -c 300 answer 2>/dev/null | tr -d '\n')" 'see the API server' ;;
    esac
}

deliver() {
    ensure_token_folder
    printf '%s' "$token" >token
    write_file token "$TOKEN" 600 istio-proxy:istio-proxy
    rm -f "$STATE/token-refused"
}

# One from before the clock was set back has no age that anybody knows.
is_young() {
    [ -f "$TOKEN" ] || return 1
    age=$(($(date +%s) - $(stat -c %Y "$TOKEN")))
    [ "$age" -ge 0 ] && [ "$age" -lt $((SECONDS_VALID / 2)) ]
}

[ -d "$STATE" ] || exit 0
case ${1-} in
    start) ;;
    renew) if is_young; then exit 0; fi ;;
    *) fail "unknown: ${1-}" 'token.sh start or renew' ;;
esac
step token "$ACCOUNT"
command -v curl >/dev/null || refuse 'there is no curl' 'install it'
try ask_cloud || refuse "the metadata server says not who this machine is ($IDENTITY_URL: ${status:-no answer})" \
    'give the instance a service account'
try ask_kubernetes || explain
deliver
