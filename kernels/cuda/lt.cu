/* The rest of struct fr_linear over sums that cuBLASLt has written: y = act(sum * rowscale + bias) * scale + residual,
 * or silu(gate) * up of two of them, and y's 16-bit terms. One pass over memory, four columns a thread; sums may be y.
 */
#include "gemm_out.h"

FR_DEVICE void scaled(const fr_lt_args &a, int row, float v[4])
{
	if (!a.rowscale)
		return;
	float by = a.rowscale[row];

	for (int i = 0; i < 4; i++)
		v[i] *= by;
}

FR_KERNEL(fr_lt_out, struct fr_lt_args, FR_LT_THREADS, 4)
{
	FR_WAIT();
	FR_RELEASE();
	const fr_gemm_part &p = a.part;
	int col = (int)(blockIdx.x * FR_LT_THREADS + threadIdx.x) * 4;
	fr_out_cols c = fr_out_begin(p, col);

	if (col >= p.n && !(p.pack && col < p.pack_pitch))
		return;
	for (int row = (int)blockIdx.y; row < a.rows; row += (int)gridDim.y) {
		size_t at = (size_t)row * (size_t)p.n + (size_t)col;
		float v[1][4], other[4];

		fr_get4(v[0], a.sums + at, p.n - col, p.vec);
		scaled(a, row, v[0]);
		if (a.gate) {
			fr_get4(other, a.gate + at, p.n - col, p.vec);
			scaled(a, row, other);
			for (int i = 0; i < 4; i++)
				v[0][i] = fr_silu(other[i]) * v[0][i];
		} else {
			fr_out_act<1>(p, c, v);
		}
		if (p.residual) {
			fr_out_residual(p, c, row, other);
			for (int i = 0; i < 4; i++)
				v[0][i] = v[0][i] + other[i];
		}
		fr_out_store(p, c, a.rows, row, v[0]);
	}
}
