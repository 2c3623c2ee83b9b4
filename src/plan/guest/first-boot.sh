#!/bin/sh
# imgbake's first boot: makes this machine a member of its Kubernetes cluster, then destroys the secrets it used.
#
# Every step looks at what is already there, so power may fail anywhere: the next run goes on. It tries for as
# long as it takes, and it never resets a node that is a member. What it is doing stands in /run/imgbake/status,
# in the journal and above the login prompt. IMGBAKE_ROOT is the root directory's path in tests.
set -u

ROOT=${IMGBAKE_ROOT:-}
ETC=$ROOT/etc/imgbake
STATE=$ROOT/var/lib/imgbake
RUN=$ROOT/run/imgbake
KUBERNETES=$ROOT/etc/kubernetes
KUBELET=$ROOT/var/lib/kubelet

last=
pause=5

# Says what is being done, once per change.
status() {
    [ "$*" != "$last" ] || return 0
    last=$*
    echo "$*"
    mkdir -p "$RUN"
    printf 'imgbake: %s\n' "$*" >"$RUN/status.new" && mv "$RUN/status.new" "$RUN/status"
    agetty --reload 2>/dev/null || :
}

# Leaves a mark that a power cut cannot tear from what it stands for: the work reaches the disk first.
mark() {
    sync
    : >"$STATE/$1"
    sync
}

back_off() {
    sleep "$pause"
    pause=$((pause * 2))
    [ "$pause" -le 300 ] || pause=300
}

# --- what kubeadm needs -------------------------------------------------------------------------------------

synchronised() {
    [ -e "$ROOT/run/systemd/timesync/synchronized" ] ||
        [ "$(timedatectl show --property=NTPSynchronized --value 2>/dev/null)" = yes ]
}

# A board without a clock of its own wakes up in the past, where no certificate is valid yet. Networks without
# a time server exist: after two minutes any time not before the image's own is good enough.
wait_for_clock() {
    if [ "$(date +%s)" -lt "$CLOCK_FLOOR" ]; then
        date -s "@$CLOCK_FLOOR" >/dev/null
    fi
    polls=0
    until synchronised; do
        if [ "$polls" -ge 24 ]; then
            status "no time server answers; going on at $(date -u +%Y-%m-%dT%H:%M:%SZ)"
            return 0
        fi
        status "waiting for a time server"
        polls=$((polls + 1))
        sleep 5
    done
}

# download URL FILE: what a broken transfer leaves is continued by the next one.
download() {
    if command -v curl >/dev/null; then
        curl -fsSL --connect-timeout 30 --speed-limit 1 --speed-time 60 -C - -o "$2" "$1" && return 0
        case $? in
        22 | 33 | 36) rm -f "$2" ;; # refused, or nothing to continue from: from the start next time
        esac
        return 1
    elif command -v wget >/dev/null; then
        wget -q -T 60 -O "$2" "$1"
    else
        python3 -c 'import shutil, sys, urllib.request as u
with u.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target)' "$1" "$2"
    fi
}

# digest_of DIGEST-OR-URL NAME: a digest, or the one that a publisher's checksum file holds for NAME.
digest_of() {
    case $1 in
    https:* | http:*)
        rm -f "$STATE/checksums"
        download "$1" "$STATE/checksums" || return 1
        awk -v name="$2" 'NF == 1 || $2 == name || $2 == "*" name { print $1; exit }' "$STATE/checksums"
        ;;
    *) printf '%s\n' "$1" ;;
    esac
}

# verified FILE DIGEST
verified() {
    [ -f "$1" ] || return 1
    case $2 in *[!0-9a-fA-F]*) return 1 ;; esac
    case ${#2} in
    64) printf '%s  %s\n' "$2" "$1" | sha256sum --check --status - ;;
    128) printf '%s  %s\n' "$2" "$1" | sha512sum --check --status - ;;
    *) return 1 ;;
    esac
}

# fetch TARGET DIGEST URL [MEMBER]: a program gets its name only when its digest is right.
fetch() {
    target=$ROOT$1
    [ ! -x "$target" ] || return 0
    status "fetching $3"
    digest=$(digest_of "$2" "${3##*/}") || return 1
    if ! verified "$target.part" "$digest"; then
        mkdir -p "${target%/*}"
        download "$3" "$target.part" || return 1
        verified "$target.part" "$digest" || {
            echo "$3 is not what its checksum $digest promises"
            rm -f "$target.part"
            return 1
        }
    fi
    if [ -n "${4-}" ]; then
        tar -xzOf "$target.part" "$4" >"$target.new" || return 1
    else
        cp "$target.part" "$target.new" || return 1
    fi
    chmod 0755 "$target.new" && sync "$target.new" && mv "$target.new" "$target" && rm -f "$target.part"
}

fetch_programs() {
    [ -f "$ETC/fetch" ] || return 0
    while read -r path sum url member <&3; do
        pause=5
        until fetch "$path" "$sum" "$url" "$member"; do
            status "fetching $url failed; again in $pause s"
            back_off
        done
    done 3<"$ETC/fetch"
}

wait_for_containerd() {
    until systemctl is-active --quiet containerd.service; do
        status "waiting for containerd"
        systemctl start --no-block containerd.service
        sleep 5
    done
}

wait_for_address() {
    until ip -o address show | grep -qF " $ADDRESS/"; do
        status "waiting for the address $ADDRESS"
        sleep 5
    done
}

# With what the image has; with nothing, kubeadm itself finds out.
reachable() {
    if command -v bash >/dev/null; then
        # shellcheck disable=SC2016 # for bash to expand
        timeout 5 bash -c ': <"/dev/tcp/$0/$1"' "$ENDPOINT_HOST" "$ENDPOINT_PORT" 2>/dev/null
    elif command -v curl >/dev/null; then
        curl -ks -o /dev/null --max-time 5 "https://$ENDPOINT/healthz"
    fi
}

wait_for_endpoint() {
    until reachable; do
        status "waiting for endpoint $ENDPOINT"
        sleep 5
    done
}

# --- becoming a member --------------------------------------------------------------------------------------

# A worker is a member as soon as its kubelet has a certificate, whatever became of kubeadm afterwards. A control
# plane is one when `kubeadm init` has ended well; before that it has no token, so no other node depends on it.
member() {
    [ ! -e "$STATE/member" ] || return 0
    [ "$ROLE" = worker ] && [ -s "$KUBERNETES/kubelet.conf" ] && [ -s "$KUBELET/pki/kubelet-client-current.pem" ] &&
        mark member
}

# Takes back what a broken attempt left; kubeadm would stumble over it. Never called for a member.
clean_up() {
    for trace in "$KUBERNETES"/*.conf "$KUBERNETES/pki" "$KUBELET/config.yaml" "$ROOT/var/lib/etcd/member"; do
        [ -e "$trace" ] || continue
        status "cleaning up after a broken attempt"
        timeout 600 kubeadm reset --force
        systemctl stop kubelet.service
        # What reset leaves where it fails itself. The authority's own copy in /etc/imgbake stays.
        rm -rf "$KUBERNETES"/*.conf "$KUBERNETES/pki" "$KUBERNETES"/manifests/*.yaml "$ROOT/var/lib/etcd/member" \
            "$KUBELET/config.yaml" "$KUBELET/kubeadm-flags.env" "$KUBELET/pki"
        return 0
    done
}

# The cluster is opened (token, cluster-info) only once this much has succeeded: see open_cluster.
attempt() {
    if [ "$ROLE" = control-plane ]; then
        status "starting the control plane"
        install -D -m 0644 "$ETC/pki/ca.crt" "$KUBERNETES/pki/ca.crt" &&
            install -m 0600 "$ETC/pki/ca.key" "$KUBERNETES/pki/ca.key" &&
            kubeadm init --config "$ETC/kubeadm.yaml" --skip-phases=bootstrap-token,addon --skip-token-print
    else
        wait_for_endpoint
        status "joining $ENDPOINT"
        kubeadm join --config "$ETC/kubeadm.yaml"
    fi
}

# Says so when the failures may come from a token that has ended.
token_warning() {
    if [ -n "$TOKEN_END" ] && [ "$(date +%s)" -gt "$TOKEN_END" ]; then
        echo "; the join token has ended: put a new one into /etc/imgbake/kubeadm.yaml or bake again"
    fi
}

become_member() {
    pause=10
    tries=0
    until member; do
        clean_up
        if attempt; then
            mark member
        else
            tries=$((tries + 1))
            status "attempt $tries failed, again in $pause s (journalctl -u imgbake-first-boot)$(token_warning)"
            back_off
        fi
    done
}

# The rest of `kubeadm init`, which lets other nodes in. Each phase may be repeated, so it is retried, not reset.
open_cluster() {
    pause=10
    while [ ! -e "$STATE/opened" ]; do
        status "opening the cluster for other nodes"
        if kubeadm init phase bootstrap-token --config "$ETC/kubeadm.yaml" --skip-token-print &&
            kubeadm init phase addon all --config "$ETC/kubeadm.yaml"; then
            mark opened
        else
            status "opening the cluster failed, again in $pause s (journalctl -u imgbake-first-boot)"
            back_off
        fi
    done
}

give_admin_access() {
    entry=$(getent passwd "$ADMIN") || return 0
    home=$ROOT$(echo "$entry" | cut -d: -f6)
    group=$(echo "$entry" | cut -d: -f4)
    install -d -m 0750 -o "$ADMIN" -g "$group" "$home/.kube" &&
        install -m 0600 -o "$ADMIN" -g "$group" "$KUBERNETES/admin.conf" "$home/.kube/config"
}

# Overwrites, then unlinks. Flash keeps old blocks all the same: what ends a token is its time, not this.
destroy() {
    for secret; do
        [ -f "$secret" ] || continue
        head -c "$(wc -c <"$secret")" /dev/zero | dd of="$secret" conv=notrunc,fsync status=none
        rm -f "$secret"
    done
}

# shellcheck source=/dev/null
. "$ETC/node.conf"
mkdir -p "$STATE"
[ ! -e "$STATE/joined" ] || exit 0

if ! member; then
    wait_for_clock
    fetch_programs
    wait_for_containerd
    [ "$ROLE" != control-plane ] || [ -z "$ADDRESS" ] || wait_for_address
    become_member
fi
if [ "$ROLE" = control-plane ]; then
    open_cluster
    give_admin_access
    end="control plane of $ENDPOINT"
else
    end="joined $ENDPOINT"
fi
destroy "$ETC/kubeadm.yaml" "$ETC"/pki/*.key "$KUBERNETES/bootstrap-kubelet.conf"
status "$end"
cp "$RUN/status" "$STATE/status"
mark joined
systemctl start --no-block apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service 2>/dev/null || :
