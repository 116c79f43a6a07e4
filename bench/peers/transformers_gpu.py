"""What PyTorch and transformers reach on this device, on the same shapes, weights, picture and prompt as fr-run.

  transformers_gpu.py kernels ROWS.jsonl                torch on the shapes of fr-run's kernel rows (bench kernels --json)
  transformers_gpu.py model DIR INPUT.safetensors       transformers on a checkpoint: prefill, decode, verdict images/s
      [--compile] [--tokens N] [--batches 1,4,8,16] [--image FILE]

INPUT holds `input_ids` and `pixels` as fr-run feeds them (fr-run dump --tap '[ip][nix]*'), so that no tokenizer and no
processor version comes into it. One JSON object a line on stdout. Works with transformers 4.45 to 5.x.

kernels: linear by torch.nn.functional.linear (cuBLAS), glu by two of them and silu, attention by
scaled_dot_product_attention restricted to its flash kernel (its choice of kernel where flash refuses, and the line says
so). Times are those of a CUDA graph of many calls over several sets of inputs, so that caches are cold where fr-run's are.
model: decode is the difference of two runs of generate, which leaves prefill out. Verdict is one forward pass over prompt
and opening with the logits of the last row only, in batches; with_images also decodes and resizes the picture by
CLIPImageProcessor for each image, as fr-run does.
"""

import argparse
import json
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
COLD = 512 << 20 if CUDA else 1 << 20  # bytes that one turn through all sets of inputs reads at least
OPENING = 3  # tokens of the forced opening


def line(**fields):
    print(json.dumps(fields), flush=True)


def sync():
    if CUDA:
        torch.cuda.synchronize()


# ---- kernels ----

def graph_time(calls, seconds=0.3):
    """Seconds of one call: the median over replays of a graph of all `calls`, or over plain runs on a CPU."""
    for c in calls[:3]:
        c()
    sync()
    if not CUDA:
        times = []
        until = time.perf_counter() + 0.05
        while time.perf_counter() < until or len(times) < 3:
            t = time.perf_counter()
            for c in calls:
                c()
            times.append((time.perf_counter() - t) / len(calls))
        return statistics.median(times)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        keep = [c() for c in calls]
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        graph.replay()
        b.record()
        b.synchronize()
        times.append(a.elapsed_time(b) / 1e3 / len(calls))
    del keep
    return statistics.median(times)


def sets(bytes_each, most=64):
    return max(1, min(most, -(-COLD // max(1, int(bytes_each)))))


def random(*shape, dtype):
    return torch.randn(shape, device=DEVICE, dtype=dtype)


DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def bench_linear(m, n, k, dtype, glu):
    mats = 2 if glu else 1
    count = sets(n * k * mats * dtype.itemsize, 16 if m > 64 else 64)
    x = random(m, k, dtype=dtype)
    w = [[random(n, k, dtype=dtype) for _ in range(mats)] for _ in range(count)]
    if glu:
        return graph_time([lambda v=v: F.silu(F.linear(x, v[0])) * F.linear(x, v[1]) for v in w]), "linear+linear+silu"
    return graph_time([lambda v=v: F.linear(x, v[0]) for v in w]), "linear"


def bench_attention(b, q, kv, heads, kv_heads, hd, dtype, causal, bias):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    count = sets(2 * b * kv * kv_heads * hd * dtype.itemsize, 32)
    args = [[random(b, heads, q, hd, dtype=dtype)] + [random(b, kv_heads, kv, hd, dtype=dtype) for _ in range(2)]
            for _ in range(count)]
    extra = {}
    if bias:
        extra["attn_mask"] = random(b, heads, q, kv, dtype=dtype)
    if heads != kv_heads:
        extra["enable_gqa"] = True
    calls = [lambda a=a: F.scaled_dot_product_attention(*a, is_causal=causal and q > 1, **extra) for a in args]
    try:
        if not CUDA:
            raise RuntimeError("no device")
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            return graph_time(calls), "flash"
    except RuntimeError:
        return graph_time(calls), "sdpa's choice"


def bench_row(name):
    """Seconds and what ran, or None for a row that has no peer."""
    m = re.fullmatch(r"(linear|glu)(?:_decode)?_(bf16|f16|f32)/m(\d+)_n(\d+)_k(\d+)(.*)", name)
    if m and "also" not in m[6]:
        return bench_linear(int(m[3]), int(m[4]), int(m[5]), DTYPES[m[2]], m[1] == "glu")
    m = re.fullmatch(r"attn_dense/m(\d+)_kv(\d+)_h(\d+)_hd(\d+)(?:_images(\d+))?(_bias)?", name)
    if m:
        return bench_attention(int(m[5] or 1), int(m[1]), int(m[2]), int(m[3]), int(m[3]), int(m[4]), torch.float16, False,
                               bool(m[6]))
    m = re.fullmatch(r"attn_(prefill|decode)_(f16|f32)/m(\d+)_seqs(\d+)_kv(\d+)_h(\d+)_kvh(\d+)_hd(\d+)", name)
    if m:
        rows, seqs = int(m[3]), int(m[4])
        return bench_attention(seqs, rows // seqs, int(m[5]), int(m[6]), int(m[7]), int(m[8]), DTYPES[m[2]],
                               m[1] == "prefill", False)
    return None


def bench_peak(n=8192):
    """A large square product by cuBLAS: on 9.0 it uses wgmma, which does more than the mma.sync of fr-run's own peak."""
    x, w = (random(n, n, dtype=torch.bfloat16) for _ in range(2))
    seconds = graph_time([lambda: F.linear(x, w)] * 8)
    line(bench="peer-peak", bf16_tflops=2 * n**3 / seconds * 1e-12, by=f"torch {torch.__version__} linear {n}^3")


def kernels(a):
    if CUDA:
        bench_peak()
    done = set()
    for text in open(a.rows):
        row = json.loads(text)
        name = row.get("name")
        if row.get("bench") != "kernel" or name in done:
            continue
        done.add(name)
        try:
            got = bench_row(name)
        except (RuntimeError, torch.OutOfMemoryError) as e:  # one shape that torch cannot run is a line, not the end
            line(bench="peer-kernel", name=name, error=str(e).split("\n")[0])
            continue
        if got:
            line(bench="peer-kernel", name=name, us=got[0] * 1e6, by="torch " + torch.__version__ + " " + got[1])
        if CUDA:
            torch.cuda.empty_cache()


# ---- model ----

def load(path):
    import transformers
    from transformers import LlavaForConditionalGeneration
    dtype = torch.bfloat16 if CUDA else torch.float32
    major = int(transformers.__version__.split(".")[0])
    model = LlavaForConditionalGeneration.from_pretrained(path, **{"dtype" if major >= 5 else "torch_dtype": dtype})
    return model.to(DEVICE).eval(), transformers.__version__


class Peer:
    def __init__(self, a):
        from safetensors import safe_open
        start = time.perf_counter()
        self.model, self.version = load(a.dir)
        sync()
        self.load_s = time.perf_counter() - start
        with safe_open(a.input, "pt") as f:
            self.ids = f.get_tensor("input_ids").long()[None].to(DEVICE)
            self.pixels = f.get_tensor("pixels")[None].to(DEVICE, self.model.dtype)
        config = self.model.config
        token = getattr(config, "image_token_index", None) or config.image_token_id
        config.image_seq_length = int((self.ids == token).sum())  # 4.45 takes the ids as expanded only then
        self.compile, self.image = a.compile, a.image
        self.by = f"transformers {self.version} {'static cache + torch.compile' if a.compile else 'eager'}"

    def inputs(self, batch, extra=0):
        ids = self.ids.repeat(batch, 1)
        if extra:
            ids = torch.cat([ids, ids[:, -extra:]], 1)
        return dict(input_ids=ids, pixel_values=self.pixels.repeat(batch, 1, 1, 1), attention_mask=torch.ones_like(ids))

    @torch.inference_mode()
    def generate(self, batch, tokens):
        how = dict(cache_implementation="static") if self.compile else {}
        start = time.perf_counter()
        out = self.model.generate(**self.inputs(batch), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, **how)
        sync()
        made = out.shape[1] - (self.ids.shape[1] if out.shape[1] > tokens else 0)
        assert made == tokens, (made, tokens)
        return time.perf_counter() - start

    @torch.inference_mode()
    def verdict(self, batch):
        inputs = self.inputs(batch, OPENING)
        last = dict(logits_to_keep=1) if "logits_to_keep" in self.model.forward.__code__.co_varnames else {}
        if not last and "num_logits_to_keep" in self.model.forward.__code__.co_varnames:
            last = dict(num_logits_to_keep=1)
        start = time.perf_counter()
        self.model(**inputs, **last, use_cache=False).logits[:, -1, :2].float().cpu()
        return time.perf_counter() - start

    def images(self, batch):
        """Seconds for decoding and resizing `batch` pictures as the checkpoint's processor does."""
        from PIL import Image
        from transformers import CLIPImageProcessor
        if not self.image:
            return None
        processor = CLIPImageProcessor(**self.preprocess())
        start = time.perf_counter()
        for _ in range(batch):
            processor(Image.open(self.image), return_tensors="pt")
        return time.perf_counter() - start

    def preprocess(self):
        import os
        with open(os.path.join(self.model.config._name_or_path, "preprocessor_config.json")) as f:
            cfg = json.load(f)
        cfg.pop("image_processor_type", None)
        return cfg


def repeat(f, seconds, most=20, least=3):
    times, until = [], time.perf_counter() + seconds
    while len(times) < least or (time.perf_counter() < until and len(times) < most):
        times.append(f())
    return times


def spread(times):
    return dict(median=statistics.median(times), least=min(times), most=max(times), runs=len(times))


def compiled_graphs():
    import torch._dynamo.utils as u
    return int(u.counters["stats"].get("unique_graphs", 0))


def decode_rate(peer, batch, tokens, seconds):
    few = max(2, tokens // 8)
    peer.generate(batch, tokens)  # compiles and warms up
    short = statistics.median(repeat(lambda: peer.generate(batch, few), seconds / 3))
    full = repeat(lambda: peer.generate(batch, tokens), seconds * 2 / 3)
    step = [(t - short) / (tokens - few) for t in full]
    return dict(batch=batch, tokens=tokens - few, tok_s=batch / statistics.median(step),
                tok_s_least=batch / max(step), tok_s_most=batch / min(step), runs=len(step))


def model(a):
    peer = Peer(a)
    by = dict(by=peer.by)
    line(bench="peer-model", what="load", seconds=peer.load_s, **by)
    if peer.compile:
        try:
            peer.generate(1, 4)  # 5.x compiles by itself on a GPU
        except ValueError as e:  # 4.45's LLaVA takes no static cache
            return line(bench="peer-model", what="decode", batch=1, error=str(e).split("\n")[0], **by)
        if compiled_graphs() == 0:
            peer.model.forward = torch.compile(peer.model.forward, mode="reduce-overhead" if CUDA else "default")
    for batch in [int(b) for b in a.batches.split(",")]:
        try:
            if batch == 1 or not peer.compile:
                peer.generate(batch, 2)
                t = spread(repeat(lambda: peer.generate(batch, 1), a.seconds))
                line(bench="peer-model", what="first-token", batch=batch, ms=t["median"] * 1e3, ms_least=t["least"] * 1e3,
                     ms_most=t["most"] * 1e3, runs=t["runs"], **by)
            line(bench="peer-model", what="decode", **decode_rate(peer, batch, a.tokens, a.seconds), **by)
        except (RuntimeError, ValueError, torch.OutOfMemoryError) as e:  # 4.45's LLaVA takes no static cache
            line(bench="peer-model", what="decode", batch=batch, error=str(e).split("\n")[0], **by)
        if peer.compile:
            line(bench="peer-model", what="graphs", compiled=compiled_graphs(), **by)
    for batch in [] if peer.compile else [int(b) for b in a.batches.split(",")]:
        try:
            peer.verdict(batch)
            t = statistics.median(repeat(lambda: peer.verdict(batch), a.seconds))
        except (RuntimeError, torch.OutOfMemoryError) as e:
            line(bench="peer-model", what="verdict", batch=batch, error=str(e).split("\n")[0], **by)
            continue
        pictures = peer.images(batch)
        line(bench="peer-model", what="verdict", batch=batch, images_s=batch / t,
             images_s_with_images=batch / (t + pictures) if pictures else None, **by)
    if CUDA:
        line(bench="peer-model", what="memory", peak_bytes=torch.cuda.max_memory_allocated(), **by)


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="what", required=True)
    k = sub.add_parser("kernels")
    k.add_argument("rows")
    m = sub.add_parser("model")
    m.add_argument("dir")
    m.add_argument("input")
    m.add_argument("--compile", action="store_true")
    m.add_argument("--tokens", type=int, default=72)
    m.add_argument("--batches", default="1,4,8,16")
    m.add_argument("--image")
    m.add_argument("--seconds", type=float, default=3)
    a = p.parse_args()
    torch.manual_seed(1)
    {"kernels": kernels, "model": model}[a.what](a)


if __name__ == "__main__":
    sys.exit(main())
