/* The host shim itself: each word of ptx.h against plain loops, each checker against a planted fault, and the simulated
 * driver. The kernels are tests/cuda_host/selftest.cu. */
#include <time.h>

#include "cuda_host/selftest.h"
#include "test.h"

static const struct fr_cu *cu = &fr_cu_shim;
static struct fr_cu_device *at;
static uint64_t seed = 1;

static uint32_t random_word(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 32);
}

static void *device(size_t bytes, const void *from)
{
	void *p;
	if (cu->alloc(at, bytes, &p))
		abort();
	if (from)
		cu->copy(at, FR_CU_COMPUTE, p, from, bytes);
	return p;
}

static int launch(const struct fr_shim_kernel *k, unsigned grid, unsigned threads, unsigned smem, struct self_args a)
{
	return fr_shim_launch(at, FR_CU_COMPUTE, k, (unsigned[3]){grid, 1, 1}, threads, smem, &a, sizeof a);
}

/* Launches, brings out back, releases. 0 or the error. */
static int try(const struct fr_shim_kernel *k, unsigned threads, unsigned smem, struct self_args a, void *out,
	       size_t bytes)
{
	int rc = launch(k, 1, threads, smem, a);
	cu->copy(at, FR_CU_COMPUTE, out, a.out, bytes);
	cu->release(at, a.out);
	cu->release(at, (void *)a.in);
	cu->release(at, (void *)a.in2);
	return rc;
}

static float widen(uint16_t h, int half)
{
	if (!half)
		return fr_bits_f32((uint32_t)h << 16);
	return fr_f16_f32(h);
}

/* Random finite items; for f16 subnormals and large ones among them. */
static uint16_t item(int half)
{
	for (;;) {
		uint16_t h = (uint16_t)random_word();
		if (half ? (h & 0x7c00) != 0x7c00 : (h & 0x7fff) < 0x5f80 && (h & 0x7fff) > 0x2080)
			return h;
	}
}

static void test_mma(int half)
{
	enum { WARPS = 4 };
	static uint16_t a[WARPS][16][16], b[WARPS][8][16];
	static float c[WARPS][16][8], want[WARPS][16][8];
	int bad = 0, rc = 0;
	for (int round = 0; round < 50; round++) {
		for (int w = 0; w < WARPS; w++) {
			for (int i = 0; i < 256; i++)
				a[w][i / 16][i % 16] = item(half);
			for (int i = 0; i < 128; i++)
				b[w][i / 16][i % 16] = item(half), c[w][i / 8][i % 8] = (float)(int32_t)random_word();
			for (int i = 0; i < 128; i++) {
				float s = c[w][i / 8][i % 8];
				for (int k = 0; k < 16; k++)
					s += widen(a[w][i / 8][k], half) * widen(b[w][i % 8][k], half);
				want[w][i / 8][i % 8] = s;
			}
		}
		rc |= try(&fr_shim_self_mma, WARPS * 32, 0,
			  (struct self_args){device(sizeof a, a), device(sizeof b, b), device(sizeof c, c), 0, half}, c,
			  sizeof c);
		bad += memcmp(c, want, sizeof c) != 0;
	}
	CHECK(half ? "exact/shim/mma_f16" : "exact/shim/mma_bf16", !rc && !bad, "%d of 50 products differ, error %d %s",
	      bad, rc, cu->text(rc));
}

static void test_ldmatrix(int transposed)
{
	uint16_t m[4][8][8];
	uint32_t r[32][4];
	for (int i = 0; i < 256; i++)
		m[i / 64][i / 8 % 8][i % 8] = (uint16_t)random_word();
	int rc = try(&fr_shim_self_ldmatrix, 32, 512,
		     (struct self_args){device(sizeof m, m), NULL, device(sizeof r, NULL), 0, transposed}, r, sizeof r);
	int bad = 0;
	for (int l = 0; l < 32; l++)
		for (int i = 0; i < 4; i++) {
			int row = l / 4, col = 2 * (l % 4);
			uint32_t want = transposed ? m[i][col][row] | (uint32_t)m[i][col + 1][row] << 16
						   : m[i][row][col] | (uint32_t)m[i][row][col + 1] << 16;
			bad += r[l][i] != want;
		}
	CHECK(transposed ? "exact/shim/ldmatrix_t" : "exact/shim/ldmatrix", !rc && !bad, "%d words differ, error %d %s",
	      bad, rc, cu->text(rc));
}

static void test_shuffle(void)
{
	uint32_t out[64][6];
	int bad = 0, rc = 0;
	for (int k = 0; k < 32; k++) {
		rc |= try(&fr_shim_self_shuffle, 64, 0, (struct self_args){NULL, NULL, device(sizeof out, NULL), 0, k},
			  out, sizeof out);
		for (int t = 0; t < 64; t++) {
			int w = t & 32, lane = t & 31;
			float sum = w ? 1520 : 496;
			bad += out[t][0] != fr_f32_bits((float)(w | (lane ^ k)));
			bad += out[t][1] != fr_f32_bits((float)(w | ((lane + k) & 31)));
			bad += out[t][2] != (uint32_t)(w | k) * 3;
			bad += out[t][3] != (uint32_t)(w | (lane ^ 31)) * 5;
			bad += out[t][4] != (w ? 0x92492492u | 1u << 8 : 0x92492492u);
			bad += out[t][5] != fr_f32_bits(sum);
		}
	}
	CHECK("exact/shim/shuffle", !rc && !bad, "%d values differ, error %d %s", bad, rc, cu->text(rc));
}

static uint16_t cvt(uint16_t (*f)(float), float v)
{
	return v != v ? 0x7fff : f(v);
}
static uint16_t sat(float v)
{
	return cvt(fr_f32_f16, isinf(v) ? v : v > 65504 ? 65504 : v < -65504 ? -65504 : v);
}
static uint16_t bf16(float v)
{
	return fr_f32_bf16(v);
}

static void test_numbers(void)
{
	enum { N = 65536 };
	static float in[N];
	static uint32_t out[N][6];
	int bad[6] = {0};
	for (int i = 0; i < N; i++) {
		/* half of all exponents, half of those where f16 rounds, becomes subnormal, overflows; ties among them
		 */
		uint32_t u = random_word();
		if (i & 1)
			u = (u & 0x807fffffu) | (100 + random_word() % 46) << 23;
		if (i & 2)
			u &= 0xfffff000u;
		in[i] = fr_bits_f32(u);
	}
	in[0] = INFINITY, in[1] = NAN, in[2] = 65519.996f, in[3] = 65520, in[4] = 0x1p-25f, in[5] = 0x1.000002p-25f;
	in[6] = 0, in[7] = -0.0f, in[8] = 0x1.ffep-15f, in[9] = 0x1.fffp-15f;
	struct self_args a = {device(sizeof in, in), NULL, device(sizeof out, NULL), N, 0};
	int rc = launch(&fr_shim_self_numbers, N / 256, 256, 0, a);
	cu->copy(at, FR_CU_COMPUTE, out, a.out, sizeof out);
	cu->release(at, (void *)a.in);
	cu->release(at, a.out);
	for (int i = 0; i < N; i++) {
		float v = in[i], e = fabsf(v) < 0x1p-126f ? 1 : (float)exp2((double)v), h = fr_f16_f32((uint16_t)i);
		bad[0] += out[i][0] != (cvt(bf16, v) | (uint32_t)cvt(bf16, -v) << 16);
		bad[1] += out[i][1] != (sat(v) | (uint32_t)sat(-v) << 16);
		bad[2] += out[i][2] != (cvt(fr_f32_f16, v) | (uint32_t)cvt(fr_f32_f16, -v) << 16);
		bad[3] += out[i][3] != (cvt(fr_f32_f16, v) | (uint32_t)sat(v) << 16);
		bad[4] += h == h ? out[i][4] != fr_f32_bits(h) : (out[i][4] & 0x7fffffffu) <= 0x7f800000u;
		e = e < 0x1p-126f ? 0 : e;
		bad[5] += v == v && fr_bits_f32(out[i][5]) != e;
	}
	CHECK("exact/shim/numbers", !rc && !(bad[0] | bad[1] | bad[2] | bad[3] | bad[4] | bad[5]),
	      "differ: bf16x2 %d, f16x2 %d, f16x2_rn %d, f16 %d, f16_float %d, exp2 %d; error %d %s", bad[0], bad[1],
	      bad[2], bad[3], bad[4], bad[5], rc, cu->text(rc));
}

static void test_async(void)
{
	enum { N = 7 };
	uint32_t in[N][64][4], out[64][N];
	int bad = 0;
	for (int i = 0; i < N * 256; i++)
		in[i / 256][i / 4 % 64][i % 4] = random_word();
	int rc = try(&fr_shim_self_async, 64, 3 * 64 * 16,
		     (struct self_args){device(sizeof in, in), NULL, device(sizeof out, NULL), N, 0}, out, sizeof out);
	for (int t = 0; t < 64; t++)
		for (int i = 0; i < N; i++) {
			const uint32_t *w = in[i][(t + 33) % 64];
			bad += out[t][i] != (i == N - 1 ? 0 : w[0] ^ w[3]);
		}
	CHECK("exact/shim/cp_async", !rc && !bad, "%d words differ, error %d %s", bad, rc, cu->text(rc));
}

static void test_order(void)
{
	uint32_t box[128];
	uint16_t half[256];
	int bad = 0;
	int rc = try(&fr_shim_self_bar, 128, 512, (struct self_args){NULL, NULL, device(sizeof box, NULL), 0, 0}, box,
		     sizeof box);
	for (int t = 0; t < 128; t++) {
		int u = t ^ 64, rounds = u < 64 ? 3 : 4;
		bad += box[t] != (uint32_t)((rounds & 1 ? u ^ 32 : u) + rounds);
	}
	CHECK("exact/shim/named_barriers", !rc && !bad, "%d words differ, error %d %s", bad, rc, cu->text(rc));
	bad = 0;
	rc = try(&fr_shim_self_order, 256, 512, (struct self_args){NULL, NULL, device(sizeof half, NULL), 0, 0}, half,
		 sizeof half);
	for (int t = 0; t < 256; t++)
		bad += half[t] != (uint16_t)((t + 2) ^ (257 - t));
	CHECK("exact/shim/halves_of_a_word", !rc && !bad, "%d items differ, error %d %s", bad, rc, cu->text(rc));
	static uint32_t index[24 * 96];
	struct self_args a = {NULL, NULL, device(sizeof index, NULL), 0, 0};
	rc = fr_shim_launch(at, FR_CU_COMPUTE, &fr_shim_self_index, (unsigned[3]){4, 3, 2}, 96, 0, &a, sizeof a);
	cu->copy(at, FR_CU_COMPUTE, index, a.out, sizeof index);
	cu->release(at, a.out);
	bad = 0;
	for (uint32_t i = 0; i < 24 * 96; i++)
		bad += index[i] != (i / 96 << 16 | i % 96);
	CHECK("exact/shim/indices", !rc && !bad, "%d words differ, error %d %s", bad, rc, cu->text(rc));
}

/* ---- planted faults ---- */

static void expect(const char *name, int rc, const char *const says[])
{
	const char *text = rc ? cu->text(rc) : "nothing found";
	int ok = rc != 0;
	for (int i = 0; says[i]; i++)
		ok &= strstr(text, says[i]) != NULL;
	char full[80];
	snprintf(full, sizeof full, "exact/shim/finds/%s", name);
	CHECK(full, ok, "error %d, \"%s\" where \"%s\" was expected", rc, text, says[0]);
}
#define SAYS(...)                                                                                                      \
	(const char *const[])                                                                                          \
	{                                                                                                              \
		__VA_ARGS__, NULL                                                                                      \
	}

static int fault(int k, unsigned grid, unsigned threads)
{
	enum { N = 1024 };
	float zero[N] = {0};
	struct self_args a = {device(sizeof zero, zero), NULL, device(sizeof zero, zero), N, k};
	int rc = launch(&fr_shim_self_fault, grid, threads, threads * 16, a);
	cu->release(at, (void *)a.in);
	cu->release(at, a.out);
	return rc;
}

static void test_faults(void)
{
	static const struct {
		const char *name;
		int k;
		unsigned grid, threads;
		const char *says[4];
	} f[] = {
		{"read_beyond",
		 FAULT_READ,
		 1,
		 64,
		 {"kernel self_fault, block (0,0,0), thread 63: reads 4 bytes at byte 4096 of allocation"}},
		{"write_beyond", FAULT_WRITE, 3, 64, {"thread 63: writes 4 bytes at byte 4096 of allocation"}},
		{"read_before", FAULT_BEFORE, 1, 64, {"thread 63: reads 1 bytes at byte -1 of allocation"}},
		{"shared_beyond",
		 FAULT_SHARED,
		 1,
		 256,
		 {"thread 255: writes 4 bytes at shared byte 4096 of the launch's 4096"}},
		{"misaligned_16",
		 FAULT_MISALIGNED,
		 1,
		 64,
		 {"thread 2: misaligned: reads 16 bytes at byte 4 of allocation"}},
		{"misaligned_ld_stream",
		 FAULT_MISALIGNED_LD,
		 1,
		 64,
		 {"thread 2: misaligned: reads 16 bytes at byte 4 of allocation"}},
		{"misaligned_store",
		 FAULT_MISALIGNED_ST,
		 1,
		 64,
		 {"thread 2: misaligned: writes 16 bytes at byte 8 of allocation"}},
		{"ld_const_of_written",
		 FAULT_CONST,
		 1,
		 64,
		 {"the kernel writes byte ", "which it reads by fr_ld_stream or fr_ld_const"}},
		{"write_after_ld_const",
		 FAULT_CONST_FIRST,
		 1,
		 64,
		 {"thread 0: the kernel writes byte 4 of allocation",
		  "which it has read by fr_ld_stream or fr_ld_const"}},
		{"misaligned_4",
		 FAULT_MISALIGNED_4,
		 1,
		 64,
		 {"thread 2: misaligned: reads 4 bytes at byte 2 of allocation"}},
		{"race_block", FAULT_RACE, 1, 64, {"race on shared memory: ", "with no barrier between"}},
		{"race_warp", FAULT_RACE_WARP, 1, 32, {"race on shared memory: ", "with no barrier between"}},
		{"race_shuffle", FAULT_RACE_SHUFFLE, 1, 32, {"race on shared memory: ", "with no barrier between"}},
		{"race_write_after_read",
		 FAULT_RACE_WAR,
		 1,
		 64,
		 {"race on shared memory: writes 4 bytes", "read with no barrier"}},
		{"race_readers",
		 FAULT_RACE_READERS,
		 1,
		 64,
		 {"thread 63: race on shared memory: writes 4 bytes", "thread 31 read"}},
		{"race_named_barrier", FAULT_RACE_BAR, 1, 128, {"race on shared memory: ", "with no barrier between"}},
		{"barrier_divergent",
		 FAULT_DIVERGENT,
		 1,
		 64,
		 {"the block is stuck", "32 of 64 threads at barrier 0", "32 threads have returned"}},
		{"barrier_two_places",
		 FAULT_DIVERGENT_2,
		 1,
		 64,
		 {"at barrier 0 for 64 threads (line", "where thread 0 waits"}},
		{"lane_missing",
		 FAULT_LANE,
		 1,
		 32,
		 {"the block is stuck", "lanes 0xffffff7f of warp 0 at fr_shfl", "1 threads have returned"}},
		{"lanes_returned",
		 FAULT_LANE_GONE,
		 1,
		 64,
		 {"the block is stuck", "lanes 0x000fffff of warp 0 at fr_shfl"}},
		{"partial_warp", FAULT_LANE, 1, 40, {"the block is stuck", "of warp 1 at fr_shfl"}},
		{"lanes_mixed",
		 FAULT_MIXED,
		 1,
		 32,
		 {"thread 1: at fr_syncwarp while lanes 0x00000001 of its warp are at fr_shfl"}},
		{"async_no_wait",
		 FAULT_ASYNC_WAIT,
		 1,
		 32,
		 {"thread 0: reads 4 bytes at shared byte 0, where a cp.async of thread 0 is still under way"}},
		{"async_group_short", FAULT_ASYNC_GROUP, 1, 32, {"where a cp.async of thread 0 is still under way"}},
		{"async_no_barrier", FAULT_ASYNC_BARRIER, 1, 64, {"race on shared memory: reads 4 bytes"}},
		{"async_misaligned", FAULT_ASYNC_ALIGN, 1, 32, {"misaligned"}},
		{"blocks_write",
		 FAULT_BLOCKS_WRITE,
		 2,
		 64,
		 {"block (1,0,0), thread 63: race on device memory: writes 4 bytes at byte 28 of allocation",
		  "another block of the launch writes"}},
		{"blocks_read",
		 FAULT_BLOCKS_READ,
		 2,
		 64,
		 {"race on device memory: writes 4 bytes at byte 36", "another block of the launch reads"}},
		{"no_wait", FAULT_NO_WAIT, 1, 64, {"thread 63: returned without FR_WAIT()"}},
		{"stack", FAULT_STACK, 1, 32, {"its host stack"}},
	};
	for (size_t i = 0; i < sizeof f / sizeof *f; i++)
		expect(f[i].name, fault(f[i].k, f[i].grid, f[i].threads), f[i].says);
	int rc = fault(FAULT_NONE, 4, 256);
	CHECK("exact/shim/finds/nothing_where_nothing_is", rc == 0, "error %d %s", rc, cu->text(rc));
}

static void test_pointers(void)
{
	float host[64] = {0};
	void *pinned;
	struct self_args a = {device(4096, NULL), NULL, device(4096, NULL), 1024, FAULT_NONE};
	/* mma is a kernel that reads in and in2 */
	struct self_args m = {host, a.in, a.out, 0, 0};
	expect("host_pointer", launch(&fr_shim_self_mma, 1, 32, 0, m), SAYS("reads 4 bytes at a host pointer"));
	cu->alloc_host(at, 4096, &pinned);
	memset(pinned, 0, 4096);
	m.in = pinned;
	int rc = launch(&fr_shim_self_mma, 1, 32, 0, m);
	CHECK("exact/shim/pinned_is_read", rc == 0, "error %d %s", rc, cu->text(rc));
	m.out = pinned;
	m.in = a.in;
	expect("pinned_written", launch(&fr_shim_self_mma, 1, 32, 0, m), SAYS("writes 4 bytes of pinned host memory"));
	cu->release_host(at, pinned);
	m.out = a.out;
	cu->release(at, (void *)a.in);
	expect("use_after_release", launch(&fr_shim_self_mma, 1, 32, 0, m), SAYS("of the released allocation"));
	a.in = device(4096, NULL);
	a.k = FAULT_EARLY;
	m.in = m.in2 = a.in;
	m.out = (void *)a.in;
	launch(&fr_shim_self_mma, 1, 32, 0, m);
	expect("read_before_wait", launch(&fr_shim_self_fault, 1, 32, 512, a),
	       SAYS("thread 3: reads 4 bytes at byte 20 of allocation", "before FR_WAIT()"));
	launch(&fr_shim_self_mma, 1, 32, 0, m);
	cu->sync(at, FR_CU_COMPUTE);
	rc = launch(&fr_shim_self_fault, 1, 32, 512, a);
	CHECK("exact/shim/read_before_wait_after_sync", rc == 0, "error %d %s", rc, cu->text(rc));
	cu->release(at, (void *)a.in);
	cu->release(at, a.out);
}

int main(void)
{
	struct fr_cu_info info;
	struct fr_error err;
	setenv("FR_SHIM_MEMORY", "64", 1);
	unsetenv("FR_SHIM_LAZY");
	unsetenv("FR_SHIM_FAIL");
	unsetenv("FR_SHIM_ALLOC_FAIL");
	if (!freopen("/dev/null", "w", stderr) || cu->open(0, &at, &info, &err)) {
		test_fail("exact/shim/open", "%s", err.text);
		return test_done();
	}
	test_mma(0);
	test_mma(1);
	test_ldmatrix(0);
	test_ldmatrix(1);
	test_shuffle();
	test_numbers();
	test_async();
	test_order();
	test_faults();
	test_pointers();
	cu->close(at);
	return test_done();
}
