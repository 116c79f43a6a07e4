#!/bin/sh
# What ptxas says of each kernel (build/cuda/*.ptxas, kept by the build) against kernels/cuda/resources.txt: no spills, no
# more registers, stack or static shared memory than the table says, every kernel of kernels.def for every architecture,
# and nothing else. All cases are exact/. usage: tests/cuda_resources.test.sh [--write]   (`make check-cuda`,
# `make cuda-resources`); CUDA_PTXAS: the files, empty where the build has no nvcc.
LC_ALL=C
export LC_ALL
table=kernels/cuda/resources.txt
files=${CUDA_PTXAS-$(ls build/cuda/*.ptxas 2>/dev/null)}
if [ -z "$files" ]; then
	echo "skip exact/cuda-resources: no nvcc, so no kernels were compiled"
	exit 0
fi
# shellcheck disable=SC2086 # the names have no spaces
found=$(awk '
	/Compiling entry function/ { split($0, q, "\047"); kernel = q[2]; arch = q[4]; stack = smem = 0; spill = "" }
	/bytes stack frame/ { stack = $1; spill = $5 + $9 }
	/Used [0-9]+ registers/ {
		for (i = 1; i < NF; i++) {
			if ($i == "Used") registers = $(i + 1)
			if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) smem = $i
		}
		print kernel, arch, registers, stack, spill, smem
	}' $files | sort)
nvcc=$(cat build/cuda/nvcc.version)

if [ "$1" = --write ]; then
	{
		echo "# What each kernel takes, as ptxas of nvcc $nvcc says; written by \`make cuda-resources\`, checked by"
		echo "# \`make check-cuda\`. With another nvcc only spills are."
		printf '%-36s %-6s %9s %6s %6s %6s\n' "# kernel" arch registers stack spills smem
		echo "$found" | while read -r kernel arch registers stack spill smem; do
			printf '%-36s %-6s %9d %6d %6d %6d\n' "$kernel" "$arch" "$registers" "$stack" "$spill" "$smem"
		done
	} >$table
	echo "$table: $(echo "$found" | wc -l) rows"
	exit 0
fi

same=0
grep -q "nvcc $nvcc says" $table 2>/dev/null && same=1
[ $same = 1 ] || echo "skip exact/cuda-resources/registers: the table was made with another nvcc than $nvcc"
out=$({
	sed -n 's/^FR_CU(\([a-z0-9_]*\),.*/def \1/p' kernels/cuda/kernels.def
	sed -n '/^[^#]/s/^/row /p' $table 2>/dev/null
	echo "$found" | sed 's/^/has /'
} | awk -v same=$same '
	function bad(kernel, why) { if (!(kernel in wrong)) wrong[kernel] = why; else wrong[kernel] = wrong[kernel] "; " why }
	function over(what, has, may) {
		if (same && has + 0 > may + 0)
			bad($2, what " on " $3 ": " has ", the table has " may)
	}
	$1 == "def" { def[$2] = 1; names[$2] = 1 }
	$1 == "row" { row[$2, $3] = 1; r[$2, $3] = $4; st[$2, $3] = $5; sm[$2, $3] = $7; names[$2] = 1; rows[$2] = 1 }
	$1 == "has" {
		names[$2] = 1; compiled[$2] = 1; archs[$3] = 1; there[$2, $3] = 1
		if ($6 + 0 > 0)
			bad($2, $6 " bytes of spills on " $3)
		if (!(($2, $3) in row)) {
			if (same)
				bad($2, "no row for " $3 " in the table (make cuda-resources)")
			next
		}
		over("registers", $4, r[$2, $3])
		over("bytes of stack", $5, st[$2, $3])
		over("bytes of static shared memory", $7, sm[$2, $3])
	}
	END {
		for (k in names) {
			if (!(k in def))
				bad(k, (k in compiled) ? "not in kernels.def" : "in the table, but neither compiled nor in kernels.def")
			for (a in archs)
				if ((k in def) && !((k, a) in there))
					bad(k, "not compiled for " a)
			if (k in wrong)
				print "FAIL exact/cuda-resources/" k ": " wrong[k]
			else
				print "ok exact/cuda-resources/" k
		}
	}' | sort -k 2)
echo "$out"
case $out in *FAIL*) exit 1 ;; esac
