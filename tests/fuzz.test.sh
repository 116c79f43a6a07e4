#!/bin/sh
# The corpora of the fuzz targets, replayed by the programs that make builds with the ordinary compiler.
B=${B:-build}
for src in tests/fuzz/*.c; do
	name=$(basename "$src" .c)
	[ "$name" = replay ] && continue
	case="exact/fuzz/$name: its corpus is refused or accepted without a fault"
	log=$B/tests/fuzz-$name.log
	if n=$("$B/tests/fuzz/$name" "tests/fuzz/corpus/$name" 2>"$log") && [ "$n" -gt 0 ]; then
		echo "ok $case ($n inputs)"
	else
		echo "FAIL $case: after $(grep '^tests/fuzz/corpus/' "$log" | tail -n 1)"
		tail -n 20 "$log" >&2
	fi
done
