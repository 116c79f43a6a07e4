# The only build file. `make` builds ./fr-run and ./libfr-run.a; every object says its own -m flags, nothing else is
# compiled above baseline x86-64, and no flag lets the compiler change the order of arithmetic.
CC      ?= gcc
AR      ?= ar
B       ?= build
OPT     ?= -O2 -g
CFLAGS  ?=
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wno-missing-field-initializers
STD     := -std=c11 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -pthread -MMD -MP
LDLIBS  := -ljpeg -lwebp -lwebpdemux -lcjson -lmd -lm -pthread
SAN     ?=
PREFIX  ?= /usr/local
PYTHON  ?= python3

LIB_SRC := $(wildcard engine/*.c kernels/*.c kernels/cpu/*.c tokenizer/*.c weights/*.c weights/demo/*.c bench/*.c)
CLI_SRC := $(wildcard cli/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$B/%.o) $(patsubst %.S,$B/%.o,$(wildcard weights/demo/*.S))
CLI_OBJ := $(CLI_SRC:%.c=$B/%.o)
TESTS   := $(patsubst tests/%.c,$B/tests/%,$(wildcard tests/*.c))
SCRIPTS := $(wildcard tests/*.test.sh)

.DELETE_ON_ERROR:
.PHONY: all test clean oracle

all: fr-run libfr-run.a

# Levels: one source file per level with its own flags.
$B/kernels/cpu/ukr_avx2.o: ARCH := -mavx2 -mfma -mf16c

$B/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) $(OPT) $(ARCH) $(SAN) $(CFLAGS) -c $< -o $@

$B/weights/demo/bytes.o: $(wildcard weights/demo/model/*)

$B/%.o: %.S
	@mkdir -p $(@D)
	$(CC) -c $< -o $@

$B/libfr-run.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

libfr-run.a: $B/libfr-run.a
	cp $< $@

fr-run: $(CLI_OBJ) $B/libfr-run.a
	$(CC) $(SAN) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$B/tests/%: $B/tests/%.o $B/libfr-run.a
	$(CC) $(SAN) $(LDFLAGS) -o $@ $^ $(LDLIBS)

test: all $(TESTS)
	tests/run.sh $(TESTS) $(SCRIPTS)

# All goldens anew, compared with the committed ones; needs a Python with tests/oracle/requirements.txt.
oracle:
	PYTHON=$(PYTHON) tests/oracle/all.sh

clean:
	rm -rf $B fr-run libfr-run.a

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TESTS:=.d)
