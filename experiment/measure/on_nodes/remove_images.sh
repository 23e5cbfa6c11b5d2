# shellcheck shell=sh
# Removes images from a node's containerd and says what of them is left. Runs in a container that
# shares the node's process ids: ctr is the node's own, the text tools are the container's. Where a
# step fails there is no answer at all, since an empty list would pass for absence.
#
# Each argument is one image: its digest on the first line, then a line a layer, in the manifest's
# order: the layer's digest and its chain id, by which snapshots are named.
#
# The answer is a JSON list, one entry an argument: whether containerd still has the image, the
# indexes of its layers that are still on the node, and how many of them are partly fetched.
set -eu
cd /tmp

node_ctr() { nsenter -t 1 -m -- ctr --namespace k8s.io "$@"; }

digest_of() { printf '%s\n' "$1" | head -n 1; }

names_of() { awk -v digest="$1" '$3 == digest { print $1 }' images; }

# The kubelet removes ended containers too, and may be first.
is_gone() {
    node_ctr containers ls >left
    if awk -v id="$1" '$1 == id { found = 1 } END { exit !found }' left; then return 1; fi
}

# Ended containers hold their image's snapshots until the kubelet gets round to removing them.
remove() {
    names=$(names_of "$1")
    [ -n "$names" ] || return 0
    for container in $(awk -v names="$names" '
        BEGIN { count = split(names, list); for (i = 1; i <= count; i++) wanted[list[i]] }
        NR > 1 && $2 in wanted { print $1 }' containers)
    do
        node_ctr containers rm "$container" || is_gone "$container"
    done
    # names hold no blanks, and each is an argument
    # shellcheck disable=SC2086
    node_ctr images rm --sync $names >removed
}

report() {
    known=false
    [ -z "$(names_of "$(digest_of "$1")")" ] || known=true
    layers=$(printf '%s\n' "$1" | awk '
        FILENAME == "stored" { here[$1]; next }
        FNR > 1 && ($1 in here || $2 in here) { printf "%s%d", comma, FNR - 2; comma = "," }
        ' stored -)
    partial=$(printf '%s\n' "$1" | awk '
        FILENAME == "active" { active = active " " $1; next }
        FNR > 1 && index(active, $1) { count++ }
        END { print count + 0 }' active -)
    printf '{"image":%s,"layers":[%s],"partial":%d}' "$known" "$layers" "$partial"
}

node_ctr images ls >images
node_ctr containers ls >containers
for image in "$@"; do
    remove "$(digest_of "$image")"
done

node_ctr images ls >images
node_ctr content active >active
node_ctr content ls >stored
node_ctr plugins ls >plugins
for snapshotter in $(awk '$1 == "io.containerd.snapshotter.v1" && $NF == "ok" { print $2 }' plugins)
do
    node_ctr snapshots --snapshotter "$snapshotter" ls >>stored
done

answer='['
comma=
for image in "$@"; do
    answer="$answer$comma$(report "$image")"
    comma=,
done
printf '%s]' "$answer" >/dev/termination-log
