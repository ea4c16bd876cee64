#!/bin/sh
# Joins this machine to the mesh: package, files, units, detached start. Idempotent: it changes what differs, and
# restarts Istio only if something did or Istio is not running. What was here before is recorded first.
# Where a restart would interrupt a proxy that serves, nothing is touched: all is laid ready for switch.sh, which
# ready.sh runs when it is this machine's turn. Prints `staged` then, else `applied`, and a word that no other run prints.
#   join.sh          from the payload
#   join.sh apply    from switch.sh: what was laid ready, with Istio stopped
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/checks.sh
. ./checks.sh
# shellcheck source=hybridmesh/remote/self_units.sh
. ./self_units.sh

SPIFFE_ID=$(setting spiffe-id)
DOWNLOAD_LIMIT=$(setting download-timeout-seconds 300)
INSTALL_LIMIT=$(setting install-timeout-seconds 300)

check_payload() {
    check_package_settings
    [ -n "$SPIFFE_ID" ] || finding settings 'spiffe-id is empty' 'no certificate would fit' 'pass the identity of the workload'
    token=istio-token
    if gets_own_token; then token=kubernetes-ca.pem; fi
    for name in cluster.env hosts mesh.yaml root-cert.pem "$token"; do
        [ -s "files/$name" ] || finding files "$name is missing or empty in the payload" 'the proxy would not start' \
            'pass all five bootstrap files'
    done
}

# What preflight.sh looked for, as far as it needs no network: it may have been a while ago, and elsewhere it never ran.
preflight() {
    step preflight
    check_payload
    check_system
    check_disk
    check_leftovers
    check_ports
    check_ssh
    check_gateway_names files/hosts
    check_other_lines files/hosts
    report
}

# What is here before the first change; whole or not at all, so that a crash leaves no half record.
record_before() {
    [ ! -d "$STATE/before" ] || return 0
    step record 'what is here before us'
    rm -rf "$STATE/before.new"
    mkdir -p "$STATE/before.new"
    if getent passwd istio-proxy >/dev/null; then : >"$STATE/before.new/user"; fi
    if [ -n "$(tail -c 1 "$HOSTS" | tr -d '\n')" ]; then : >"$STATE/before.new/hosts-open-end"; fi
    # dpkg takes /usr/local/bin away with the last file in it.
    for path in /etc/certs /var/log/istio /run/secrets /usr/local/bin; do
        [ ! -e "$path" ] || stat -Lc '%a %u:%g %n' "$path" # of a link, where it leads: so chmod and chown follow it
    done >"$STATE/before.new/folders"
    set --
    for path in etc/istio var/lib/istio etc/certs/root-cert.pem etc/certs/cert-chain.pem etc/certs/key.pem; do
        if [ -e "/$path" ] || [ -L "/$path" ]; then set -- "$@" "$path"; fi
    done
    [ $# = 0 ] || tar -C / -cpf "$STATE/before.new/saved.tar" "$@"
    sync "$STATE/before.new"/* "$STATE/before.new"
    mv "$STATE/before.new" "$STATE/before"
}

# install_missing MANAGER PACKAGE…
install_missing() {
    manager=$1
    shift
    export DEBIAN_FRONTEND=noninteractive
    set -- install -y "$@"
    if [ "$manager" = apt-get ]; then
        set -- "$@" --no-install-recommends -o "DPkg::Lock::Timeout=$INSTALL_LIMIT"
    fi
    if quietly timeout "$INSTALL_LIMIT" "$manager" "$@" 2>/dev/null; then return; fi
    [ "$manager" != apt-get ] || update_lists
    quietly timeout "$INSTALL_LIMIT" "$manager" "$@"
}

# A machine that was just made may be at it by itself; apt-get waits for the lock of packages alone, not for that of lists.
update_lists() {
    now
    once_unlocked $((NOW + INSTALL_LIMIT)) timeout "$INSTALL_LIMIT" apt-get update || :
}

# What comes with them is told from what is here at this moment, also if it fails: what others install before or
# after is theirs.
add_missing_packages() {
    record_cut_off_packages
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    step packages "add $(echo "$missing" | tr '\n' ' ')"
    all_packages >packages-before
    [ -s packages-before ] || fail 'the packages that are here cannot be listed' \
        "repair the package database: dpkg-query -W, or rpm -qa, must list them"
    printf '%s\n' "$missing" >"$STATE/adding-packages"
    failed=
    # shellcheck disable=SC2086 # one word a package
    install_missing "$(package_manager)" $missing || failed=yes
    all_packages | comm -13 packages-before - | grep -vx "$PACKAGE" >came || :
    record_added_packages <came
    [ ! "$failed" ] || fail "$(package_manager) cannot install $(echo "$missing" | tr '\n' ' ')" \
        'install them, or repair the package sources'
}

# NAME VERSION ARCHITECTURE of a package file
# shellcheck disable=SC2016 # dpkg's own names
describe_package() {
    case $(package_family) in
        deb) dpkg-deb -W --showformat '${Package} ${Version} ${Architecture}\n' "$1" ;;
        rpm) rpm -qp --qf '%{NAME} %{VERSION} %{ARCH}\n' "$1" ;;
    esac 2>/dev/null || echo "not-a-$(package_family) - -"
}

own_architecture() {
    case $(package_family) in
        deb) dpkg --print-architecture ;;
        rpm) uname -m ;;
    esac
}

# Whether what was downloaded has left no room for the rest
is_full() {
    free=$(df -Pk "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -lt 1024 ]
}

# obtain_package FILE: downloads it there, and makes sure of it
obtain_package() {
    file=$1
    step package "download $PACKAGE $VERSION"
    mkdir -p "$(dirname "$file")"
    fetch GET "$URL" "$DOWNLOAD_LIMIT" >"$file" 2>output || {
        tail -n 5 output | scrub >&2
        if is_full "$(dirname "$file")"; then
            rm -f "$file"
            fail "the disk is full at $(dirname "$file")" "free $((NEEDED_KIB / 1024)) MiB there, then pulumi up; nothing that runs was changed"
        fi
        fail "cannot download $URL within ${DOWNLOAD_LIMIT}s" \
            'make the address reachable from this VM, or set hybrid-mesh:sidecar.package.url to a mirror'
    }
    [ "$(large_digest "$file")" = "$SHA256" ] ||
        fail "$URL has SHA-256 $(large_digest "$file"), expected $SHA256" \
            'set hybrid-mesh:sidecar.package.sha256 to that of the right file, or repair the mirror'
    described=$(describe_package "$file")
    case $described in
        "$PACKAGE $VERSION $(own_architecture)" | "$PACKAGE $VERSION all") ;;
        *) fail "the file is $described, expected $PACKAGE $VERSION $(own_architecture)" \
            'set hybrid-mesh:sidecar.package to the file for this system' ;;
    esac
}

# The file is kept: it is the way back from the next one. So is what says which one is here, until the next one is: but
# for a switch, which has its own, and tells by its absence that the package is to be put back.
install_package() {
    if has_our_package; then
        step package "$PACKAGE $(installed_version) is installed"
        return
    fi
    if [ -f package-file ]; then file=$(pwd)/package-file; else obtain_package "$STATE/download/$PACKAGE.$(package_family)"; fi
    step package "install $PACKAGE $VERSION"
    : >"$STATE/restart-needed"
    [ ! -e "$STATE/switching" ] || rm -f "$STATE/package"
    install_file "$file" || fail "$PACKAGE $VERSION cannot be installed" 'see the output above; nothing else was changed'
    printf '%s\n' "$SHA256 $(installed_version)" >"$STATE/package"
    ln -f "$file" "$STATE/installed-file"
    rm -rf "$STATE/download"
}

# is_delivered SOURCE TARGET MODE OWNER
is_delivered() {
    [ -f "$2" ] && cmp -s "$1" "$2" && [ "$3 $4" = "$(stat -c '%a %U:%G' "$2")" ]
}

# deliver SOURCE TARGET MODE OWNER: only what differs is written, and asks for a restart
deliver() {
    if is_delivered "$@"; then return; fi
    log "write $2"
    : >"$STATE/restart-needed"
    write_file "$1" "$2" "$3" "$4"
}

drop_unfit_certificate() {
    reason=$(unfit_certificate files)
    [ "$reason" ] || return 0
    log "remove the certificate: $reason"
    : >"$STATE/restart-needed"
    rm -f /etc/certs/cert-chain.pem /etc/certs/key.pem
}

# The agent writes what istiod sends over our file: what counts is whether we have something new.
deliver_root_certificate() {
    delivered=$STATE/delivered
    if [ ! -e /etc/certs/root-cert.pem ] || ! cmp -s files/root-cert.pem "$delivered/root-cert.pem"; then
        deliver files/root-cert.pem /etc/certs/root-cert.pem 644 istio-proxy:istio-proxy
    fi
    mkdir -p "$delivered"
    cp files/root-cert.pem "$delivered/"
    printf '%s\n' "$SPIFFE_ID" >"$delivered/spiffe-id"
}

# With this one, token.sh asks Kubernetes for tokens.
deliver_authorities() {
    [ ! -f files/kubernetes-ca.pem ] || cp files/kubernetes-ca.pem "$STATE/kubernetes-ca.pem"
}

has_our_token() {
    [ "$(cat "$STATE/delivered/token-sha256" 2>/dev/null)" = "$(digest files/istio-token)" ]
}

# A new token is for a VM that is out. One that a reboot took away is needed by nobody, and restarts nothing.
deliver_token() {
    if gets_own_token; then return; fi
    token=$TOKENS/istio-token
    delivered=$STATE/delivered/token-sha256
    if [ ! -f "$delivered" ] && [ -f "$token" ]; then digest "$token" >"$delivered"; fi
    has_our_token || [ "${NEEDS_NO_TOKEN-}" ] || : >"$STATE/restart-needed"
    cmp -s files/istio-token "$token" || {
        log "write $token"
        write_file files/istio-token "$token" 600 istio-proxy:istio-proxy
    }
    digest files/istio-token >"$delivered"
}

# The agent reads it as it connects, so that it restarts nothing.
deliver_hosts() {
    if ! cmp -s files/hosts "$STATE/hosts"; then
        rm -f "$STATE/hosts-known"
        write_file files/hosts "$STATE/hosts" 600 root:root
    fi
    refresh_hosts || fail "$(no_hosts)" \
        "see the output above; $HOSTS must be a file that root may replace, and the gateway's name be known here"
}

deliver_files() {
    step files
    guard_folders
    ensure_folder /etc/istio/proxy 755 istio-proxy:istio-proxy
    ensure_folder /etc/certs 755 istio-proxy:istio-proxy
    ensure_token_folder
    drop_unfit_certificate
    deliver_root_certificate
    deliver_authorities
    deliver_token
    deliver files/mesh.yaml /etc/istio/config/mesh 640 root:istio-proxy
    deliver files/cluster.env /var/lib/istio/envoy/cluster.env 640 root:istio-proxy
    deliver_hosts
}

# The kernel starts to track connections when the first rule asks for it. If that were Istio's redirect rules, the
# answers on every open connection (an SSH session, an app's client) would look like new ones and go to Envoy. A
# rule in a chain that nothing jumps to turns tracking on earlier, and changes nothing else.
tracker_unit() {
    cat <<'END'
# Made by hybrid-mesh, which removes it when this machine leaves the mesh.
[Unit]
Description=hybrid-mesh: track connections before Istio redirects new ones, so that open ones go on
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-/usr/sbin/iptables -w 10 -t nat -N HYBRID_MESH
ExecStart=/usr/sbin/iptables -w 10 -t nat -A HYBRID_MESH -m conntrack --ctstate INVALID -j RETURN
ExecStart=-/usr/sbin/ip6tables -w 10 -t nat -N HYBRID_MESH
ExecStart=-/usr/sbin/ip6tables -w 10 -t nat -A HYBRID_MESH -m conntrack --ctstate INVALID -j RETURN
ExecStop=-/usr/sbin/iptables -w 10 -t nat -F HYBRID_MESH
ExecStop=-/usr/sbin/iptables -w 10 -t nat -X HYBRID_MESH
ExecStop=-/usr/sbin/ip6tables -w 10 -t nat -F HYBRID_MESH
ExecStop=-/usr/sbin/ip6tables -w 10 -t nat -X HYBRID_MESH

[Install]
WantedBy=multi-user.target
END
}

# After network-online.target, but not wanting it: where nothing else waits for it, it may take two minutes.
drop_in() {
    cat <<'END'
# Made by hybrid-mesh, which removes it when this machine leaves the mesh.
[Unit]
Wants=hybrid-mesh-network.service
After=network-online.target hybrid-mesh-conntrack.service hybrid-mesh-network.service

[Service]
# Nothing on this machine reaches anything while its proxy is away. Istio's unit says 10; below 2, systemd gives up a
# unit that dies at once (five starts in ten seconds).
RestartSec=2
END
    uid=$(id -u istio-proxy)
    gid=$(id -g istio-proxy)
    # istio-iptables takes the user's number for the group's, and would redirect the proxy to itself
    [ "$uid" = "$gid" ] || printf 'Environment=PROXY_GID=%s\n' "$gid"
    if gets_own_token; then token_drop_in; fi
}

# upkeep_unit DESCRIPTION VERB SECONDS: the service that runs upkeep.sh; more of its section Unit comes from stdin
upkeep_unit() {
    cat <<END
# Made by hybrid-mesh, which removes it when this machine leaves the mesh.
[Unit]
Description=hybrid-mesh: $1
$(cat)

[Service]
Type=oneshot
TimeoutStartSec=$3
ExecStart=/bin/sh $STATE/scripts/upkeep.sh $2
END
}

# upkeep_timer DESCRIPTION WHEN
upkeep_timer() {
    cat <<END
# Made by hybrid-mesh, which removes it when this machine leaves the mesh.
[Unit]
Description=hybrid-mesh: $1

[Timer]
$2

[Install]
WantedBy=timers.target
END
}

# At boot: network, way to istiod and hosts, Istio, ready, applications.
upkeep_units() {
    boot_limit=$(setting boot-timeout-seconds 60)
    printf 'After=network.target network-online.target\nBefore=istio.service\n' |
        upkeep_unit 'a way to istiod, before Istio starts' network 900 >hybrid-mesh-network.service
    {
        printf 'After=istio.service\nBefore=%s\n' "$(setting app-units)" |
            upkeep_unit 'the proxy is ready, before applications start' "ready $boot_limit" $((boot_limit + 30))
        printf 'RemainAfterExit=yes\n\n[Install]\nWantedBy=multi-user.target\n'
    } >hybrid-mesh-ready.service
    metrics_unit >hybrid-mesh-metrics.service
    upkeep_unit 'rotate the logs of Istio' logs 90 </dev/null >hybrid-mesh-logs.service
    upkeep_timer 'rotate the logs of Istio' "$(printf 'OnCalendar=hourly\nRandomizedDelaySec=300')" >hybrid-mesh-logs.timer
    if gets_own_token; then self_units; fi
    [ -n "$(gateway_names files/hosts)" ] || return 0
    upkeep_unit 'the addresses of the gateway' follow 90 </dev/null >hybrid-mesh-follow.service
    upkeep_timer 'follow the addresses of the gateway' \
        "$(printf 'OnActiveSec=15\nOnUnitInactiveSec=30\nAccuracySec=1')" >hybrid-mesh-follow.timer
}

# Before any network: metrics are refused from the first moment. See firewall.sh.
metrics_unit() {
    cat <<END
# Made by hybrid-mesh, which removes it when this machine leaves the mesh.
[Unit]
Description=hybrid-mesh: who may read metrics here
DefaultDependencies=no
# What loads a host's own rules puts them in the place of all that are there.
After=local-fs.target iptables.service ip6tables.service nftables.service netfilter-persistent.service ufw.service
After=hybrid-mesh-conntrack.service
Before=network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=60
ExecStart=/bin/sh $STATE/scripts/firewall.sh set
ExecReload=/bin/sh $STATE/scripts/firewall.sh set
ExecStop=/bin/sh $STATE/scripts/firewall.sh clear

[Install]
WantedBy=multi-user.target
END
}

# They change nothing about an Istio that runs.
set_upkeep() {
    rm -f hybrid-mesh-*.service hybrid-mesh-*.timer
    upkeep_units
    for unit in $UPKEEP; do
        target=/etc/systemd/system/$unit
        if [ ! -e "$unit" ] && [ -e "$target" ]; then
            log "remove $target"
            quietly timeout 60 systemctl disable --now "$unit" || :
            rm -f "$target"
            : >reload-needed
        elif [ -e "$unit" ] && ! cmp -s "$unit" "$target"; then
            write_file "$unit" "$target" 644 root:root
            : >reload-needed
        fi
    done
}

# A reload of systemd costs more than all else here: once, and only if something changed.
enable_units() {
    set -- istio "$TRACKER" hybrid-mesh-ready.service hybrid-mesh-metrics.service hybrid-mesh-*.timer
    if gets_own_token; then set -- "$@" hybrid-mesh-farewell.service; fi
    quietly timeout 60 systemctl --no-reload enable "$@" || return 1
    [ ! -s output ] || : >reload-needed
}

# The farewell is ordered after the applications, and one of these may be starting, or wait for the startup script.
start_upkeep() {
    quietly timeout 60 systemctl reload-or-restart hybrid-mesh-metrics.service || return 1
    quietly timeout 60 systemctl start hybrid-mesh-*.timer || return 1
    if gets_own_token; then quietly timeout 60 systemctl start --no-block hybrid-mesh-farewell.service; fi
}

# A file of its own: systemd applies a limit to the running proxy, which a restart would cut off for nothing.
limits() {
    set -- CPUQuota "$(setting cpu-quota)" MemoryMax "$(setting memory-max)" MemoryHigh "$(setting memory-high)" \
        TasksMax "$(setting tasks-max)"
    echo '# Made by hybrid-mesh, which removes it when this machine leaves the mesh.'
    echo '[Service]'
    while [ $# -gt 0 ]; do
        [ -z "$2" ] || printf '%s=%s\n' "$1" "$2"
        shift 2
    done
}

set_limits() {
    target=$DROP_IN/hybrid-mesh-limits.conf
    limits >new-limits
    if [ "$(wc -l <new-limits)" = 2 ]; then
        [ ! -e "$target" ] || log "remove $target"
        rm -f "$target"
    elif ! cmp -s new-limits "$target"; then
        log "write $target"
        write_file new-limits "$target" 644 root:root
    fi
}

units_changed() {
    [ -e "$STATE/restart-needed" ] || [ -e reload-needed ] || systemctl show --property=NeedDaemonReload istio | grep -q '=yes'
}

set_units() {
    step units
    tracker_unit >tracker
    drop_in >drop-in
    deliver tracker "/etc/systemd/system/$TRACKER" 644 root:root
    ensure_folder "$DROP_IN" 755 root:root
    deliver drop-in "$DROP_IN/hybrid-mesh.conf" 644 root:root
    set_limits
    set_upkeep
    enable_units || fail 'units cannot be enabled' 'see the output above'
    if units_changed; then timeout 60 systemctl daemon-reload; fi
    start_upkeep || fail 'units cannot be started' 'see the output above'
    quietly timeout 60 systemctl start "$TRACKER" ||
        fail 'connection tracking cannot be turned on' "see: systemctl status $TRACKER; the kernel needs nf_conntrack"
}

# Detached, after this session has ended: ready.sh asks over a new one.
start() {
    if [ ! -e "$STATE/restart-needed" ] && systemctl is-active --quiet istio && leave_old_addresses; then
        step start 'nothing changed and Istio is running: no restart'
        return
    fi
    step start 'Istio restarts in a moment, detached from this session'
    cancel_start
    now
    quietly timeout 60 systemd-run --collect --unit="hybrid-mesh-start-$$-$NOW" \
        --description='hybrid-mesh: restart Istio outside the SSH session' \
        --on-active=0.1 --timer-property=AccuracySec=10ms /bin/sh "$STATE/scripts/restart.sh" ||
        fail 'the restart cannot be scheduled' 'see the output above and: systemctl status'
    rm -f "$STATE/restart-needed"
}

# So that whoever is on call can run `sh /var/lib/hybrid-mesh/scripts/leave.sh` with no Pulumi at hand
keep_scripts() {
    rm -rf "$STATE/scripts.new"
    mkdir -p "$STATE/scripts.new"
    cp -R ./*.sh settings "$STATE/scripts.new/"
    rm -rf "$STATE/scripts"
    mv "$STATE/scripts.new" "$STATE/scripts"
}

# What whoever looks for changes by hand compares with
record_manifest() {
    sh ./manifest.sh >manifest
    cmp -s manifest "$STATE/manifest" || write_file manifest "$STATE/manifest" 600 root:root
}

# What differs from what this proxy runs with, and that it would read only when it starts, but the token; a line each
reasons_to_restart() {
    delivered=$STATE/delivered
    has_our_package || echo "package $VERSION"
    [ "$(cat "$delivered/spiffe-id" 2>/dev/null)" = "$SPIFFE_ID" ] || echo identity
    cmp -s files/root-cert.pem "$delivered/root-cert.pem" || echo 'root certificate'
    is_delivered files/mesh.yaml /etc/istio/config/mesh 640 root:istio-proxy || echo mesh.yaml
    is_delivered files/cluster.env /var/lib/istio/envoy/cluster.env 640 root:istio-proxy || echo cluster.env
    tracker_unit >tracker
    drop_in >drop-in
    is_delivered tracker "/etc/systemd/system/$TRACKER" 644 root:root || echo "$TRACKER"
    is_delivered drop-in "$DROP_IN/hybrid-mesh.conf" 644 root:root || echo hybrid-mesh.conf
    [ ! -e "$STATE/restart-needed" ] || echo 'an earlier change'
}

# Why a proxy that serves restarts, in its turn, go to the file `reasons`. A machine that joins by itself does so at
# boot, and has nobody to give it a turn. One of which nobody knows what is installed has no way back that a switch
# could take. A new token alone is none: the machine was taken for one that is out, since it was for a moment, or
# istiod has lost sight of it, or is away itself.
find_reasons() {
    : >reasons
    if gets_own_token || ! is_ready; then return; fi
    takes_turns=
    if [ -f "$STATE/package" ] && is_connected; then takes_turns=yes; fi
    [ ! "$takes_turns" ] || reasons_to_restart >reasons
    if [ -s reasons ] || has_our_token; then return; fi
    if has_good_certificate && connect_anew; then
        NEEDS_NO_TOKEN=yes
    elif [ "$takes_turns" ]; then
        echo token >reasons
    fi
}

# The file of the package that is installed; a member of old, which kept none, gets it from where it had it.
keep_way_back() {
    was=$(cut -d ' ' -f 1 "$STATE/package")
    if [ -f "$STATE/installed-file" ] && [ "$(large_digest "$STATE/installed-file")" = "$was" ]; then return; fi
    settings=$STATE/scripts/settings
    url=$(cat "$settings/package-url-$KIND" 2>/dev/null || cat "$settings/package-url" 2>/dev/null || :)
    step package 'download what is installed, for the way back'
    fetch GET "$url" "$DOWNLOAD_LIMIT" >"$STATE/installed-file" 2>output || :
    [ "$(large_digest "$STATE/installed-file")" = "$was" ] || fail "there would be no way back: what is installed is not at ${url:-an address that is known here}" \
        "put the package with SHA-256 $was to $STATE/installed-file on this VM, then run it again"
}

# Lays all ready for switch.sh, and touches nothing that runs
stage() {
    step stage "$(paste -sd , "$1")"
    next=$STATE/next.new
    rm -rf "$next" "$STATE/next"
    mkdir -p "$next"
    if ! has_our_package; then
        keep_way_back
        obtain_package "$next/package-file"
    fi
    cp -R ./*.sh files settings "$next/"
    mv "$next" "$STATE/next"
}

apply() {
    keep_scripts
    install_package
    deliver_files
    set_units
    record_manifest
}

if [ "${1-}" = apply ]; then
    apply
    rm -f "$STATE/restart-needed"
    exit 0
fi
only_one
remove_stale_payloads
preflight
mkdir -p "$STATE"
rm -rf "$STATE/download"
undo_half_switch back || log 'note: what ran before cannot be put back; this join replaces it'
record_before
add_missing_packages
find_reasons
if [ -s reasons ]; then
    stage reasons
    outcome=staged
else
    rm -rf "$STATE/next"
    apply
    if [ -e "$STATE/switching" ]; then # that of a switch which could not be undone
        rm -rf "$STATE/switching" "$STATE/previous"
        open_gates INPUT OUTPUT
    fi
    start
    setting generation >"$STATE/generation"
    outcome=applied
fi
remove_brought
# What follows a join is done anew after each, also where the join of before wanted the same.
echo "$outcome $(cat /proc/sys/kernel/random/uuid)"
step end
