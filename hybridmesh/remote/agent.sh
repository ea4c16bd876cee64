#!/bin/sh
# Runs a Prometheus agent on this machine, which is in the mesh: it scrapes the network's machines, and writes what it
# finds to a service of the mesh. Idempotent. With file prometheus.yml; `agent-leave.sh` takes it away.
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh

URL=$(setting agent-url)
SHA256=$(setting agent-sha256)
LIMIT=$(setting ready-timeout-seconds 90)
DOWNLOAD_LIMIT=$(setting download-timeout-seconds 300)

has_agent() {
    [ -x "$AGENT/prometheus" ] && [ "$(cat "$AGENT/sha256" 2>/dev/null)" = "$SHA256" ]
}

install_agent() {
    if has_agent; then return; fi
    step package 'download Prometheus'
    rm -rf "$AGENT/new"
    mkdir -p "$AGENT/new"
    fetch GET "$URL" "$DOWNLOAD_LIMIT" >"$AGENT/new/archive" 2>output || {
        tail -n 5 output | scrub >&2
        fail "cannot download $URL within ${DOWNLOAD_LIMIT}s" \
            'make the address reachable from this VM, or set observability.agents.<network>.package.url to a mirror'
    }
    [ "$(large_digest "$AGENT/new/archive")" = "$SHA256" ] ||
        fail "$URL has SHA-256 $(large_digest "$AGENT/new/archive"), expected $SHA256" \
            'set observability.agents.<network>.package.sha256 to that of the right archive, or repair the mirror'
    program=$(tar -tzf "$AGENT/new/archive" | grep -E '^([^/]+/)?prometheus$' | head -n 1 || :)
    [ "$program" ] || fail "$URL has no program prometheus in it" 'give a release archive of Prometheus (.tar.gz)'
    tar -xzOf "$AGENT/new/archive" "$program" >"$AGENT/new/prometheus"
    chmod 755 "$AGENT/new/prometheus"
    quietly timeout 30 "$AGENT/new/prometheus" --version || fail 'Prometheus does not run here' \
        'give the archive for this architecture'
    mv "$AGENT/new/prometheus" "$AGENT/prometheus"
    printf '%s\n' "$SHA256" >"$AGENT/sha256"
    rm -rf "$AGENT/new"
    : >"$AGENT/restart-needed"
}

# With SELinux systemd may not start what is labelled as data, as all of /var/lib is. Elsewhere there are no labels.
label_program() {
    chcon -t bin_t "$AGENT/prometheus" 2>/dev/null || :
}

# 2.x has the mode as a feature, 3.x as a flag.
mode() {
    case $("$AGENT/prometheus" --version 2>&1) in
        *'version 2.'*) echo --enable-feature=agent ;;
        *) echo --agent ;;
    esac
}

agent_unit() {
    cat <<END
# Made by hybrid-mesh, which removes it when this machine leaves the mesh.
[Unit]
Description=hybrid-mesh: Prometheus as an agent, for the machines of this network
After=network.target istio.service

[Service]
DynamicUser=yes
StateDirectory=hybrid-mesh-agent-data
ExecStart=$AGENT/prometheus $(mode) --config.file=$AGENT/prometheus.yml --storage.agent.path=/var/lib/hybrid-mesh-agent-data --web.listen-address=127.0.0.1:$AGENT_PORT
Restart=always
RestartSec=2
# As it ends it tries to write what it still has, by default for a minute where nobody takes it.
TimeoutStopSec=10

[Install]
WantedBy=multi-user.target
END
}

place() {
    if cmp -s "$1" "$2"; then return; fi
    log "write $2"
    write_file "$1" "$2" 644 root:root
    : >"$AGENT/restart-needed"
}

# What the agent has written, and what was refused
written() {
    fetch GET "http://127.0.0.1:$AGENT_PORT/metrics" 5 2>/dev/null |
        awk '/^prometheus_remote_storage_samples_total\{/ { total += $NF }
            /^prometheus_remote_storage_samples_(failed|pending)_?(total)?\{/ { held += $NF }
            END { exit !(total - held > 0) }'
}

wait_until_written() {
    step ready "wait until Prometheus takes what the agent writes, at most ${LIMIT}s"
    within "$LIMIT" written || {
        timeout 10 journalctl -u "$AGENT_UNIT" -n 15 --no-pager -o cat 2>/dev/null | scrub | cut -c 1-400 >&2 || :
        fail "nothing was written after ${LIMIT}s" \
            'see the lines above: the metrics server and the receiver must be services of the mesh that this VM may call, and whose names it knows (sidecar.dnsCapture, or its own resolver)'
    }
}

only_one
[ -d "$STATE/before" ] || fail 'this machine was never joined' 'run the join first'
step agent
mkdir -p "$AGENT"
chmod 755 "$AGENT"
install_agent
label_program
place files/prometheus.yml "$AGENT/prometheus.yml"
agent_unit >agent-unit
place agent-unit "/etc/systemd/system/$AGENT_UNIT"
if [ -e "$AGENT/restart-needed" ] || ! systemctl is-active --quiet "$AGENT_UNIT"; then
    timeout 60 systemctl daemon-reload
    quietly timeout 60 systemctl enable "$AGENT_UNIT" || fail 'the agent cannot be enabled' 'see the output above'
    quietly timeout 60 systemctl restart "$AGENT_UNIT" ||
        fail 'the agent cannot be started' "see: systemctl status $AGENT_UNIT"
    rm -f "$AGENT/restart-needed"
fi
wait_until_written
step end
