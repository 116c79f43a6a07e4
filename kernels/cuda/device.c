/* The cuda instance of the operations table: opening, launches, and what is said when one fails.
 *
 * Errors are sticky: the first one is kept with the place where it showed, nothing is launched after it, and sync says
 * it. Kernels run long after they were launched, so an error of theirs shows at a later call; FR_RUN_CUDA_SYNC=1 waits
 * after each, and FR_RUN_CUDA_DEVICE=n chooses among several cards. */
#include "scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_MEMORY 2 /* CUDA_ERROR_OUT_OF_MEMORY */

const struct fr_cu *fr_cu_override;

const char *const fr_cu_kernel_names[FR_CU_KERNELS] = {
#define FR_CU(name, args) [FR_CU_##name] = #name,
#include "kernels.def"
#undef FR_CU
};

/* ---- launches and their errors ---- */

void fr_cu_note(struct fr_cuda *d, int code, const char *what)
{
	if (!code || d->error)
		return;
	d->error = code;
	if (d->launches)
		snprintf(d->error_at, sizeof d->error_at, "%s, after launch %u (%s)", what, d->launches,
			 fr_cu_kernel_names[d->last]);
	else
		snprintf(d->error_at, sizeof d->error_at, "%s", what);
}

void fr_cu_run(struct fr_cuda *d, enum fr_cu_kernel kernel, unsigned gx, unsigned gy, unsigned gz, unsigned threads,
	       size_t smem, const void *args, size_t args_bytes)
{
	const unsigned grid[3] = {gx, gy, gz};
	int code;

	fr_cu_uploaded(d);
	if (d->error)
		return;
	d->launches++;
	d->last = kernel;
	code = d->cu->launch(d->at, FR_CU_COMPUTE, kernel, grid, threads, (unsigned)smem, args, args_bytes);
	if (!code && d->sync_each)
		code = d->cu->sync(d->at, FR_CU_COMPUTE);
	if (!code)
		return;
	d->error = code;
	snprintf(d->error_at, sizeof d->error_at, "kernel %s, launch %u since the last wait",
		 fr_cu_kernel_names[kernel], d->launches);
}

int fr_cu_say(const struct fr_cuda *d, struct fr_error *err)
{
	const int exact = d->sync_each || d->error == ERROR_MEMORY;

	return fr_fail(err, d->error == ERROR_MEMORY ? FR_E_MEMORY : FR_E_DEVICE, "%s: %s: %s (driver error %d)%s",
		       d->info.name, d->error_at, d->cu->text(d->error), d->error,
		       exact ? "" : "; an earlier launch may be the cause, FR_RUN_CUDA_SYNC=1 shows which");
}

int fr_cu_report(struct fr_cuda *d, struct fr_error *err)
{
	d->launches = 0;
	if (!d->error)
		return 0;
	fr_cu_say(d, err);
	if (d->cu->sync(d->at, FR_CU_COMPUTE) == 0)
		d->error = 0;
	return -1;
}

/* ---- the table ---- */

static void close_cuda(struct fr_dev *dev)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;

	if (d->lt)
		fr_cu_lt_close(d);
	if (d->scratch)
		fr_cu_scratch_close(d);
	fr_cu_mem_close(d);
	if (d->at)
		d->cu->close(d->at);
	free(d);
}

static const struct fr_ops fr_cuda_ops = {
	.name = "cuda",
	.alloc = fr_cu_alloc,
	.release = fr_cu_release,
	.put = fr_cu_put,
	.get = fr_cu_get,
	.copy = fr_cu_copy,
	.weight = fr_cu_weight,
	.vector = fr_cu_vector,
	.patch = fr_cu_patch,
	.embed = fr_cu_embed,
	.linear = fr_cu_linear,
	.glu = fr_cu_glu,
	.norm = fr_cu_norm,
	.rope = fr_cu_rope,
	.attn = fr_cu_attn,
	.attn_map = fr_cu_attn_map,
	.map_bias = fr_cu_map_bias,
	.gate = fr_cu_gate,
	.pick = fr_cu_pick,
	.room = fr_cu_room,
	.work_bytes = fr_cu_work_bytes,
	.work = fr_cu_work,
	.home = fr_cu_home,
	.step_begin = fr_cu_step_begin,
	.step_end = fr_cu_step_end,
	.sync = fr_cu_sync,
	.close = close_cuda,
};

/* ---- opening ---- */

/* The driver this build has, or the one that a test has put in its place. */
static const struct fr_cu *driver(void)
{
#ifdef FR_HAVE_CUDA
	return fr_cu_override ? fr_cu_override : &fr_cu_driver;
#else
	return fr_cu_override;
#endif
}

const char *fr_cuda_built(void)
{
#ifdef FR_HAVE_CUDA
	return FR_CUDA_BUILT;
#else
	return NULL;
#endif
}

static int ordinal(int *out, struct fr_error *err)
{
	const char *v = getenv("FR_RUN_CUDA_DEVICE");
	char *end;
	long n;

	*out = 0;
	if (!v || !*v)
		return 0;
	n = strtol(v, &end, 10);
	if (*end || n < 0 || n > 1023)
		return fr_fail(err, FR_E_USAGE, "FR_RUN_CUDA_DEVICE: '%s' is not the number of a device", v);
	*out = (int)n;
	return 0;
}

static int open_parts(struct fr_cuda *d, int device, struct fr_error *err)
{
	const char *sync_each = getenv("FR_RUN_CUDA_SYNC");

	FR_TRY(d->cu->open(device, &d->at, &d->info, err));
	snprintf(d->isa, sizeof d->isa, "sm_%d%d", d->info.major % 100, d->info.minor % 10);
	d->sync_each = sync_each && *sync_each && strcmp(sync_each, "0") != 0;
	d->dev.isa = d->isa;
	d->dev.device = d->info.name;
	FR_TRY(fr_cu_mem_open(d, err));
	FR_TRY(fr_cu_scratch_open(d, err));
	d->scratch->off |= d->sync_each; /* inside a recording there is no waiting */
	/* Without cuBLASLt our own products are used; with two terms they are anyway. Its sums have other last bits, so
	 * that the instruction set's name, which is in every result, says whether it is there. */
	if (!d->no_cublas && !d->precise && !d->info.simulated && fr_cu_lt_open(d))
		snprintf(d->isa + strlen(d->isa), sizeof d->isa - strlen(d->isa), "+cublaslt");
	return 0;
}

int fr_cuda_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	const struct fr_cu *cu = driver();
	struct fr_cuda *d;
	int device;

	*out = NULL;
	if (!cu)
		return fr_fail(err, FR_E_DEVICE,
			       "backend cuda is not built into this fr-run (there was no nvcc), which has: cpu");
	if (opts->isa)
		return fr_fail(err, FR_E_USAGE, "--isa %s is an instruction set of the CPU, backend cuda takes none",
			       opts->isa);
	FR_TRY(ordinal(&device, err));
	d = calloc(1, sizeof *d);
	if (!d)
		return fr_fail(err, FR_E_MEMORY, "no memory for a device of %zu bytes", sizeof *d);
	d->cu = cu;
	d->precise = opts->precise;
	d->no_cublas = opts->no_cublas;
	d->act_dtype = FR_F32;
	d->dev = (struct fr_dev){.ops = &fr_cuda_ops,
				 .activations = opts->precise ? "2x16bit" : "16bit",
				 .together = 8,
				 .row_cost = 1,
				 .threads = 1};
	if (open_parts(d, device, err)) {
		close_cuda(&d->dev);
		return -1;
	}
	*out = &d->dev;
	return 0;
}
