# The only build file. `make` builds ./fr-run and ./libfr-run.a; every object says its own -m flags, nothing else is
# compiled above baseline x86-64, and no flag lets the compiler change the order of arithmetic.
CC      ?= gcc
AR      ?= ar
B       ?= build
OPT     ?= -O2 -g
CFLAGS  ?=
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wno-missing-field-initializers
STD     := -std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -pthread -MMD -MP
LDLIBS  := -ljpeg -lwebp -lwebpdemux -lcjson -lmd -lm -ldl -pthread
SAN     ?=
CLANG   ?= 14
FUZZ_MAIN = $B/tests/fuzz/replay.o
PREFIX  ?= /usr/local
PYTHON  ?= python3
RUN     ?= tests/run.sh

# The CUDA backend is built where nvcc is: on the PATH or in /usr/local/cuda. NVCC=/path/nvcc names another, NVCC= none.
# Each kernels/cuda/*.cu becomes one fatbin (code for CUDA_ARCHS, PTX of CUDA_PTX for later cards) in build/cuda, which all
# build folders share, with what ptxas says of it beside it; fatbins.S puts them into the library. Nothing of CUDA is
# linked: the driver is loaded at run time.
ifeq ($(origin NVCC),undefined)
NVCC := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
endif
CUDA_ARCHS ?= 80 89 90
CUDA_PTX   ?= 90
K       := build/cuda
ifeq ($(NVCC),)
CUDA_NOT  := kernels/cuda/driver.c
CUDA_DEFS :=
else
CUDA_HOME := $(realpath $(shell $(NVCC) --dryrun -x cu -c /dev/null 2>&1 | sed -n 's/^\#\$$ TOP=//p'))
CUDA_INC  := $(firstword $(patsubst %/cuda.h,%,$(wildcard $(CUDA_HOME)/include/cuda.h \
	$(CUDA_HOME)/targets/*/include/cuda.h)))
ifeq ($(CUDA_INC),)
$(error $(NVCC) is there, but no include/cuda.h beside it; NVCC= builds the program without CUDA)
endif
NVCC_VERSION := $(shell $(NVCC) --version | sed -n 's/.* release \([0-9.]*\), .*/\1/p')
CUDA_CODE := $(CUDA_ARCHS:%=sm_%) $(CUDA_PTX:%=compute_%)
CUDA_DEFS := -DFR_HAVE_CUDA -DFR_CUDA_BUILT='"$(CUDA_CODE), nvcc $(NVCC_VERSION)"' -DFR_CUDA_HOME='"$(CUDA_HOME)"' \
	$(if $(wildcard $(CUDA_INC)/cublasLt.h),-DFR_HAVE_CUBLASLT) -isystem $(CUDA_INC)
CUDA_OBJ  := $B/kernels/cuda/fatbins.o
NVCCFLAGS := -std=c++17 -O3 -fmad=false -Werror all-warnings -Xptxas -v \
	$(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a,code=sm_$a) \
	$(foreach a,$(CUDA_PTX),-gencode arch=compute_$a,code=compute_$a)
endif
FATBINS := $(if $(NVCC),$(patsubst kernels/cuda/%.cu,$K/%.fatbin,$(wildcard kernels/cuda/*.cu)))

LIB_SRC := $(filter-out $(CUDA_NOT),$(wildcard engine/*.c kernels/*.c kernels/cpu/*.c kernels/cuda/*.c tokenizer/*.c \
	weights/*.c weights/demo/*.c bench/*.c))
CLI_SRC := $(wildcard cli/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$B/%.o) $(CUDA_OBJ) $(patsubst %.S,$B/%.o,$(wildcard weights/demo/*.S))
CLI_OBJ := $(CLI_SRC:%.c=$B/%.o)
TESTS   := $(patsubst tests/%.c,$B/tests/%,$(filter-out tests/example.c tests/cuda_%.c,$(wildcard tests/*.c)))
SCRIPTS := $(wildcard tests/*.test.sh)
FUZZ    := $(filter-out replay,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)))
READERS := $(filter $(addprefix $B/tests/,weights stores torch bind bind_parts config config_parts parts tokenizer tokenizer_bad image),$(TESTS))

# Debian packages: what the build needs, and what the sanitizers, fuzzers and valgrind need on top.
DEBS     := gcc make libc6-dev libjpeg-dev libwebp-dev libstb-dev libcjson-dev libmd-dev
DEBS_DEV := g++ clang-$(CLANG) libclang-rt-$(CLANG)-dev valgrind libc6-dbg
export B

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all test clean always demo install uninstall oracle deps deps-dev fuzz bench test-asan test-gpu bench-gpu bench-peers test-valgrind checks fuzzers check-cuda cuda-resources

all: fr-run libfr-run.a

# Levels: the source files of a level (ukr_LEVEL*.c) with their own flags.
$(patsubst %.c,$B/%.o,$(wildcard kernels/cpu/ukr_avx2*.c)): ARCH := -mavx2 -mfma -mf16c
$(patsubst %.c,$B/%.o,$(wildcard kernels/cpu/ukr_avx512*.c)): \
	ARCH := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c
$(patsubst %.c,$B/%.o,$(wildcard kernels/cpu/ukr_avx512bf16*.c)): ARCH += -mavx512bf16 -mavx512vnni
$(patsubst %.c,$B/%.o,$(wildcard kernels/cpu/ukr_amx*.c)): \
	ARCH := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8
# No fuzzer comes to the levels, and clang takes minutes for them with its sanitizers.
ifneq ($(findstring fuzzer,$(SAN)),)
$(patsubst %.c,$B/%.o,$(wildcard kernels/cpu/ukr_avx*.c kernels/cpu/ukr_amx*.c)): override SAN :=
endif

$B/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) $(OPT) $(ARCH) $(SAN) $(CFLAGS) -c $< -o $@

$B/weights/demo/bytes.o: $(wildcard weights/demo/model/*)

$B/%.o: %.S
	@mkdir -p $(@D)
	$(CC) -c $< -o $@

# CUDA: flags, rewritten only when they change, kernels, and their table.
$B/cuda.defs: always
	@mkdir -p $(@D)
	@echo "$(subst ",\",$(CUDA_DEFS))" | cmp -s - $@ || echo "$(subst ",\",$(CUDA_DEFS))" >$@
$K/nvcc.flags: always
	@mkdir -p $(@D)
	@echo "$(NVCC_VERSION)" >$K/nvcc.version
	@echo "$(NVCC_VERSION) $(NVCCFLAGS)" | cmp -s - $@ || echo "$(NVCC_VERSION) $(NVCCFLAGS)" >$@

CUDA_USERS := $(patsubst %,$B/kernels/cuda/%.o,driver device lt lt_probe) $B/tests/cuda_driver.o $B/tests/cuda_lt.o
$(CUDA_USERS): $B/cuda.defs
$(CUDA_USERS): ARCH := $(CUDA_DEFS)

$K/%.fatbin: kernels/cuda/%.cu $K/nvcc.flags
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) -MMD -MP -MT $@ -MF $K/$*.d -fatbin -o $@ $< >$K/$*.ptxas 2>&1 || \
		{ cat $K/$*.ptxas >&2; exit 1; }

# fr_cu_fatbins: name and bytes of each, ended by NULL.
$B/kernels/cuda/fatbins.S: $(FATBINS) Makefile
	@mkdir -p $(@D)
	@{ echo '.section .rodata'; \
	for n in $(basename $(notdir $(FATBINS))); do \
		printf '.balign 64\nfatbin_%s: .incbin "$K/%s.fatbin"\nname_%s: .asciz "%s"\n' $$n $$n $$n $$n; done; \
	echo '.section .data.rel.ro,"aw"'; echo '.balign 8'; echo '.globl fr_cu_fatbins'; echo 'fr_cu_fatbins:'; \
	for n in $(basename $(notdir $(FATBINS))); do echo ".quad name_$$n, fatbin_$$n"; done; \
	echo '.quad 0, 0'; echo '.section .note.GNU-stack,"",@progbits'; } >$@
$B/kernels/cuda/fatbins.o: $B/kernels/cuda/fatbins.S

# Registers, stack, spills and static shared memory of each kernel against kernels/cuda/resources.txt; part of `make test`.
export CUDA_PTXAS := $(FATBINS:.fatbin=.ptxas)
check-cuda: $(FATBINS)
	tests/cuda_resources.test.sh
cuda-resources: $(FATBINS)
	tests/cuda_resources.test.sh --write

# The commit that --version names; "unknown" outside of the project's own repository. Rewritten only when it changes.
COMMIT := $(shell [ "$$(git rev-parse --show-toplevel 2>/dev/null)" = "$(CURDIR)" ] && \
	git describe --always --abbrev=12 --exclude='*' --dirty 2>/dev/null || echo unknown)
$B/commit.h: always
	@mkdir -p $(@D)
	@echo '#define FR_COMMIT "$(COMMIT)"' | cmp -s - $@ || echo '#define FR_COMMIT "$(COMMIT)"' >$@
$B/cli/version.o: $B/commit.h
$B/cli/version.o: ARCH := -I$B

$B/libfr-run.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

libfr-run.a: $B/libfr-run.a
	cp $< $@

$B/fr-run: $(CLI_OBJ) $B/libfr-run.a
	$(CC) $(SAN) $(LDFLAGS) -o $@ $^ $(LDLIBS)

fr-run: $B/fr-run
	cp $< $@

# The example of the documentation, run by tests/cli.test.sh; it includes fr.h as an installed header.
$B/tests/example.o: ARCH := -Iengine

# Tests that run the level amx have the tile unit in software beside them (tests/tile_host/tile_host.h).
TILE_OBJ := $(patsubst %.c,$B/%.o,$(wildcard tests/tile_host/*.c))
$(addprefix $B/tests/,tiles bench tile_products selftest kernels kernels_nan e2e_bf16 repeat): $(TILE_OBJ)
$B/tests/tile_host/product.o: ARCH := -mavx512f -mfma
$B/tests/tiles.o: ARCH := -mamx-tile -mamx-bf16 -mamx-int8

$B/tests/%: $B/tests/%.o $B/libfr-run.a
	$(CC) $(SAN) $(LDFLAGS) -o $@ $(filter-out %.a,$^) $(filter %.a,$^) $(LDLIBS)

# ---- The CUDA backend on the CPU: kernels as host C++ under tests/cuda_host/ (docs/CUDA-HOST.md) ----
# -fsanitize=thread makes the compiler call a function at each load and store; those functions are the shim's own, so
# libtsan is not linked. What joins, splits or replaces accesses is turned off: the device makes them as they are written.
# A build's sanitizers (SAN) leave out the shim and the kernels, whose threads have stacks that they do not follow, and
# watch the rest of the backend. Without g++ the tests that need it are left out by one skip line.
CXX       ?= g++
SHIM_CXX  := -x c++ -std=c++17 -O2 -g -ffp-contract=off -fno-math-errno -fno-strict-aliasing -fno-exceptions -fno-rtti \
	-fno-tree-vectorize -fno-tree-slp-vectorize -fno-store-merging -fno-tree-loop-distribute-patterns \
	-fno-tree-sra -fno-ipa-sra \
	-fsanitize=thread --param tsan-instrument-func-entry-exit=0 -DFR_CUDA_HOST -Itests/cuda_host \
	-Wall -Wextra -Wno-unknown-pragmas -Wno-missing-field-initializers -MMD -MP
SHIM_OBJ  := $(patsubst %.cu,$B/shim/%.o,$(wildcard kernels/cuda/*.cu)) \
	$(patsubst %.c,$B/%.o,$(filter-out tests/cuda_host/attach.c,$(wildcard tests/cuda_host/*.c)))
SHIM_SELF := $(patsubst %.cu,$B/shim/%.o,$(wildcard tests/cuda_host/*.cu))
SHIM_TEST := $(patsubst tests/%.c,$B/tests/%,$(wildcard tests/cuda_*.c))
SHIM_LINK := $B/tests/cuda_host/attach.o $B/libcuda_host.a $B/libfr-run.a
ifeq ($(shell command -v $(CXX) 2>/dev/null),)
SHIM_RUN  := tests/cuda_host/without.sh
else
SHIM_RUN  := $(SHIM_TEST)
SHIM_PROGRAM := $B/fr-run-shim
endif

$B/shim/%.o: %.cu
	@mkdir -p $(@D)
	$(CXX) $(SHIM_CXX) -c $< -o $@

$(filter-out $B/shim/%,$(SHIM_OBJ)): override SAN :=
$B/libcuda_host.a: $(SHIM_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$B/fr-run-shim: $(CLI_OBJ) $(SHIM_LINK)
	$(CC) $(SAN) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$B/tests/cuda_shim $B/tests/cuda_shim_calls: $(SHIM_SELF)
# Wrapped and not defined anew: a sanitizer's own library asks dlsym too, before anything is set up.
$B/tests/cuda_driver: LDFLAGS += -Wl,--wrap=dlopen,--wrap=dlsym,--wrap=dlerror
$(SHIM_TEST): $B/tests/%: $B/tests/%.o $(SHIM_LINK)
	$(CC) $(SAN) $(LDFLAGS) -o $@ $(filter-out %.a,$^) $(filter %.a,$^) $(LDLIBS)

test: all $(TESTS) $(SHIM_RUN) $(SHIM_PROGRAM) $(FUZZ:%=$B/tests/fuzz/%) $B/tests/example
	$(RUN) $(TESTS) $(SHIM_RUN) $(SCRIPTS)

# What one build folder can check on its own: the test programs, the fuzz corpora and the command line.
checks: $(TESTS) $(SHIM_RUN) $(FUZZ:%=$B/tests/fuzz/%) $B/tests/example $B/fr-run
	PROGRAM=$B/fr-run tests/run.sh $(TESTS) $(SHIM_RUN) tests/fuzz.test.sh tests/cli.test.sh \
		tests/cli_reasoned.test.sh tests/cli_parts.test.sh tests/cli_prompts.test.sh

# On a machine with a GPU: tests/gpu.sh says what. PARTS="rows e2e sanitizer" takes some of it.
test-gpu: all $B/tests/cuda_kernels $B/tests/cuda_map $B/tests/cuda_lora $B/tests/cuda_e2e $B/tests/cuda_speculate
	tests/gpu.sh $(PARTS)

# What this machine can do, and what the kernels reach of it.
bench: all
	./fr-run bench

# Measures a GPU: bench/gpu.sh. PART=kernels, model or peers takes one part, each below nine minutes.
bench-gpu: all
	PYTHON=$(PYTHON) bench/gpu.sh $(PART)

# fr-run beside transformers and llama.cpp on this CPU, the same weights: bench/peers/cpu.py, with PEERS="its options".
# bench/peers/setup.sh DIR makes the environment, then PYTHON=DIR/venv/bin/python.
bench-peers: all
	$(PYTHON) bench/peers/cpu.py $(PEERS)

test-asan:
	+$(MAKE) B=build/asan OPT="-O1 -g -fno-omit-frame-pointer" checks \
		SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined"

# libjpeg-turbo's vector code computes on the unset padding of its rows, which valgrind reports wherever such a pixel
# goes; its plain code gives the same bytes.
test-valgrind: export JSIMD_FORCENONE = 1
test-valgrind: $(READERS)
	@for t in $(READERS); do echo "valgrind $$t" && valgrind -q --error-exitcode=9 --leak-check=full \
		--errors-for-leak-kinds=definite,indirect,possible $$t >$$t.valgrind 2>&1 || { cat $$t.valgrind; exit 1; }; done

# A fuzz target with the replaying main; `make fuzz` links the same objects' sources with libFuzzer's.
$B/tests/fuzz/%: $B/tests/fuzz/%.o $(FUZZ_MAIN) $B/libfr-run.a
	$(CC) $(SAN) $(FUZZ_LINK) $(LDFLAGS) -o $@ $^ $(LDLIBS)

fuzzers: $(FUZZ:%=$B/tests/fuzz/%)

fuzz:
	+$(MAKE) B=build/fuzz CC=clang-$(CLANG) FUZZ_MAIN= FUZZ_LINK=-fsanitize=fuzzer fuzzers \
		SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
	tests/fuzz/run.sh build/fuzz $(FUZZ)

# Prints the apt line, then runs it as root or through sudo; says nothing where all is there.
define install
	@missing=; \
	command -v dpkg-query >/dev/null || { echo "not a Debian system; needed are what Debian calls $(1)"; exit 0; }; \
	for p in $(1); do \
		dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	line="apt-get install -y --no-install-recommends$$missing"; echo "$$line"; \
	if [ "$$(id -u)" = 0 ]; then as=env; elif command -v sudo >/dev/null; then as="sudo env"; else \
		echo "packages are missing; run the line above as root" >&2; exit 2; fi; \
	$$as apt-get update -q && $$as DEBIAN_FRONTEND=noninteractive $$line || exit 2
endef

deps:
	$(call install,$(DEBS))

deps-dev: deps
	$(call install,$(DEBS_DEV))

# What is missing is installed, the program built, and the sample images judged by the model inside it.
demo: deps
	+$(MAKE) fr-run
	./fr-run -m demo samples

# The manual page and the completion come from the program's own tables.
$B/fr-run.1: fr-run
	./fr-run --man >$@
$B/fr-run.bash: fr-run
	./fr-run --completion bash >$@
$B/fr-run.pc: Makefile engine/fr.h
	@printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' 'Name: fr-run' \
		'Description: explainable detection of synthetic images' \
		"Version: $$(sed -n 's/^#define FR_VERSION "\(.*\)"/\1/p' engine/fr.h)" \
		'Libs: -L$${libdir} -lfr-run $(LDLIBS)' 'Cflags: -I$${includedir}' >$@

install: all $B/fr-run.1 $B/fr-run.bash $B/fr-run.pc
	install -D -m 755 fr-run $(DESTDIR)$(PREFIX)/bin/fr-run
	install -D -m 644 libfr-run.a $(DESTDIR)$(PREFIX)/lib/libfr-run.a
	install -D -m 644 engine/fr.h $(DESTDIR)$(PREFIX)/include/fr.h
	install -D -m 644 $B/fr-run.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig/fr-run.pc
	install -D -m 644 $B/fr-run.1 $(DESTDIR)$(PREFIX)/share/man/man1/fr-run.1
	install -D -m 644 $B/fr-run.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/fr-run

uninstall:
	cd $(DESTDIR)$(PREFIX) && rm -f bin/fr-run lib/libfr-run.a include/fr.h lib/pkgconfig/fr-run.pc \
		share/man/man1/fr-run.1 share/bash-completion/completions/fr-run

# All goldens anew, compared with the committed ones; needs a Python with tests/oracle/requirements.txt.
oracle:
	PYTHON=$(PYTHON) tests/oracle/all.sh

clean:
	rm -rf $B fr-run libfr-run.a

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TESTS:=.d) $(TILE_OBJ:.o=.d) $B/tests/example.d $(SHIM_TEST:=.d) $(SHIM_OBJ:.o=.d) $(SHIM_SELF:.o=.d) $(wildcard $B/tests/fuzz/*.d)
-include $(FATBINS:.fatbin=.d)
