#!/bin/sh
# Takes the Prometheus agent of agent.sh away; idempotent.
cd -- "$(dirname -- "$0")"
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh

only_one
remove_agent
step end
