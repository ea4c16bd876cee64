# shellcheck shell=sh
# What must be so on this machine before anything of it is changed: each check adds its findings to the file
# `findings`, a line each: CHECK: VALUE; CONSEQUENCE -> REMEDY. None changes a thing. preflight.sh runs them all,
# join.sh those that need no network: what was good a minute ago is asked for once.
# shellcheck source=hybridmesh/remote/lib.sh
. ./lib.sh

# Ports that pilot-agent and Envoy bind on a VM.
PROXY_PORTS="15000 15001 15004 15006 15020 15021 15053 15090 $(setting proxy-ports)"
NEEDED_GLIBC=2.30 # Envoy 1.40 asks for symbols of it
NEEDED_KIB=512000 # free space for download and installation, each: Envoy and the agent take some 250 MB

KIND=$(package_kind)
URL=$(setting "package-url-$KIND" "$(setting package-url)")
SHA256=$(setting "package-sha256-$KIND" "$(setting package-sha256)")
VERSION=$(setting package-version)
SSH_PORT=$(setting ssh-port 22)
ACCEPT=$(setting accept)
: >findings

# finding CHECK VALUE CONSEQUENCE REMEDY
finding() {
    case " ${ACCEPT-} " in *" $1 "*)
        log "note: $1: $2; accepted"
        return 0
        ;;
    esac
    printf '%s: %s; %s -> %s\n' "$1" "$2" "$3" "$4" >>findings
}

# report: fails if there is a finding, and says them all
report() {
    [ -s findings ] || return 0
    sort -u findings | while IFS= read -r line; do log "finding: $line"; done
    fail "$(sort -u findings | wc -l) finding(s), nothing was changed" 'see the findings above, then run it again'
}

has_our_package() {
    [ -f "$STATE/package" ] && [ "$(cat "$STATE/package")" = "$SHA256 $(installed_version)" ] && is_package_whole
}

# Whether its programs are those that the last join left
is_package_whole() {
    [ ! -f "$STATE/manifest" ] || ! sh ./manifest.sh | grep '^package-file' | grep -qvxFf "$STATE/manifest"
}

check_package_settings() {
    [ -n "$URL" ] || finding settings "no package for $KIND, which this VM is" 'nothing could be installed' \
        "set hybrid-mesh:sidecar.package.files.$KIND, or package.url"
    [ -z "$URL" ] || printf '%s\n' "$SHA256" | grep -Eqx '[0-9a-f]{64}' ||
        finding settings "package-sha256 is '$SHA256'" 'anything could be installed' \
            'set hybrid-mesh:sidecar.package.sha256 to 64 hex digits'
    [ -n "$VERSION" ] || finding settings 'package-version is empty' 'it would be unclear what is installed' \
        'set hybrid-mesh:sidecar.package.version'
}

# ---------------------------------------------------------------- the system

check_system() {
    [ "$(id -u)" = 0 ] || finding root "$(id -un) is not root" 'nothing could be installed' 'log in as root or with NOPASSWD sudo'
    [ -d /run/systemd/system ] || finding systemd 'systemd is not running' 'nothing could start the proxy' \
        'use a machine that systemd booted'
    case $(uname -m) in
        x86_64 | aarch64) ;;
        *) finding architecture "$(uname -m)" 'the proxy would not run' 'use a machine with x86_64 or aarch64' ;;
    esac
    [ -n "$(package_family)" ] || finding system "$(os_release ID) is neither Debian-like nor RHEL-like" \
        'the package could not be installed' 'use a system for which Istio has a deb or an rpm'
    check_supported
    check_libc
    check_writable
    if ! command -v curl >/dev/null && ! command -v wget >/dev/null && ! command -v python3 >/dev/null; then
        finding tools 'no curl, wget or python3' 'the package could not be downloaded' 'install curl'
    fi
    if [ -n "$(missing_packages)" ] && [ -z "$(package_manager)" ]; then
        finding tools "not installed: $(missing_packages | paste -sd ' ' -)" 'the proxy could not be set up' \
            'install them; there is no apt-get, dnf or yum here'
    fi
    check_sudo
}

# Istio's unit starts the proxy by `sudo -E -u istio-proxy`, as root and without a terminal: by -E the proxy has its
# settings. sudo-rs, which Ubuntu has from 25.10 on, warns and ignores it (its src/cli/mod.rs).
check_sudo() {
    command -v sudo >/dev/null || return 0
    code=0
    # As in a unit, with nobody behind root: else Debian's sudo leaves a sign of that user's success in root's home.
    # shellcheck disable=SC2016 # the other user's
    (unset SUDO_USER && KEPT=yes timeout 20 sudo -n -E -u nobody /bin/sh -c '[ "${KEPT-}" ] || exit 9') >output 2>&1 </dev/null || code=$?
    case $code in
        0 | 124) return 0 ;; # slow is what a resolver makes it that does not answer
        9)
            finding tools 'sudo -E keeps no environment here' 'the proxy would start without its settings' \
                'if it is sudo-rs (sudo --version): apt-get install sudo; update-alternatives --set sudo /usr/bin/sudo.ws'
            return
            ;;
    esac
    finding tools "sudo lets root run nothing as another user ($(tail -n 1 output | tr ';' ','))" 'the proxy would not start' \
        'allow it in /etc/sudoers: root ALL=(ALL:ALL) ALL, and Defaults:root !requiretty; see that the account of root has not expired'
}

# VERSION_ID whole, or what stands before its first dot: 9 is for 9.4, and 24.04 for itself alone
check_supported() {
    supported=$(setting supported-systems)
    [ -n "$supported" ] || return 0
    id=$(os_release ID)
    version=$(os_release VERSION_ID)
    case " $supported " in
        *" $id:$version "* | *" $id:${version%%.*} "*) ;;
        *) finding system "$id ${version:-without a version} is not in the table of supported ones ($supported)" \
            'the package may not install or run' 'use one of these, or set hybrid-mesh:versions.accept to [system]' ;;
    esac
}

check_libc() {
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=
    case $libc in
        'glibc '*) ;;
        *)
            finding libc 'no GNU C library' 'Envoy would not start' 'use a system with glibc: Istio builds for no other'
            return
            ;;
    esac
    [ "$(printf '%s\n' "${libc#glibc }" "$NEEDED_GLIBC" | sort -V | head -n 1)" = "$NEEDED_GLIBC" ] ||
        finding libc "$libc" 'Envoy would not start' "use a system with glibc $NEEDED_GLIBC or newer"
}

check_writable() {
    for folder in /usr/local /lib/systemd/system /etc /var/lib /var/log; do
        [ -w "$folder" ] || finding disk "$folder is read-only" 'nothing could be installed' \
            'mount it read-write, or use a system that is not immutable'
    done
    check_hosts
}

# A block that is there may be right already.
check_hosts() {
    ! grep -qx '# BEGIN hybrid-mesh' "$HOSTS" 2>/dev/null || return 0
    if [ ! -w "$HOSTS" ]; then
        finding disk "$HOSTS cannot be written" 'the proxy would not find istiod' \
            "make it a file that root may replace: ls -l $HOSTS, lsattr $HOSTS (chattr -i $HOSTS)"
    elif awk -v file="$HOSTS" '$5 == file { found = 1 } END { exit !found }' /proc/self/mountinfo; then
        finding disk "$HOSTS is a mount of its own, which nothing can replace" 'the proxy would not find istiod' \
            "make it a file that root may replace: umount $HOSTS"
    fi
}

os_release() {
    sed -n "s/^$1=//p" /etc/os-release | tr -d "\"'"
}

missing_packages() {
    command -v iptables >/dev/null || echo iptables
    if gets_own_token; then command -v curl >/dev/null || echo curl; fi
    command -v sudo >/dev/null || echo sudo
    command -v hostname >/dev/null || echo hostname
    command -v cmp >/dev/null || echo diffutils # without it all would look changed, and each join restart the proxy
    command -v ip >/dev/null || case $(package_family) in rpm) echo iproute ;; *) echo iproute2 ;; esac
}

package_manager() {
    for name in apt-get dnf yum; do
        if command -v "$name" >/dev/null; then
            echo "$name"
            return
        fi
    done
}

check_disk() {
    has_our_package || for folder in /usr/local /var/lib; do
        free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
        [ "$free" -ge "$NEEDED_KIB" ] || finding disk "$((free / 1024)) MiB free at $folder" \
            'the package would not fit' "free $((NEEDED_KIB / 1024)) MiB there"
    done
}

# ---------------------------------------------------------------- what else is here

# Listening TCP ports, a line each: PORT HOLDER
listeners() {
    [ -e listening ] || ss -Hltnp 2>/dev/null | awk '{ sub(/.*:/, "", $4); print $4, $NF }' >listening
    cat listening
}

check_leftovers() {
    if [ ! -d "$STATE/before" ]; then
        if [ -n "$(installed_version)" ] || [ -e /usr/local/bin/pilot-agent ] || systemctl cat istio >/dev/null 2>&1; then
            finding leftovers 'an Istio that hybrid-mesh did not install is here' 'two proxies would fight for the machine' \
                "take it away first: systemctl disable --now istio, then remove package $PACKAGE"
        fi
    fi
    if ! getent passwd istio-proxy >/dev/null; then
        ! getent group istio-proxy >/dev/null ||
            finding leftovers 'group istio-proxy exists without its user' 'the package could not be installed' 'groupdel istio-proxy'
    elif ! getent group istio-proxy >/dev/null; then
        finding leftovers "user istio-proxy is here, of group $(id -gn istio-proxy), and no group istio-proxy" \
            'the package could not be installed' \
            'give it its own: groupadd --system istio-proxy; usermod -g istio-proxy istio-proxy'
    fi
}

check_ports() {
    ours=none
    [ ! -d "$STATE/before" ] || ours='"(envoy|pilot-agent)"'
    listeners | grep -Ev "$ours" | while read -r port holder; do
        case " $PROXY_PORTS " in
            *" $port "*) finding ports "port $port, which the proxy needs, is held by $holder" \
                'the proxy would not start' 'move that service to another port' ;;
        esac
    done
}

# ---------------------------------------------------------------- SSH stays

# One variable of cluster.env, its quotes taken off; the file is never sourced here
cluster_env() {
    sed -n "s/^$1=//p" files/cluster.env | tr -d "'"
}

sshd_ports() {
    listeners | sed -n '/"sshd"/s/ .*//p' | sort -u
}

list_has() {
    case ",$1," in
        *",$2,"*) return 0 ;;
        *) return 1 ;;
    esac
}

# is_redirected PORT: whether connections to it go to Envoy, by cluster.env or, in a preflight, by what it will say
is_redirected() {
    inbound=$(setting inbound-ports)
    excluded=$(setting inbound-ports-excluded)
    if [ -f files/cluster.env ]; then
        inbound=$(cluster_env ISTIO_INBOUND_PORTS)
        excluded=$(cluster_env ISTIO_LOCAL_EXCLUDE_PORTS)
    fi
    [ "$inbound" = '*' ] || {
        list_has "$inbound" "$1"
        return
    }
    if list_has "$excluded" "$1"; then return 1; fi
}

# Redirecting sshd's port to Envoy would lock everyone out.
check_ssh() {
    for port in "$SSH_PORT" $(sshd_ports); do
        is_redirected "$port" || continue
        finding ssh "cluster.env would redirect port $port, sshd's, to Envoy" 'nobody could log in any more' \
            "keep $port in ISTIO_LOCAL_EXCLUDE_PORTS and out of ISTIO_INBOUND_PORTS: hybrid-mesh:sidecar.capture.excludeInboundPorts"
    done
}

# ---------------------------------------------------------------- the gateway

# gateway_names FILE: host names that stand for an address in a hosts file
gateway_names() {
    while read -r address _; do
        is_address "$address" || echo "$address"
    done <"$1"
}

check_gateway_names() {
    [ ! -s "$1" ] || gateway_names "$1" | while read -r name; do
        [ -n "$(addresses_of "$name")" ] || finding resolver "the gateway's name $name has no address on this VM" \
            'the proxy would not find istiod' \
            "let this VM's resolver know it (getent ahosts $name), or set hybrid-mesh:gateway.address to an IP address"
    done
}

# Of a name's lines in the hosts file the first is asked first: one that somebody else wrote stays before ours.
check_other_lines() {
    [ -s "$1" ] && hosts_without_block | grep -q '[[:space:]]istiod' && hosts_lines "$1" >ours || return 0
    hosts_without_block | awk '
        FILENAME == "ours" { ours[$1] = 1; next }
        { sub(/#.*/, "") }
        $1 in ours { next }
        { for (i = 2; i <= NF; i++) if ($i ~ /^istiod(-[a-z0-9-]+)?\.[a-z0-9-]+\.svc$/) { print $1, $i; next } }' ours - |
        while read -r address name; do
            finding leftovers "$HOSTS leads $name to $address, by a line that is not of hybrid-mesh" \
                'the proxy would look for istiod there first' 'take that line away: hybrid-mesh writes its own'
        done
}
