# shellcheck shell=sh
# Reads an image's files from inside its container, says when shares of their bytes had been read,
# and becomes the command of the study. The order is that of the files' names, so that all nodes
# read alike; a file with several names is read once. Files on other file systems (/proc, volumes)
# are not the image's. What cannot be read is passed over: there are fewer bytes then.
#
# Arguments: the shares in per cent, ascending, in one word; then the command.
#
# The answer is a JSON object: bytes of all files, seconds of listing them, and for each share its
# per cent, the bytes read by then, and the seconds since reading began.
shares=$1
shift
BLOCK=65536

# Hundredths of a second since the node booted: not every date knows fractions.
clock() {
    read -r up _ </proc/uptime
    echo "${up%.*}${up#*.}"
}

hundredths() { printf '%d.%02d' $(($1 / 100)) $(($1 % 100)); }

# Lines of device:inode, bytes and name.
files() {
    find / -xdev -type f -exec stat -c '%d:%i %s %n' {} + | LC_ALL=C sort -k 3 |
        awk '$1 ~ /^[0-9]+:[0-9]+$/ && !seen[$1]++'
}

read_shares() {
    begin=$(clock)
    blocks=0
    comma=
    for share in $shares; do
        want=$((($1 * share / 100 + BLOCK - 1) / BLOCK))
        [ $want -le $(($1 / BLOCK)) ] || want=$(($1 / BLOCK))
        said=$(dd of=/dev/null bs=$BLOCK count=$((want - blocks)) iflag=fullblock 2>&1)
        got=${said%%+*} # of "12+0 records in"
        case $got in '' | *[!0-9]*) got=0 ;; esac
        blocks=$((blocks + got))
        bytes=$((blocks * BLOCK))
        [ "$share" -lt 100 ] || bytes=$((bytes + $(wc -c)))
        printf '%s[%d,%d,%s]' "$comma" "$share" $bytes "$(hundredths $(($(clock) - begin)))"
        comma=,
    done
}

answer() {
    for tool in find stat sort awk cut tr xargs cat dd wc; do
        command -v $tool >/dev/null || { printf '{"note":"the image has no %s"}' $tool && return; }
    done
    begin=$(clock)
    list=$(files)
    total=$(printf '%s\n' "$list" | awk '{ sum += $2 } END { printf "%.0f", sum }')
    printf '{"bytes":%d,"list_s":%s,"reads":[' "$total" "$(hundredths $(($(clock) - begin)))"
    printf '%s\n' "$list" | cut -d ' ' -f 3- | tr '\n' '\0' | xargs -0 cat | read_shares "$total"
    printf ']}'
}

answer 2>/dev/null >/dev/termination-log
exec "$@"
