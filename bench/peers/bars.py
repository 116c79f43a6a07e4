"""What bench/peers/cpu.py's measurements say: tables of ratios, and the bars of the issue that asked for them."""

import json
import os
import statistics

# (bar, AMX, AVX-512 without AMX, AVX2): the least ratio or share; None: no bar there.
COLUMNS = ("amx", "avx512", "avx2")
VISION = {"transformers": (4, 2, 1.2), "llama.cpp bf16": (15, 3, 1.5)}
PREFILL = {"transformers": (5, 2, 1.2), "torch packed": (3, None, None), "llama.cpp bf16": (6, 3, 1.5)}
DECODE_SHARE, EIGHT, PRECISE = (0.9, 0.9, 0.85), (6, 5, 4), (0.5, 0.5, None)
GEMM, THREADS, DEMO_MS = (0.55, 0.75, 0.75), (1.9, 1.9, 1.9), 60
FAR = 0.05  # relative L2 distance of logits beyond which a peer computes another model


def column(isa):
    return COLUMNS.index("amx" if isa == "amx" else "avx512" if isa.startswith("avx512") else "avx2")


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def of_stage(rounds, name, stage):
    return [r[name][stage] for r in rounds if name in r and stage in r[name]]


def fastest(r, name, stage):
    """transformers computes in bf16 or float32: whichever took less here."""
    names = [n for n in r["about"] if n.startswith(name) and of_stage(r["rounds"], n, stage)]
    return min(names, key=lambda n: median(of_stage(r["rounds"], n, stage)), default=name)


def ratios(rounds, name, stage, over="fr-run"):
    """In each round: how many times `over`'s time `name` takes."""
    return [r[name][stage] / r[over][stage] for r in rounds if name in r and over in r and stage in r[name] and stage in r[over]]


def operations(path, rows):
    """Of vision (the layers whose output is used) and of prefill, multiply and add counted apart."""
    with open(os.path.join(path, "config.json")) as f:
        c = json.load(f)
    v, t = c["vision_config"], c["text_config"]
    dim, ffn, layers = t.get("hidden_size", 4096), t.get("intermediate_size", 11008), t.get("num_hidden_layers", 32)
    patches, vdim = (v["image_size"] // v["patch_size"]) ** 2, v["hidden_size"]
    seen = patches + 1
    layer = 2 * seen * (4 * vdim * vdim + 2 * vdim * v["intermediate_size"]) + 4 * seen * seen * vdim
    vision = (v["num_hidden_layers"] + 1 + c["vision_feature_layer"]) * layer
    vision += 2 * patches * (vdim * 3 * v["patch_size"] ** 2 + vdim * dim + dim * dim)
    return dict(vision=vision, prefill=layers * (2 * rows * (4 * dim * dim + 3 * dim * ffn) + 2 * rows * rows * dim))


def bars(r, path):
    """[{bar, value, least, met, spread, reach}]; value None: not measured in this run. reach, of ratios to peers: what fr-run
    would have if all its arithmetic ran at the highest rate that bench measured, of any instruction of its level."""
    c, out = column(r["about"]["fr-run"]["isa"]), []
    peak = max((k["peak_gflops"] * 1e9 for k in r["gemm"]), default=None)
    need = operations(path, r["rows"])

    def add(bar, values, least, at_most=False, reach=None):
        value = median(values)
        met = None if value is None or least is None else value <= least if at_most else value >= least
        out.append(dict(bar=bar, value=value, spread=[min(values), max(values)] if values else None, least=least, met=met,
                        reach=reach))

    def reach(name, stage):
        ms = median(of_stage(r["rounds"], name, stage))
        return ms * 1e-3 * peak / need[stage] if ms and peak else None
    gemm = [k.get("share_fma") or k.get("share_peak") for k in r["gemm"] if "n11008_k4096" in k["name"]]
    add("GEMM 588x4096x11008 bf16, share of the measured peak", [g for g in gemm if g][-1:], GEMM[c])
    for stage, table in (("vision", VISION), ("prefill", PREFILL)):
        for name, least in table.items():
            name = fastest(r, name, stage)
            add(f"{stage}, times {name}", ratios(r["rounds"], name, stage), least[c], reach=reach(name, stage))
    add("decode of 1 text, share of the read bandwidth of the same second", of_stage(r["rounds"], "fr-run", "share of reading"),
        DECODE_SHARE[c])
    add("decode of 8 texts, tokens a second, times 1 text",
        [8 * o["decode 1"] / o["decode 8"] for o in (x["fr-run"] for x in r["rounds"]) if "decode 8" in o], EIGHT[c])
    add("--precise prefill, share of the plain one's speed", [1 / x for x in ratios(r["own"], "precise", "prefill")], PRECISE[c])
    add(f"prefill, 1 -> {r['threads']} threads", ratios(r["own"], "1 thread", "prefill"), THREADS[c])
    add(f"vision, 1 -> {r['threads']} threads", ratios(r["own"], "1 thread", "vision"), None)
    add("demo model, start to verdict, ms at most", r.get("demo ms", []), DEMO_MS, at_most=True)
    return out


def wrong(r):
    return int(any(d["logits"] > FAR for n, d in r["distance"].items() if not n.endswith(("q8_0", "q4_0"))))


def number(v):
    return "-" if v is None else f"{v:.0f}" if v >= 100 else f"{v:.1f}" if v >= 10 else f"{v:.2f}"


def stage_table(r):
    names = ["fr-run"] + [n for n in r["about"] if n != "fr-run"]
    stages = ["vision", "prefill", "decode 1", "decode 8", "start"]
    out = ["| stage | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for s in stages:
        cells = []
        for n in names:
            ms, x = median(of_stage(r["rounds"], n, s)), ratios(r["rounds"], n, s)
            cells.append("-" if ms is None else f"{number(ms)} ms" if not x or n == "fr-run" else
                         f"{number(ms)} ms, **{number(median(x))}** ({number(min(x))}-{number(max(x))})")
        out.append(f"| {s} | " + " | ".join(cells) + " |")
    return out


def distance_table(r):
    out = ["| relative L2 distance to float32 transformers | image rows | logits |", "|---|---|---|"]
    for name, d in r["distance"].items():
        rows = "given" if "rows" not in d else f"{d['rows']:.1e}"
        if name.startswith("llama") and "rows" in d:
            rows += f" ({d['rows, class row last']:.1e} to rows with CLIP's class row last, as it computes them); given for the logits"
        out.append(f"| {name} | {rows} | {d['logits']:.1e} |")
    return out


def product_table(r):
    """Shares of the peak: fr-run's of the peak measured between its own runs, torch's of the best of these."""
    rows = [k for k in r["gemm"] if k.get("torch_ms")]
    peak = max((k["peak_gflops"] for k in rows), default=None)
    out = [f"| product alone | fr-run GFLOP/s | of the peak | torch {rows[0]['torch'] if rows else ''} GFLOP/s | of the peak |", "|---|---|---|---|---|"]
    for k in rows:
        m, n, depth = (int(s[1:]) for s in k["name"].split("/")[1].split("_"))
        torch = 2e-6 * m * n * depth / k["torch_ms"]
        out.append(f"| {m} x {depth} x {n} | {k['gflops']:.0f} | {100 * k['gflops'] / k['peak_gflops']:.0f} % | {torch:.0f} | "
                   f"{100 * torch / peak:.0f} % |")
    return out + [""] if rows else []


def report(r):
    m, engine = r["machine"], r["about"]["fr-run"]
    versions = "; ".join(f"{n}: " + ", ".join(f"{k} {v}" for k, v in about.items() if k not in ("system",))
                         for n, about in r["about"].items() if n != "fr-run")
    head = [f"{r['date']}, {m['cpu']} ({m['flags']}), {r['threads']} threads, {r['layers']} decoder layers, load "
            f"{r['load'][0]:.1f} before and {r['load after'][0]:.1f} after{', each in its turn ahead of other work' if r['realtime'] else ''}.",
            f"{r['version']}; isa {engine['isa']}, activations {engine['activations']}. {versions}.", "",
            "Median time of a stage; bold: how many times fr-run's of the same round (least and most of the rounds).", ""]
    out = ["| bar | measured | least and most | at the peak | bar is | |", "|---|---|---|---|---|---|"]
    for b in r["bars"]:
        spread = "-" if not b["spread"] else f"{number(b['spread'][0])}-{number(b['spread'][1])}"
        word = "not measured" if b["value"] is None else "no bar" if b["met"] is None else "met" if b["met"] else "NOT MET"
        out.append(f"| {b['bar']} | {number(b['value'])} | {spread} | {number(b['reach'])} | {number(b['least'])} | {word} |")
    return "\n".join(head + stage_table(r) + [""] + distance_table(r) + [""] + product_table(r) + out) + "\n"
