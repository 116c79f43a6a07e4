"""Joins what bench/gpu.sh measured: report.py WORK RESULTS VERSION -> RESULTS/CARD-DATE-COMMIT.json and .txt, and prints
the text. Rows of fr-run and of a peer are joined by the kernel's name; the bars are those that docs/SPEED.md states."""

import datetime
import json
import os
import re
import sys


def lines(work, name):
    try:
        with open(os.path.join(work, name)) as f:
            return [json.loads(t) for t in f if t.startswith("{")]
    except FileNotFoundError:
        return []


def pick(rows, **want):
    return next((r for r in rows if all(r.get(k) == v for k, v in want.items())), None)


def best(rows, key):
    return max((r[key] for r in rows if r.get(key)), default=None)


def ratio(a, b):
    return a / b if a and b else None


def bf16_peak(peak, kernels, peer_peak):
    """The highest bf16 rate that anything in this run reached, in TFLOP/s: what a share of the peak is a share of. The
    program's own peak is that of mma.sync; wgmma, which cuBLAS uses on 9.0, does more."""
    rates = [peak and peak["bf16_tflops"], peer_peak and peer_peak["bf16_tflops"]]
    rates += [k["tflops"] for k in kernels if "_bf16/" in k["name"]]
    return max((r for r in rates if r), default=None)


def kernel_table(kernels, ours, peers):
    by = {p["name"]: p for p in peers}
    own = {k["name"]: k["us"] for k in ours}
    out = [f"{'kernel':<56} {'us':>9} {'TFLOP/s':>8} {'GB/s':>7} {'of sums':>8} {'of read':>8} {'ours us':>9} {'torch us':>9} {'ratio':>6}  by"]
    for k in kernels:
        p = by.get(k["name"], {})
        r = ratio(p.get("us"), k["us"])
        out.append(f"{k['name']:<56} {k['us']:9.2f} {k['tflops']:8.1f} {k['gbytes']:7.0f} {100 * k['share_arithmetic']:7.1f}% "
                   f"{100 * k['share_read']:7.1f}% {own.get(k['name'], 0):9.2f} {p.get('us', 0):9.2f} {r or 0:6.2f}  {p.get('by', p.get('error', ''))}")
    return out


def model_table(model, peers):
    out = [f"{'stage':<10} {'batch':>5} {'median ms':>10} {'least':>10} {'most':>10} {'runs':>5}  rate"]
    for m in model:
        if "ms" in m:
            out.append(f"{m['what']:<10} {m['batch']:5d} {m['ms']:10.3f} {m['ms_least']:10.3f} {m['ms_most']:10.3f} {m['runs']:5d}"
                       f"  {m['rate']:.5g} {m['unit']}")
        else:
            out.append("  ".join(f"{k} {v}" for k, v in m.items() if k != "bench"))
    for p in peers:
        out.append("  ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in p.items() if k != "bench"))
    return out


def bars(peak, most, kernels, peer_kernels, model, peers):
    """(name, value, at least): None where it was not measured."""
    reading = pick(model, what="reading", batch=1)
    prefill = pick(model, what="prefill", batch=8)
    decode = pick(model, what="decode", batch=1)
    files = pick(model, what="verdicts from files")
    compiled = [p for p in peers if "compile" in p["by"] and p["what"] == "decode" and p.get("batch") == 1]
    verdicts = [p for p in peers if p["what"] == "verdict"]
    flash = {p["name"]: p["us"] for p in peer_kernels if p.get("by", "").endswith("flash")}
    rows = [("decode of one sequence: share of the measured read bandwidth",
             ratio(reading and reading["rate"] * 1e9, peak and peak["read_gbytes"] * 1e9), 0.85),
            ("prefill of 8 pictures: share of the highest bf16 rate measured",
             ratio(prefill and prefill["rate"], most), 0.65),
            ("verdicts from files: times transformers' best, its pictures decoded too",
             ratio(files and files["images_s"], best(verdicts, "images_s_with_images")), 3),
            ("decode of one sequence: times transformers with static cache and torch.compile",
             ratio(decode and decode["rate"], best(compiled, "tok_s")), 2)]
    for k in kernels:
        if k["name"] in flash:
            rows.append((f"{k['name']}: times torch's flash kernel", ratio(flash[k["name"]], k["us"]), 1))
    if not flash:
        rows.append(("attention: times torch's flash kernel on the same shapes", None, 1))
    return rows


def main():
    work, results, version = sys.argv[1:4]
    kernels = lines(work, "kernels.jsonl")
    peak = pick(kernels, bench="peak")
    kernels = [k for k in kernels if k["bench"] == "kernel"]
    ours = [k for k in lines(work, "ours.jsonl") if k["bench"] == "kernel"]
    peer_kernels = lines(work, "peer-kernels.jsonl")
    peer_peak = pick(peer_kernels, bench="peer-peak")
    peer_kernels = [k for k in peer_kernels if k["bench"] == "peer-kernel"]
    most = bf16_peak(peak, kernels, peer_peak)
    model = lines(work, "model.jsonl") + lines(work, "verdicts.jsonl")
    peers = lines(work, "peer-eager.jsonl") + lines(work, "peer-compiled.jsonl")
    try:
        with open(os.path.join(work, "memory.mib")) as f:
            model.append(dict(bench="model", what="peak device memory (nvidia-smi)", mib=max(int(t) for t in f if t.strip())))
    except (FileNotFoundError, ValueError):
        pass
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    device = (peak or {}).get("device") or "gpu"
    commit = (re.search(r"\b[0-9a-f]{7,40}(-dirty)?\b", version) or re.match("", "")).group(0) or "unknown"
    checks = [dict(bar=n, value=v, at_least=least, passed=None if v is None else v >= least)
              for n, v, least in bars(peak, most, kernels, peer_kernels, model, peers)]
    if device == "host shim":  # a simulation's times are no results
        results = work
    name = os.path.join(results, f"{re.sub('[^A-Za-z0-9]+', '-', device)}-{date}-{commit}")
    text = [f"{version}; {device}; {date}", ""]
    if peak:
        text += ["peaks measured: " + ", ".join(f"{k} {v:g}" for k, v in peak.items() if isinstance(v, (int, float))), ""]
    if most:
        text += [f"highest bf16 rate of anything in this run: {most:g} TFLOP/s ('of sums' below is of mma.sync or fma)", ""]
    text += kernel_table(kernels, ours, peer_kernels) + [""] if kernels else []
    text += model_table(model, peers) + [""] if model or peers else []
    for c in checks:
        text.append(f"{'not measured' if c['passed'] is None else 'pass' if c['passed'] else 'FAIL':<12} "
                    f"{c['bar']}: {'-' if c['value'] is None else format(c['value'], '.3f')}, at least {c['at_least']}")
    with open(name + ".json", "w") as f:
        json.dump(dict(version=version, device=device, date=date, peak=peak, peer_peak=peer_peak, bf16_tflops_most=most, kernels=kernels, ours=ours, peer_kernels=peer_kernels,
                       model=model, peers=peers, bars=checks), f, indent=1)
    with open(name + ".txt", "w") as f:
        f.write("\n".join(text) + "\n")
    print("\n".join(text))
    print(f"written to {name}.json and .txt")


if __name__ == "__main__":
    main()
