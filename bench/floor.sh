#!/bin/sh
# The bare floor: one VM joined with what cannot be left out, and nothing else: no check, no undo.
#   floor.sh SSH_CONFIG PACKAGE FILES VM     FILES: what `istioctl x workload entry configure` has made
set -eu
config=$1 package=$2 files=$3 vm=$4
scp -q -F "$config" "$package" "$files"/* "root@$vm:/tmp/"
ssh -F "$config" "root@$vm" "set -e
dpkg -i /tmp/istio-sidecar.deb >/dev/null
mkdir -p /etc/certs /var/run/secrets/tokens /etc/istio/config /etc/istio/proxy
cp /tmp/root-cert.pem /etc/certs/
cp /tmp/istio-token /var/run/secrets/tokens/
cp /tmp/cluster.env /var/lib/istio/envoy/
cp /tmp/mesh.yaml /etc/istio/config/mesh
cat /tmp/hosts >>/etc/hosts
echo CLOUD_PLATFORM=none >>/var/lib/istio/envoy/cluster.env
chown -R istio-proxy /etc/certs /var/run/secrets /etc/istio /var/lib/istio
systemd-run -q --on-active=0.5 --timer-property=AccuracySec=100ms systemctl start istio" 
# A session that is open when the redirection comes would hang for ever.
sleep 1.5
end=$(($(date +%s) + 300))
until timeout 30 ssh -F "$config" "root@$vm" "for i in \$(seq 50); do curl -sf -o /dev/null localhost:15021/healthz/ready && exit 0; sleep 0.2; done; exit 1"; do
    [ "$(date +%s)" -lt "$end" ]
done
