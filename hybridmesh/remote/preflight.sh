#!/bin/sh
# Says all that would keep this machine out of the mesh, at once; changes nothing. Runs on every machine of a stack
# before the first change on any of them. A machine that is in the mesh already passes, too: what needs the network
# goes past its proxy.
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/checks.sh
. ./checks.sh
# shellcheck source=hybridmesh/remote/filter.sh
. ./filter.sh

GATEWAY=$(setting gateway)
GATEWAY_PORTS=$(setting gateway-ports '15012 15443')
MESH_ADDRESS=$(setting mesh-address)
APP_PORTS=$(setting app-ports)
WAY_LIMIT=$(setting gateway-timeout-seconds 30)
BOOT_LIMIT=20
CLUSTER_ENV=/var/lib/istio/envoy/cluster.env
CLOCK_SECONDS=60 # istiod dates its certificates two minutes back, and no further

# ---------------------------------------------------------------- the system's state

system_state() {
    timeout 10 systemctl is-system-running 2>/dev/null || :
}

# A unit that failed is not ours to judge (degraded), and a boot that goes on is waited for.
check_init() {
    now
    end=$((NOW + BOOT_LIMIT))
    while state=$(system_state) && { [ "$state" = starting ] || [ "$state" = initializing ]; }; do
        ! is_past "$end" || break
        sleep 1
    done
    case $state in
        running) ;;
        degraded) log "note: systemd is degraded: $(systemctl --failed --no-legend --plain | cut -d ' ' -f 1 | paste -sd ' ' -)" ;;
        starting | initializing) finding init "the machine is still booting after ${BOOT_LIMIT}s ($state)" \
            'the proxy would start in the middle of it' 'see what it waits for: systemctl list-jobs' ;;
        *) finding init "systemd is ${state:-silent}" 'services do not start, or are about to end' \
            'wait for the end of a shutdown, or leave maintenance mode' ;;
    esac
}

# ---------------------------------------------------------------- address

# Lines: INTERFACE ADDRESS
addresses() {
    ip -o addr show up 2>/dev/null | awk '{ sub(/\/.*/, "", $4); print $2, $4 }'
}

interface_of() {
    addresses | awk -v address="$1" '$2 == address { print $1; exit }'
}

check_address() {
    [ -n "$MESH_ADDRESS" ] || return 0
    if ! command -v ip >/dev/null; then
        log 'note: there is no ip command, so that nobody looked at the interfaces'
        return 0
    fi
    case $(interface_of "$MESH_ADDRESS") in
        '') finding address "$MESH_ADDRESS is on no interface that is up ($(addresses | grep -v '^lo ' | tr ' ' = | paste -sd ' ' -))" \
            'requests from the mesh would go to another machine' \
            "set the host's meshAddress to the one of these that the mesh reaches, or accept it if an address outside leads here" ;;
        lo) finding address "$MESH_ADDRESS is on the loopback interface" 'requests from the mesh would not come in' \
            "set the host's meshAddress to an address of another interface" ;;
    esac
}

# ---------------------------------------------------------------- names

check_resolver() {
    [ "$(setting dns-capture false)" = true ] || return 0
    grep -q '^nameserver' /etc/resolv.conf 2>/dev/null || finding resolver '/etc/resolv.conf names no server' \
        'with DNS capture on, names of the mesh and all others would be unknown' \
        'name one there, or set hybrid-mesh:sidecar.dnsCapture to false'
    if sed -n 's/^hosts://p' /etc/nsswitch.conf 2>/dev/null | grep -qw resolve && systemctl is-active --quiet systemd-resolved; then
        finding resolver 'programs ask systemd-resolved past port 53 (resolve, on the line hosts of /etc/nsswitch.conf)' \
            'DNS capture would not see it: names of the mesh would be unknown' \
            'take the word resolve out of that line, or set hybrid-mesh:sidecar.dnsCapture to false'
    fi
}

# ---------------------------------------------------------------- ways

CONNECT_LIMIT=5

# What a connection that failed has said, in the file `output`
why() {
    reason=$(tail -n 1 output | sed 's/.*: //')
    echo "${reason:-no answer within ${CONNECT_LIMIT}s}"
}

gateway_addresses() {
    for address in $GATEWAY; do
        if is_address "$address"; then echo "$address"; else addresses_of "$address"; fi
    done
}

# One of the addresses is enough; a gateway that was just made may take a moment.
has_way() {
    for address in $(gateway_addresses); do
        if can_connect "$address" "$1" "$CONNECT_LIMIT" >output 2>&1; then return 0; fi
    done
    return 1
}

check_way() {
    [ -n "$(gateway_addresses)" ] || return 0
    now
    end=$((NOW + WAY_LIMIT))
    for port in $GATEWAY_PORTS; do
        until has_way "$port"; do
            if ! is_past "$end"; then
                sleep 1
                continue
            fi
            no_way "$port"
            break
        done
    done
}

no_way() {
    address=$(gateway_addresses | tail -n 1)
    what="$address:$1, the gateway, cannot be reached: $(why)"
    if ! ip route get "$address" >/dev/null 2>&1; then what="there is no route to $address, the gateway"; fi
    dropper=$(dropped_by output "$1" "$(ip route get "$address" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p')" "$address")
    [ -z "$dropper" ] || what="$what; this machine's own $dropper drops it"
    check=eastwest consequence='calls to services in the cluster would fail, unless their pods are reached directly'
    [ "$1" != 15012 ] || check=gateway consequence='the proxy would get no certificate and no configuration'
    finding "$check" "$(echo "$what" | tr ';' ',')" "$consequence" \
        "open the way from this machine to the gateway, TCP port $1: firewalls on it and in between, routes, the load balancer"
}

# The interface that requests come in on: that of the mesh address, or where that is elsewhere, of the way out
interface_in() {
    found=$(interface_of "$MESH_ADDRESS")
    case $MESH_ADDRESS in
        *:*) family=-6 ;;
        *) family=-4 ;;
    esac
    echo "${found:-$(ip -o "$family" route show default 2>/dev/null | sed -n '1s/.* dev \([^ ]*\).*/\1/p')}"
}

# Rules see a connection after Istio's redirection, with Envoy's port in place of the application's.
check_firewall() {
    interface=$(interface_in)
    [ -n "$interface" ] || return 0
    if [ "$(setting proxy-ports-forwarded false)" = false ]; then
        for port in $(setting proxy-ports); do
            closed "$port" "port $port, where the proxy takes what comes from other networks,"
        done
    fi
    redirected=''
    for port in $APP_PORTS; do
        if is_redirected "$port"; then redirected="$redirected $port"; else closed "$port" "port $port of the application"; fi
    done
    [ -z "$redirected" ] || closed 15006 "port 15006, where the proxy takes what comes for the application at$redirected," 1
}

# closed PORT WHAT [1]: a finding if a new connection, or with 1 a redirected one, does not come in
closed() {
    dropper=$(dropped_by input "$1" "$interface" "$MESH_ADDRESS" "${3-}")
    [ -z "$dropper" ] || finding firewall "$2 is closed on $interface by $dropper" \
        'requests from the mesh would not come in' "$(how_to_open "$dropper" "$1")"
}

# A container's published port is led there before Istio's rules see the connection.
check_detours() {
    interface=$(interface_in)
    for port in $APP_PORTS; do
        is_redirected "$port" || continue
        led=$(detour "$port" "$interface" "$MESH_ADDRESS")
        [ -z "$led" ] || finding ports "port $port of the application is led to $led of table nat" \
            'the proxy would not see what comes in there: callers with mTLS would fail, and all others get past every policy' \
            'let the application listen on the VM itself (docker run --network host, in place of -p), or take that rule away'
    done
}

# ---------------------------------------------------------------- the package, and the time

# headers URL: the answer's, past the proxy, to a request without a body; one that knows no HEAD is asked for a byte
headers() {
    if command -v curl >/dev/null; then
        unredirected curl -fsSLI --connect-timeout 5 -m 10 --url "$1" 2>output ||
            unredirected curl -fsSL -r 0-0 -D - -o /dev/null --connect-timeout 5 -m 10 --url "$1" 2>output
    elif command -v wget >/dev/null; then
        unredirected wget -S --spider -T 10 -t 1 --no-hsts -- "$1" 2>&1 >output | sed 's/^ *//'
    else
        unredirected python3 -IB -c '
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], method="HEAD")
print("HTTP/1.1 200 OK", urllib.request.urlopen(request, timeout=10).headers, sep="\n")' "$1" 2>output
    fi
}

# Of the headers of several answers, those of the last: a proxy's to CONNECT and redirections come before it
last_answer() {
    awk '/^HTTP\// { text = "" } { text = text $0 "\n" } END { printf "%s", text }'
}

check_package() {
    case $URL in
        http*) ;;
        *) return 0 ;; # a file, or nothing, which is a finding of its own
    esac
    headers "$URL" | tr -d '\r' | last_answer >answer
    if grep -q '^HTTP/[0-9.]* 2' answer; then
        check_clock
    elif ! has_our_package; then
        finding package "$URL cannot be downloaded: $(tail -n 1 output | scrub | tr ';' ',')" 'the proxy could not be installed' \
            'make it reachable from this VM, or set hybrid-mesh:sidecar.package.url to a mirror'
    fi
}

# By the clock of the one machine that says the time in plain text: the package's. A cache says how old its answer is, and
# leaves its date or, as Varnish 3 and Fastly do, writes its own: the nearer counts.
check_clock() {
    there=$(sed -n 's/^[Dd]ate: *//p' answer | tail -n 1)
    age=$(sed -n 's/^[Aa]ge: *\([0-9]\{1,9\}\) *$/\1/p' answer | tail -n 1)
    [ -n "$there" ] && there=$(date -d "$there" +%s 2>/dev/null) || return 0
    skew=$(($(date +%s) - there))
    aged=$((skew - ${age:-0}))
    [ "${aged#-}" -ge "${skew#-}" ] || skew=$aged
    [ "${skew#-}" -gt "$CLOCK_SECONDS" ] || return 0
    which=ahead
    [ "$skew" -gt 0 ] || which=behind
    finding clock "the clock is ${skew#-}s $which of that of the package's server" \
        'certificates would look expired, or not valid yet' 'set it, and keep it set: timedatectl set-ntp true'
}

# ---------------------------------------------------------------- who it is

# What tells this machine from all others while it runs, a copy of its memory among them; and, unless it is a copy, who
# it has joined as: its name and the address that the mesh has of it. Containers share the boot of their host, and the
# number of a network namespace that is gone goes to another one: so the start of PID 1 counts, too.
who_it_is() {
    {
        cat /proc/sys/kernel/random/boot_id
        readlink /proc/self/ns/net
        sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20
        for device in /sys/class/net/*/device; do
            [ ! -e "$device" ] || cat "${device%device}address"
        done | sort
    } 2>/dev/null | sha256sum | cut -c 1-16
    address=$(joined_with ISTIO_SVC_IP)
    case $(interface_of "$address") in
        '' | lo) ;;
        *) echo "$(joined_with POD_NAME)@$address" ;;
    esac
}

# joined_with VARIABLE, of its cluster.env
joined_with() {
    [ ! -d "$STATE/before" ] || sed -n "s/^$1=//p" "$CLUSTER_ENV" 2>/dev/null | tr -d "'"
}

# To istiod a copy of a member is that member, by its name, address and key, until it joins itself.
tell_of_another_name() {
    name=$(joined_with POD_NAME)
    case $name in '' | "$(setting machine)") return 0 ;; esac
    log "note: it has joined as $name before: it had that name, or is a copy of $name, for which istiod takes it until it joins"
}

step preflight
check_package_settings
check_system
check_init
check_disk
check_leftovers
check_ports
check_ssh
check_address
for address in $GATEWAY; do echo "$address istiod"; done >way
check_gateway_names way
check_other_lines way
check_resolver
check_way
check_firewall
check_detours
check_package
tell_of_another_name
log "who: $(who_it_is | paste -sd ' ' -)"
report
if [ -d brought ]; then /bin/sh ./bring.sh; fi
step end 'nothing was found'
