#!/usr/bin/env python3
"""Fits the polynomials of kernels/math.h and prints them as C. Needs mpmath and numpy; no coefficient is taken from a
library. Each fit is a weighted minimax (Remez exchange on a dense grid) whose coefficients are then rounded to float32
one by one from the lowest power up, the higher ones being fitted again after each rounding."""
import mpmath as mp
import numpy as np

mp.mp.prec = 160


def remez(f, w, powers, lo, hi, grid=1600):
    """c such that max |w(x) * (f(x) - sum c[i] x^powers[i])| over [lo, hi] is least; (c, that max)."""
    k = len(powers) + 1
    xs = [(lo + hi) / 2 + (hi - lo) / 2 * mp.cos(mp.pi * (grid - i) / grid) for i in range(grid + 1)]
    fs, ws = [f(x) for x in xs], [w(x) for x in xs]
    ref = [round((1 - np.cos(np.pi * i / (k - 1))) / 2 * grid) for i in range(k)]
    for _ in range(40):
        a, b = mp.matrix(k, k), mp.matrix(k, 1)
        for r, i in enumerate(ref):
            for j, p in enumerate(powers):
                a[r, j] = ws[i] * xs[i] ** p
            a[r, k - 1], b[r] = (-1) ** r, ws[i] * fs[i]
        c = mp.lu_solve(a, b)
        err = [ws[i] * (fs[i] - sum(c[j] * xs[i] ** p for j, p in enumerate(powers))) for i in range(grid + 1)]
        peaks, i = [], 0
        while i <= grid:  # the extreme of each run of equal sign
            j, best = i, i
            while j <= grid and (err[j] >= 0) == (err[i] >= 0):
                if abs(err[j]) > abs(err[best]):
                    best = j
                j += 1
            peaks.append(best)
            i = j
        while len(peaks) > k:  # drop the weaker end
            peaks.pop(0 if abs(err[peaks[0]]) < abs(err[peaks[-1]]) else -1)
        top = max(abs(e) for e in err)
        if len(peaks) < k or peaks == ref:
            break
        ref = peaks
    return [c[i] for i in range(len(powers))], top


def fit_f32(f, w, powers, lo, hi):
    """remez, coefficients rounded to float32 in turn."""
    lo, hi, done, left = mp.mpf(lo), mp.mpf(hi), [], list(powers)
    g = f
    while left:
        c, top = remez(g, w, left, lo, hi)
        r = mp.mpf(float(np.float32(float(c[0]))))
        done.append(r)
        p, h = left.pop(0), g
        g = lambda x, h=h, r=r, p=p: h(x) - r * x ** p
    xs = [lo + (hi - lo) * i / 1000 for i in range(1001)]
    top = max(abs(w(x) * g(x)) for x in xs)
    return [float(c) for c in done], top


def show(name, powers, cs, top):
    print(f"/* {name}: fit error 2^{float(mp.log(top, 2)):.2f} */")
    for p, c in zip(powers, cs):
        print(f"#define {name}_{p} {float.hex(c)}f")


one = lambda x: mp.mpf(1)
L = mp.log(2) / 2 * mp.mpf("1.0001")
# exp(r) = 1 + r + r^2 q(r), error relative to exp(r)
q = lambda r: (mp.expm1(r) - r) / r ** 2 if abs(r) > mp.mpf(10) ** -15 else mp.mpf(1) / 2 + r / 6
show("EXP", range(2, 7), *fit_f32(q, lambda r: r ** 2 / mp.exp(r), list(range(5)), -L, L))

B, TOP = mp.mpf("0.9375"), mp.mpf("3.95")
# erf(x) = x + x p(x^2) for |x| < B; error relative to erf
p = lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1
show("ERF_NEAR", range(7), *fit_f32(p, lambda z: mp.sqrt(z) / mp.erf(mp.sqrt(z)), list(range(7)), mp.mpf(10) ** -12, B * B))
# erfc(x) = exp(-x + (-x) s(x)) for B <= x <= TOP; error of erf(x) = 1 - erfc(x)
s = lambda x: -mp.log(mp.erfc(x)) / x - 1
show("ERF_FAR", range(8), *fit_f32(s, lambda x: x * mp.erfc(x) / mp.erf(x), list(range(8)), B, TOP))

hi = mp.mpf(float(np.float32(float(mp.log(2))) - np.float32(0)))
hi = mp.floor(mp.log(2) * 2 ** 15) / 2 ** 15  # 15 bits: n * hi is exact for |n| <= 256
print("LN2_HI", float.hex(float(hi)), "LN2_LO", float.hex(float(np.float32(float(mp.log(2) - hi)))))
print("LOG2E", float.hex(float(np.float32(float(1 / mp.log(2))))))

# log(1 + r) = r + r^2 (-1/2 + p(r)) for 0.75 <= 1 + r <= 1.5, p without a constant term; error relative to log. The
# coefficients are rounded all at once, which costs one bit of the fit: turn by turn the exchange does not settle.
p = lambda r: (mp.log1p(r) - r) / r ** 2 + mp.mpf(1) / 2 if abs(r) > mp.mpf(10) ** -15 else r / 3
w = lambda r: r ** 2 / mp.log1p(r) if abs(r) > mp.mpf(10) ** -15 else r
lo, hi = -mp.mpf("0.25"), mp.mpf("0.5")
cs = [float(np.float32(float(c))) for c in remez(p, w, list(range(1, 9)), lo, hi)[0]]
xs = [lo + (hi - lo) * i / 4000 for i in range(4001)]
show("LOG", range(1, 9), cs, max(abs(w(x) * (p(x) - sum(c * x ** i for i, c in enumerate(cs, 1)))) for x in xs))
