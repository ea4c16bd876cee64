#!/bin/sh
# From what runs on this machine to what a join has laid ready beside it, which is this folder: out of rotation, drain,
# stop, package and files, start, ready. If any of that fails, what ran before is put back, whole. Runs detached;
# ready.sh reads $STATE/outcome: what, remedy, log lines.
#   switch.sh         the whole of it
#   switch.sh forward the way there
#   switch.sh back    the way back, after a failure
#   switch.sh before-start  the same, before a start of Istio, after a reboot half-way
#   switch.sh rescue  once the unit has ended, however it did: what was cut off is put back and started
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh

PREVIOUS=$STATE/previous
READY_LIMIT=$(setting ready-timeout-seconds 90)
DRAIN=$(setting drain-seconds 5)
CUT_OFF=$(setting cut-off-seconds 15)
CUT_LIMIT=35    # by then istiod's keepalive has noticed, where the kernel cannot close a connection
RESTARTS=5      # of a proxy that ends by itself, before it is given up
ERRORS=/var/log/istio/istio.err.log

# What makes a version, the package apart, and what says of it that it is here; relative to /
parts() {
    for part in etc/certs etc/istio/config/mesh var/lib/istio/envoy/cluster.env run/secrets/tokens/istio-token \
        "${DROP_IN#/}" etc/systemd/system/hybrid-mesh-*.service etc/systemd/system/hybrid-mesh-*.timer \
        "${STATE#/}/package" "${STATE#/}/delivered" "${STATE#/}/scripts" "${STATE#/}/hosts" "${STATE#/}/hosts-known" \
        "${STATE#/}/generation" "${STATE#/}/manifest"; do
        if [ -e "/$part" ]; then echo "$part"; fi
    done
}

# Whole or not at all; one that a switch left that was cut off is the one to keep.
keep_previous() {
    step keep 'what runs here'
    rm -rf "$PREVIOUS.new" "$PREVIOUS"
    mkdir -p "$PREVIOUS.new"
    (cd / && parts) >"$PREVIOUS.new/parts"
    tar -C / -cpf "$PREVIOUS.new/parts.tar" -T "$PREVIOUS.new/parts"
    cp "$STATE/package" "$PREVIOUS.new/package"
    [ ! -f "$STATE/installed-file" ] || ln "$STATE/installed-file" "$PREVIOUS.new/installed-file"
    sync "$PREVIOUS.new"/* "$PREVIOUS.new"
    mv "$PREVIOUS.new" "$PREVIOUS"
    this_boot >"$STATE/switching"
}

# close_gate CHAIN RULE…
close_gate() {
    chain=$1
    shift
    for tool in iptables ip6tables; do
        "$tool" -w 10 -N "$GATES-$chain" 2>/dev/null || :
        "$tool" -w 10 -A "$GATES-$chain" "$@" 2>/dev/null || :
        "$tool" -w 10 -C "$chain" -j "$GATES-$chain" 2>/dev/null ||
            "$tool" -w 10 -I "$chain" -j "$GATES-$chain" 2>/dev/null || :
    done
}

is_cut_off() {
    ! is_connected
}

# istiod takes a VM out of every proxy's endpoints once it has been without a connection for a while. Until then this
# proxy serves on, with what it knows.
leave_rotation() {
    if [ "$CUT_OFF" = 0 ] || ! is_connected; then return; fi
    step rotation "no way to istiod, so that within ${CUT_OFF}s no proxy calls this VM"
    # Dropped, not refused: a refusal would end the connection here alone. The reset by which istiod hears of the end
    # goes out.
    close_gate OUTPUT -p tcp --dport 15012 ! --tcp-flags RST RST -m owner --uid-owner istio-proxy -j DROP
    close_connections
    within "$CUT_LIMIT" is_cut_off || :
    sleep "$CUT_OFF"
}

# Whether Envoy has no request under way to the application
is_idle() {
    fetch GET http://127.0.0.1:15000/clusters 5 2>/dev/null | awk -F '::' '/^inbound\|/ && $3 == "rq_active" { n += $4 } END { exit n > 0 }'
}

drain() {
    step drain "at most ${DRAIN}s"
    fetch POST http://127.0.0.1:15020/drain 5 >/dev/null 2>&1 || :
    within "$DRAIN" is_idle || :
}

# While no proxy is there, callers of the application's ports are refused, at once: they go elsewhere, and nobody gets
# past the proxy. Where every port is the proxy's, this machine's own would be among them.
refuse_callers() {
    ports=$(sed -n "s/^ISTIO_INBOUND_PORTS=//p" /var/lib/istio/envoy/cluster.env | tr -d "'" | tr ',' ' ')
    case $ports in *[!0-9\ ]*) return ;; esac
    for port in $ports; do
        close_gate INPUT ! -i lo -p tcp --syn --dport "$port" -j REJECT --reject-with tcp-reset
    done
}

stop_istio() {
    step stop
    quietly timeout 90 systemctl stop istio || fail 'Istio cannot be stopped' 'see: systemctl status istio'
    clean_rules
}

restarts() {
    systemctl show --value --property=NRestarts istio
}

# Until the proxy is ready and has a certificate
start_istio() {
    step start
    quietly timeout 90 systemctl start istio || fail 'Istio cannot be started' 'see: systemctl status istio'
    before=$(restarts)
    step ready "at most ${READY_LIMIT}s"
    now
    limit=$((NOW + READY_LIMIT))
    until agent_is_ready && own_certificates | grep -q .; do
        [ "$(restarts)" -lt $((before + RESTARTS)) ] || fail 'the proxy ends by itself, again and again' 'see the lines above'
        ! is_past "$limit" || fail "the proxy is not ready after ${READY_LIMIT}s" 'see the lines above'
        sleep 0.3
    done
}

forward() {
    leave_rotation
    drain
    refuse_callers
    stop_istio
    /bin/sh ./join.sh apply || exit 1
    open_gates OUTPUT
    start_istio
    open_gates INPUT
    setting generation >"$STATE/generation"
}

restore_package() {
    if cmp -s "$STATE/package" "$PREVIOUS/package"; then return; fi
    step package 'put back'
    rm -f "$STATE/package"
    install_file "$PREVIOUS/installed-file" || fail 'the package that was here cannot be installed' 'see the output above'
    ln -f "$PREVIOUS/installed-file" "$STATE/installed-file"
}

restore_parts() {
    step files 'put back'
    for unit in $UPKEEP; do
        [ ! -e "/etc/systemd/system/$unit" ] || quietly timeout 60 systemctl disable "$unit" || :
    done
    # Nothing is taken away before all that was here is on the disk again.
    rm -rf "$PREVIOUS/unpacked"
    mkdir "$PREVIOUS/unpacked"
    quietly tar -C "$PREVIOUS/unpacked" -xpf "$PREVIOUS/parts.tar" ||
        fail 'the files that were here cannot be put back' 'make room on the disk, then pulumi up'
    (cd / && parts) | grep -vxFf "$PREVIOUS/parts" | while IFS= read -r part; do rm -rf "/${part:?}"; done
    guard_folders
    while IFS= read -r part; do
        if [ "/$part" = "$TOKENS/istio-token" ]; then
            # A link that the proxy had laid there would be read as root, and what it leads to be the proxy's.
            if [ -L "$PREVIOUS/unpacked/$part" ]; then continue; fi
            ensure_token_folder
            write_file "$PREVIOUS/unpacked/$part" "/$part" 600 istio-proxy:istio-proxy
            continue
        fi
        mkdir -p "/${part%/*}"
        rm -rf "/${part:?}"
        mv -T "$PREVIOUS/unpacked/$part" "/$part"
        if command -v restorecon >/dev/null; then restorecon -R "/$part" || :; fi
    done <"$PREVIOUS/parts"
    rm -f "$STATE/restart-needed"
    timeout 60 systemctl daemon-reload
    quietly timeout 60 systemctl --no-reload enable istio "$TRACKER" || :
    for unit in $UPKEEP; do
        [ ! -e "/etc/systemd/system/$unit" ] || quietly timeout 60 systemctl --no-reload enable "$unit" || :
    done
    quietly timeout 60 systemctl reload hybrid-mesh-metrics.service || :
    [ ! -s "$STATE/hosts" ] || refresh_hosts || :
}

# back back|before-start: the second where Istio's start waits for this to end: a stop would call it off
back() {
    [ -e "$STATE/switching" ] || return 0
    step back 'what ran here before'
    # At boot its start may be still to come, too.
    [ "$1" = before-start ] || [ "$(systemctl show --value --property=ActiveState istio)" = inactive ] ||
        quietly timeout 90 systemctl stop istio || :
    clean_rules
    restore_package
    restore_parts
    rm -rf "$STATE/switching" "$PREVIOUS"
    open_gates INPUT OUTPUT
}

# What the forward way said, in the words of `fail`
said() {
    sed -n "s/^hybrid-mesh: $1//p" said | tail -n 1
}

# outcome WHAT REMEDY
outcome() {
    {
        printf '%s\n%s\n' "$1" "$2"
        echo "--- last lines of $ERRORS, and of unit istio, while the new version ran"
        cat errors
        grep -v '^hybrid-mesh: step' said || :
    } | scrub >"$STATE/outcome.new"
    mv "$STATE/outcome.new" "$STATE/outcome"
}

switch() {
    rm -f "$STATE/outcome"
    undo_half_switch back || fail 'what ran before an earlier change cannot be put back' "see $LOG, then pulumi up"
    version=$(installed_version)
    keep_previous
    BEGAN=$(date +%s)
    since=$(as_proxy stat -Lc %s "$ERRORS" 2>/dev/null || echo 0)
    if /bin/sh ./switch.sh forward 2>said; then
        cat said >&2
        rm -rf "$STATE/switching" "$PREVIOUS"
        step end
        cd / && rm -rf "$STATE/next"
        return
    fi
    cat said >&2
    {
        as_proxy tail -c "+$((since + 1))" "$ERRORS" 2>/dev/null | tail -n 20
        timeout 10 journalctl --unit=istio --since="@$BEGAN" --output=cat --no-pager 2>/dev/null | tail -n 20 || :
    } | cut -c 1-500 >errors
    what=$(said "FAILED on $HOST at step ")
    if /bin/sh ./switch.sh back && (start_istio); then
        outcome "${what:-it was cut off}; rolled back: $PACKAGE $version runs again, with its own files and scripts" \
            "$(said 'remedy: '), correct the cause, then pulumi up: it tries again. Back to the old settings: no restart"
    else
        outcome "${what:-it was cut off}; and what ran before could not be brought back to run" \
            "see $LOG and systemctl status istio on this VM, then pulumi up"
    fi
    step end
}

case ${1-} in
    forward) forward ;;
    back | before-start)
        only_one
        back "$1"
        ;;
    rescue)
        if [ ! -e "$STATE/switching" ]; then exit 0; fi
        only_one
        back back
        timeout 60 systemctl start --no-block istio
        ;;
    '')
        only_one
        switch
        ;;
    *) fail "unknown: $1" 'switch.sh alone, or with forward, back, before-start or rescue' ;;
esac
