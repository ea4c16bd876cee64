#!/bin/sh
# Restarts Istio with whatever configuration is here now, outside of any SSH session: see `start` in join.sh.
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh

step restart
quietly timeout 90 systemctl stop istio || fail 'Istio cannot be stopped' 'see: systemctl status istio'
clean_rules
quietly timeout 90 systemctl start istio || fail 'Istio cannot be started' 'see: systemctl status istio'
