#!/bin/sh
# Takes this machine out of the mesh and leaves it as it was before join.sh; idempotent. A join that ended half-way
# is undone too; where there was none, nothing happens.
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh

DRAIN=$(setting drain-seconds 5)
BEFORE=$STATE/before

was_here() {
    [ -e "$BEFORE/$1" ]
}

stop_istio() {
    step stop
    cancel_start
    systemctl cat istio >/dev/null 2>&1 || return 0
    if [ "$DRAIN" -gt 0 ] && systemctl is-active --quiet istio; then
        step drain "${DRAIN}s"
        # An agent that is not well cannot drain, and has nothing to drain either.
        if fetch POST http://127.0.0.1:15020/drain 5 >/dev/null 2>&1; then sleep "$DRAIN"; fi
    fi
    quietly timeout 90 systemctl stop istio || fail 'Istio cannot be stopped' 'see: systemctl status istio'
    quietly timeout 60 systemctl --no-reload disable istio || fail 'Istio cannot be disabled' 'see the output above'
}

# Both kinds of iptables: pilot-agent picks one by what it finds, at times not the one that `iptables` stands for.
left_rules() {
    for kind in '' -legacy -nft; do
        for save in "iptables$kind-save" "ip6tables$kind-save"; do
            ! command -v "$save" >/dev/null || "$save" 2>/dev/null | grep ISTIO_ || :
        done
    done
}

# The unit cleans up as it stops; this is for one that was killed. A rule that stays would cut all traffic.
clean_iptables() {
    step iptables
    open_gates INPUT OUTPUT
    if grep -q '^ISTIO_CUSTOM_IP_TABLES=.*true' /var/lib/istio/envoy/cluster.env 2>/dev/null; then return; fi
    if [ -n "$(left_rules)" ] && [ -x /usr/local/bin/istio-start.sh ]; then
        (cd / && timeout 60 /usr/local/bin/istio-start.sh clean) >output 2>&1 </dev/null || :
    fi
    clean_rules
    [ -z "$(left_rules)" ] || fail "Istio's iptables rules are still there: $(left_rules | head -n 3)" \
        'pilot-agent istio-iptables --cleanup-only, then run this again'
}

# What loads a machine's own rules at boot may have saved ours among them. They are not ours to change there.
SAVED_RULES='/etc/iptables/rules.v4 /etc/iptables/rules.v6 /etc/sysconfig/iptables /etc/sysconfig/ip6tables /etc/nftables.conf'

tell_of_saved_rules() {
    for file in $SAVED_RULES; do
        ! grep -qs 'ISTIO_\|HYBRID_MESH' "$file" ||
            log "note: $file has rules of Istio saved, which the next boot would bring back, with no proxy behind them: take the lines with ISTIO_ and HYBRID_MESH out"
    done
}

remove_units() {
    step units
    for unit in $UPKEEP; do
        [ ! -e "/etc/systemd/system/$unit" ] || quietly timeout 60 systemctl --no-reload disable --now "$unit" || :
        rm -f "/etc/systemd/system/$unit"
    done
    rm -rf /run/hybrid-mesh-upkeep.*
    if systemctl cat "$TRACKER" >/dev/null 2>&1; then
        quietly timeout 60 systemctl --no-reload disable --now "$TRACKER" || fail "$TRACKER cannot be stopped" 'see the output above'
    fi
    rm -f "/etc/systemd/system/$TRACKER" "$DROP_IN"/hybrid-mesh.conf* "$DROP_IN"/hybrid-mesh-limits.conf*
    rmdir "$DROP_IN" 2>/dev/null || :
}

purge() {
    case $(package_family) in
        deb) timeout 300 dpkg --force-remove-reinstreq --purge "$@" ;;
        rpm) timeout 300 rpm -e "$@" ;;
    esac
}

# purge_all PACKAGE…: waits for the package manager's lock, five minutes in all
purge_all() {
    now
    PURGE_END=${PURGE_END:-$((NOW + 300))}
    once_unlocked "$PURGE_END" purge "$@"
}

remove_package() {
    step package
    case $(package_family) in
        deb) dpkg-query -W "$PACKAGE" >/dev/null 2>&1 || return 0 ;;
        rpm) rpm -q "$PACKAGE" >/dev/null 2>&1 || return 0 ;;
    esac
    purge_all "$PACKAGE" ||
        fail "$PACKAGE cannot be removed" 'repair the package system (dpkg --configure -a), then run this again'
}

remove_user() {
    was_here user && return
    step user
    if getent passwd istio-proxy >/dev/null; then
        quietly userdel istio-proxy || fail 'user istio-proxy cannot be removed' 'end its processes: ps -u istio-proxy'
    fi
    if getent group istio-proxy >/dev/null; then quietly groupdel istio-proxy; fi
}

# A folder that others have put something into stays.
remove_folder() {
    if [ -d "$1" ] && ! grep -q " $1\$" "$BEFORE/folders"; then
        rmdir "$1" 2>/dev/null || log "note: $1 is not empty and stays: $(find "$1" -mindepth 1 | head -n 3 | tr '\n' ' ')"
    fi
}

restore_files() {
    step files
    rm -f /etc/*.hybrid-mesh-new /etc/certs/*.hybrid-mesh-new /etc/systemd/system/*.hybrid-mesh-new
    rm -f /etc/certs/root-cert.pem /etc/certs/cert-chain.pem /etc/certs/key.pem
    rm -rf /etc/istio /var/lib/istio
    grep -q ' /var/log/istio$' "$BEFORE/folders" || rm -rf /var/log/istio
    for name in tokens workload-spiffe-uds workload-spiffe-credentials credential-uds; do
        rm -rf "/run/secrets/$name"
    done
    remove_folder /run/secrets
    remove_folder /etc/certs
    while read -r mode owner path; do
        mkdir -p "$path"
        chown "$owner" "$path"
        chmod "$mode" "$path"
    done <"$BEFORE/folders"
    if was_here saved.tar; then tar -C / -xpf "$BEFORE/saved.tar"; fi
}

restore_hosts() {
    step hosts
    if ! grep -qx '# BEGIN hybrid-mesh' "$HOSTS"; then return; fi
    hosts_without_block >hosts
    if was_here hosts-open-end; then
        head -c -1 hosts >hosts.cut
        mv hosts.cut hosts
    fi
    write_file hosts "$HOSTS" "$(stat -c '%a' "$HOSTS")" "$(stat -c '%u:%g' "$HOSTS")" || fail "$HOSTS cannot be written" \
        "make it a file that root may replace: ls -l $HOSTS, lsattr $HOSTS (chattr -i $HOSTS), then run this again"
}

# What another package has come to need in the meantime stays.
remove_added_packages() {
    record_cut_off_packages
    [ -s "$STATE/added-packages" ] || return 0
    step packages "remove $(tr '\n' ' ' <"$STATE/added-packages")"
    export SUDO_FORCE_REMOVE=yes # Debian's sudo stays otherwise, where root has no password
    # shellcheck disable=SC2046 # one word a package
    purge_all $(cat "$STATE/added-packages") || log 'note: not every package that came with the join could be removed'
}

remove_brought
if [ ! -d "$STATE" ]; then
    log "$HOST is not in the mesh: nothing to do"
    exit 0
fi
only_one
remove_stale_payloads
if [ -d "$BEFORE" ]; then
    remove_agent # it writes through the mesh
    stop_istio
    clean_iptables
    tell_of_saved_rules
    remove_units
    remove_package
    remove_user
    restore_hosts
    remove_added_packages
    timeout 60 systemctl daemon-reload
    systemctl reset-failed istio 'hybrid-mesh-*' 2>/dev/null || :
    restore_files # the last: cluster.env tells a departure that is run again whose the iptables rules are
fi
step end "$HOST is as it was"
rm -f "$LOG" "$LOG.1"
rm -rf "$STATE"
