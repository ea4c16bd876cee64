# shellcheck shell=sh
# For join.sh: the units of a machine that gets its token by itself, and says goodbye by itself. They are files in the
# working folder, as those of `upkeep_units`.

# What the section Service of istio.service is told besides: its token first. A failure does not keep it from starting.
token_drop_in() {
    cat <<END
ExecStartPre=-+/usr/bin/env HYBRID_MESH_CONSOLE=/dev/console /bin/sh $STATE/scripts/token.sh start
END
}

# Stopped before all that it is ordered after
farewell_unit() {
    cat <<END
# Made by hybrid-mesh, which removes it when this machine leaves the mesh.
[Unit]
Description=hybrid-mesh: out of rotation, before Istio and applications stop
After=network-online.target istio.service $(setting app-units)

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStopSec=$((30 + $(setting deregister-seconds) + $(setting drain-seconds 5)))
ExecStart=/bin/true
ExecStop=/bin/sh $STATE/scripts/farewell.sh

[Install]
WantedBy=multi-user.target
END
}

self_units() {
    upkeep_unit 'a new token for istiod, before the old one ends' token 90 </dev/null |
        sed "s,^ExecStart=.*,ExecStart=/bin/sh $STATE/scripts/token.sh renew," >hybrid-mesh-token.service
    upkeep_timer 'a new token for istiod, before the old one ends' \
        "$(printf 'OnActiveSec=300\nOnUnitInactiveSec=300\nRandomizedDelaySec=60')" >hybrid-mesh-token.timer
    farewell_unit >hybrid-mesh-farewell.service
}
