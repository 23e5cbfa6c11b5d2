# shellcheck shell=sh
# Measures how fast a node does each part of a pull alone. Runs in a container that shares the
# node's process ids: containerd and ctr are the node's own, the other tools are the container's.
# Writing is to the container's own files, which are on the disk that holds images. What is unpacked
# is a layer made here, under a namespace of its own, and removed afterwards: nothing of a study's
# image stays on the node. What is received goes nowhere.
#
# Arguments: reference (REPOSITORY@DIGEST) and bytes of a blob to receive.
#
# The answer is a JSON object of bytes per second; null for what could not be measured, and why.
set -u
cd /tmp || exit

MB=1048576
LONGEST_S=8
NAMESPACE=pull-study-roofs

node() { nsenter -t 1 -m -n -- "$@"; }

clock() {
    read -r up _ </proc/uptime # 10 ms, where the shell has no finer clock
    # shellcheck disable=SC3028 # busybox has it
    echo "${EPOCHREALTIME:-$up}"
}

# Bytes, begin, end, and seconds of them that are not counted.
rate() {
    awk -v bytes="$1" -v seconds="$(difference "$2" "$3")" -v other="${4:-0}" '
        BEGIN { if (seconds - other > 0.02) printf "%.0f", bytes / (seconds - other) }'
}

difference() { awk -v begin="$1" -v end="$2" 'BEGIN { printf "%f", end - begin }'; }

# Bytes that cannot be compressed, until they are on the disk: at least 64 MiB, at most 1 GiB.
write() {
    dd if=/dev/urandom of=random bs=$MB count=16 || return
    rounds=0
    begin=$(clock)
    while [ $rounds -lt 16 ]; do
        cat random random random random | dd of=written bs=$MB iflag=fullblock conv=fsync || return
        rounds=$((rounds + 1))
        end=$(clock)
        awk -v s="$(difference "$begin" "$end")" -v most=$LONGEST_S 'BEGIN { exit s > most }' || break
    done
    rm written
    rate $((rounds * 64 * MB)) "$begin" "$end"
}

# A file of 128 MiB in a layer: eight times 8 MiB of random bytes and 8 MiB of zeros.
layer() {
    truncate -s $((128 * MB)) file
    tar -c file | dd bs=512 count=1 of=head
    dd if=/dev/urandom of=unit bs=$MB count=8
    dd if=/dev/zero bs=$MB count=8 >>unit
    dd if=/dev/zero of=tail bs=512 count=2
    set -- unit unit unit unit unit unit unit unit
    id=$(cat head "$@" tail | sha256sum | cut -d ' ' -f 1)
    for part in head unit tail; do gzip -1 $part; done # gzip allows parts that follow each other
    set -- unit.gz unit.gz unit.gz unit.gz unit.gz unit.gz unit.gz unit.gz
    cat head.gz "$@" tail.gz >layer.tar.gz
    case $(uname -m) in aarch64) kind=arm64 ;; *) kind=amd64 ;; esac
    printf '{"architecture":"%s","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        $kind "$id" >config.json
    printf '[{"Config":"config.json","RepoTags":["%s:1"],"Layers":["layer.tar.gz"]}]' \
        "$NAMESPACE.invalid/layer" >manifest.json
}

unpack() {
    layer || return
    own() { node ctr --namespace $NAMESPACE "$@"; }
    # containerd 2 imports by its transfer service, which knows no --no-unpack; 1.6 knows no --local
    set -- manifest.json config.json layer.tar.gz
    tar -c "$@" | own images import --local --no-unpack - >&2 ||
        tar -c "$@" | own images import --no-unpack - >&2 || return
    digest=$(own images ls | awk 'NR > 1 { print $3; exit }')
    begin=$(clock)
    own snapshots ls >&2 # what it takes to ask containerd
    begun=$(clock)
    own snapshots unpack "$digest" >&2
    failed=$?
    end=$(clock)
    own images rm --sync "$(own images ls --quiet | head -n 1)" >&2
    node ctr namespaces rm $NAMESPACE >&2
    [ $failed -eq 0 ] && rate $((128 * MB)) "$begun" "$end" "$(difference "$begin" "$begun")"
}

# Where containerd looks for the hosts and mirrors of registries.
hosts() {
    for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm")" = containerd ] || continue
        config=$(tr '\0' '\n' <"$process/cmdline" | awk '
            sub(/^--config=/, "") || last ~ /^(-c|--config)$/ { print; exit } { last = $0 }')
        node cat "${config:-/etc/containerd/config.toml}" | tr "'" '"' |
            awk -F '"' '/^ *config_path *=/ && $2 != "" { print $2; exit }'
        return
    done
}

# The blob again and again, up to 256 MiB. The time until its first bytes, with the requests before
# them, is not counted. By digest (ctr 1.7 or later): a registry that is asked for a manifest of a
# layer's digest may answer with an error, after which containerd 2 does not ask for the blob.
receive() {
    blob=$1 blocks=$(($2 / 16384 - 1)) folder=$(hosts)
    [ $blocks -le 16384 ] || blocks=16384
    set -- ${folder:+--hosts-dir "$folder"}
    since=$(clock) all=0
    : >spent
    while [ $blocks -gt 0 ] && [ $((all + blocks)) -le 16384 ]; do
        timeout $((2 * LONGEST_S)) nsenter -t 1 -m -n -- ctr content fetch-blob "$@" "$blob" "${blob#*@}" | {
            dd of=/dev/null bs=16384 count=1 iflag=fullblock
            begin=$(clock)
            dd of=/dev/null bs=16384 count=$blocks iflag=fullblock 2>counted
            difference "$begin" "$(clock)" >>spent
            echo >>spent
        }
        count=$(awk -F + '/records in/ { print $1 }' counted)
        [ "${count:-0}" -eq $blocks ] || [ "${count:-0}" -gt 640 ] || return
        all=$((all + count))
        awk -v s="$(difference "$since" "$(clock)")" -v most=$LONGEST_S 'BEGIN { exit s > most }' || break
    done
    rate $((all * 16384)) 0 "$(awk '{ sum += $1 } END { print sum + 0 }' spent)"
}

notes=
answer=
for part in write unpack receive; do
    found=$($part "$@" 2>log)
    if [ -z "$found" ]; then
        found=null
        why=$(grep -v -e ' records ' -e ' copied' log | tail -n 1 | tr -d '"\\\t\r' | cut -c 1-200)
        notes="$notes$part: ${why:-ended early, or too quick to be timed}. "
    fi
    answer="$answer\"$part\":$found,"
done
printf '{%s"note":"%s"}' "$answer" "${notes% }" >/dev/termination-log
