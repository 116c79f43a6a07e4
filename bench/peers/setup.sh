#!/bin/sh
# Makes what bench/peers/cpu.py runs fr-run's peers with: setup.sh DIR (7 GB; llama.cpp is compiled twice, 10 minutes each on
# two cores)
#   DIR/venv    the packages of requirements.txt, llama.cpp for this very CPU; then make bench-peers PYTHON=DIR/venv/bin/python
#   DIR/avx2    llama.cpp again, for AVX2: cpu.py --level avx2 --llama DIR/avx2
# PYTHON (python3) makes the environment; it needs venv, a C++ compiler and cmake's usual surroundings. CC and CXX are
# llama.cpp's compilers. On a CPU with AMX take gcc 13 or clang: gcc 12 believes that _tile_loadconfig reads 8 bytes and
# drops the stores to the other 56, so llama.cpp's tiles end in an illegal instruction or in wrong sums (cpu.py compares
# the results and says so).
[ $# -eq 1 ] || { sed -n 2,3p "$0"; exit 2; }
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
llama=$(grep '^llama-cpp-python==' "$here/requirements.txt")
cache=$(command -v ccache >/dev/null && echo "-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache" || true)
[ -x "$dir/venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir/venv"
CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-$(nproc)}
export CMAKE_BUILD_PARALLEL_LEVEL
CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON $cache" \
	"$dir/venv/bin/pip" install --no-binary llama-cpp-python -r "$here/requirements.txt"
CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON
	-DGGML_LLAMAFILE=ON $cache" \
	"$dir/venv/bin/pip" install --no-cache-dir --no-deps --no-binary llama-cpp-python --target "$dir/avx2" --upgrade "$llama"
echo "make bench-peers PYTHON=$dir/venv/bin/python"
