# watch COMMAND...: runs it and leaves in $dir/memory its largest resident and anonymous memory (kB), its milliseconds and
# the bytes it has read from disk. Anonymous is the part that is its own: mapped weights are the page cache's and count as
# resident only. Sourced by full7b.sh and full13b.sh.
watch() {
	start=$(date +%s%3N)
	"$@" &
	pid=$!
	rss=0 anon=0 disk=0
	while kill -0 $pid 2>/dev/null; do
		set -- $(awk '/^Rss:/ {r = $2} /^Anonymous:/ {a = $2} END {print r + 0, a + 0}' /proc/$pid/smaps_rollup 2>/dev/null)
		[ "${1:-0}" -gt $rss ] && rss=$1
		[ "${2:-0}" -gt $anon ] && anon=$2
		set -- $(sed -n 's/^read_bytes: //p' /proc/$pid/io 2>/dev/null) # nothing once it has ended
		disk=${1:-$disk}
		sleep 0.2
	done
	wait $pid
	echo "$rss $anon $(($(date +%s%3N) - start)) $disk" >"$dir/memory"
}
