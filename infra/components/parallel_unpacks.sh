# shellcheck shell=sh
# Makes containerd 2.2 or later unpack $unpacks layers of an image at once. infra.components.node_init
# puts a line that sets $unpacks before it; the node runs it when it starts.
#
# containerd has this setting in its transfer service, which alone unpacks in parallel
# (max_concurrent_unpacks, containerd pull 12332). Its CRI plugin leaves pulls to that service unless
# its configuration has one of the settings in $not_transferred, or mirrors of registries in the old
# form (CheckLocalImagePullConfigs in internal/cri/config/config.go of 2.4.2): those go. So images of
# docker.io are no longer pulled through a mirror that is configured in the old form.
set -eu

config=${CONTAINERD_CONFIG:-/etc/containerd/config.toml}
marker=/var/log/pull-study/parallel-unpacks # served by the kubelet, and read by the runner
not_transferred='use_local_image_pull|disable_snapshot_annotations|discard_unpacked_layers|image_pull_with_sync_fs|max_concurrent_downloads'

awk -v unpacks="${unpacks:?}" -v settings="^[ \t]*($not_transferred|max_concurrent_unpacks)[ \t]*=" '
    function transfer() { print "[plugins.\047io.containerd.transfer.v1.local\047]" }
    function limit() { print "  max_concurrent_unpacks = " unpacks; limited = 1 }
    /^[ \t]*\[/ { dropped = /registry\.(mirrors|configs|auths)[].]/ }
    dropped || $0 ~ settings { next }
    /^[ \t]*\[plugins\.["\047]io\.containerd\.transfer\.v1\.local["\047]\]/ { print; limit(); next }
    { print }
    END { if (!limited) { transfer(); limit() } }
' "$config" >"$config.new"
cat "$config.new" >"$config" # keeps owner and mode
rm "$config.new"

# Where containerd runs already, it reads its configuration again.
if systemctl is-active --quiet containerd 2>/dev/null; then
    systemctl restart containerd
fi
mkdir -p "${marker%/*}"
echo "$unpacks" >"$marker"
