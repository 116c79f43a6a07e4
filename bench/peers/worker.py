"""One peer of bench/peers/cpu.py as a process that stays: worker.py transformers|llama.cpp INPUT.npz ... reads a JSON object a
line and answers with one.

  {"stage": "vision"}          {"ms": 812.5}     pixels to image rows: CLIP and the projector
  {"stage": "prefill"}         {"ms": ...}       all rows of the prompt and the verdict's opening at once, one row of logits
  {"stage": "decode", "batch": B}                one token of each of B texts behind that prompt
  {"stage": "product", "m": M, "n": N, "k": K}   transformers only: one linear layer by itself, several times
  {"stage": "take", "out": F}  {}                image rows and logits, for the comparison of results
INPUT.npz is the picture and the prompt as fr-run prepared them. The first answer, to nothing, names the peer's versions. With --once the worker does what
a user's program does to reach one verdict, answers and ends.

transformers: bf16 modules as from_pretrained makes them, SDPA attention, dynamic cache; --packed: the same modules, each
linear layer's weights reordered for oneDNN before (torch.ops.mkldnn, as torch.compile's freezing does); --reference OUT:
float32, only the numbers that the others are compared with.
llama.cpp: through llama-cpp-python's binding of the C API; the prompt is given as one batch of 588-odd embedding rows and
the micro-batch is made large enough to hold them, so that weights are read once; a context of its own for each of 8 texts."""

import argparse
import ctypes
import json
import os
import sys
import time

import numpy as np

TEXTS = 8


def milliseconds(f):
    start = time.perf_counter()
    f()
    return (time.perf_counter() - start) * 1e3


# ---- transformers ----

def pack(linear, rows):
    """Replaces what a torch linear layer computes with; its own weights are freed."""
    import torch
    w = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), rows)
    bias = linear.bias
    linear.weight = None
    linear.forward = lambda x: torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "")


def compute_in_float32(model):
    """Every module's own weights are widened while it works, so that a reference needs no more memory than the model."""
    import torch

    def widen(m, _):
        m.float()

    def narrow(m, *_):
        m.bfloat16()
    for m in model.modules():
        if any(True for _ in m.parameters(recurse=False)):
            m.register_forward_pre_hook(widen)
            m.register_forward_hook(narrow)
    return torch.float32


class Transformers:
    def __init__(self, a, given):
        import torch
        import transformers
        self.torch = torch
        torch.set_num_threads(a.threads)
        torch.set_grad_enabled(False)
        transformers.logging.set_verbosity_error()
        dtype = getattr(torch, a.dtype)
        model = transformers.LlavaForConditionalGeneration.from_pretrained(a.model, dtype=dtype).eval()
        if a.reference:
            dtype = compute_in_float32(model)
        self.tower, self.projector = model.model.vision_tower, model.model.multi_modal_projector
        self.text, self.head = model.model.language_model, model.lm_head
        self.pixels = torch.from_numpy(given["pixels"])[None].to(dtype)
        self.ids, self.image_token = torch.from_numpy(given["ids"]), int(given["image_token"])
        self.rows, self.prompt = None, int(given["prompt"])
        if a.packed:
            for m in list(model.modules()):
                if isinstance(m, torch.nn.Linear):
                    pack(m, len(self.ids))
        self.cache = {}
        self.about = dict(transformers=transformers.__version__, torch=torch.__version__, dtype=str(dtype)[6:],
                          packed=a.packed, cpu_capability=torch.backends.cpu.get_cpu_capability())

    def see(self, pixels=None):
        pixels = self.pixels if pixels is None else pixels
        h = self.tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        self.rows = self.projector(h)
        return self.rows

    def embed(self):
        x = self.text.embed_tokens(self.ids)[None]
        x[0, self.ids == self.image_token] = self.rows[0]
        return x

    def prefill(self):
        out = self.text(inputs_embeds=self.embed(), use_cache=True)
        return self.head(out.last_hidden_state[:, -1:]), out.past_key_values

    def texts(self, batch):
        import copy
        if batch not in self.cache:
            if 1 not in self.cache:
                self.cache[1] = self.prefill()[1]
            if batch > 1:
                self.cache[batch] = copy.deepcopy(self.cache[1])
                self.cache[batch].batch_repeat_interleave(batch)
        return self.cache[batch]

    def step(self, batch, cache):
        ids = self.torch.full((batch, 1), 1000)
        self.head(self.text(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state)

    def vision(self, _):
        return milliseconds(self.see)

    def prefill_ms(self, _):
        if self.rows is None:
            self.see()
        return milliseconds(self.prefill)

    def decode(self, order):
        if self.rows is None:
            self.see()
        cache = self.texts(order["batch"])
        steps = [milliseconds(lambda: self.step(order["batch"], cache)) for _ in range(order.get("steps", 1))]
        cache.crop(-len(steps))
        return steps

    def product(self, order):
        torch = self.torch
        layer = torch.nn.Linear(order["k"], order["n"], bias=False, dtype=self.pixels.dtype)
        if self.about["packed"]:
            pack(layer, order["m"])
        x = torch.randn(order["m"], order["k"]).to(self.pixels.dtype)
        return [milliseconds(lambda: layer(x)) for _ in range(order.get("steps", 6))]

    def take(self):
        self.see()
        rows = self.rows[0].float().numpy()
        out = self.text(inputs_embeds=self.embed(), use_cache=True).last_hidden_state[:, self.prompt - 1]
        return dict(rows=rows, logits=self.head(out)[0].float().numpy())

    def class_row_last(self):
        """Image rows as a llama.cpp computes them that puts CLIP's class row behind the patches, and still takes the
        positions from 0 and the rows from 1 on."""
        embeddings = self.tower.vision_model.embeddings if hasattr(self.tower, "vision_model") else self.tower.embeddings
        plain = embeddings.forward

        def forward(pixels, *rest, **kw):
            torch = self.torch
            position = embeddings.position_embedding.weight[None]
            x = plain(pixels, *rest, **kw) - position
            return torch.cat([x[:, 1:], x[:, :1]], 1) + position
        embeddings.forward = forward
        rows = self.see()[0].float().numpy()
        embeddings.forward = plain
        return rows


# ---- llama.cpp ----

def quiet(lib):
    callback = lib.llama_log_callback(lambda level, text, user: None)
    lib.llama_log_set(callback, None)
    return callback


class LlamaCpp:
    def __init__(self, a, given):
        import llama_cpp
        from llama_cpp import llama_cpp as lib, mtmd_cpp as mtmd
        self.lib, self.mtmd = lib, mtmd
        if not a.loud:
            self.callback = quiet(lib)
            mtmd.mtmd_log_set(self.callback, None)
            mtmd.mtmd_helper_log_set(self.callback, None)
        lib.llama_backend_init()
        self.n = len(given["ids"])
        self.given, self.vocab = given, None
        p = lib.llama_model_default_params()
        p.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(a.model.encode(), p)
        if not self.model:
            sys.exit(f"worker.py: llama.cpp does not load {a.model}")
        self.dim = lib.llama_model_n_embd(self.model)
        self.n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.texts = 1 if a.once else TEXTS
        c = lib.llama_context_default_params()
        c.n_seq_max, c.n_ctx = self.texts, self.texts * (-(-(self.n + 64) // 256) * 256)
        c.n_batch = c.n_ubatch = a.micro_batch
        c.n_threads = c.n_threads_batch = a.threads
        self.context = lib.llama_init_from_model(self.model, c)
        self.batch = lib.llama_batch_init(self.n, self.dim, 1)
        self.tokens = lib.llama_batch_init(TEXTS, 0, 1)
        self.rows, self.filled = None, 0
        self.eyes = self.open_eyes(a) if a.vision else None
        self.about = {"llama-cpp-python": llama_cpp.__version__, "file": os.path.basename(a.model),
                      "vision_file": os.path.basename(a.vision or ""),
                      "system": lib.llama_print_system_info().decode().strip()}

    def open_eyes(self, a):
        m = self.mtmd
        p = m.mtmd_context_params_default()
        p.use_gpu, p.print_timings, p.n_threads, p.warmup = False, False, a.threads, False
        eyes = m.mtmd_init_from_file(a.vision.encode(), self.model, p)
        if not eyes:
            sys.exit(f"worker.py: llama.cpp does not load {a.vision}")
        image = np.ascontiguousarray(self.given["u8"])
        self.image = image.ctypes.data_as(ctypes.POINTER(ctypes.c_ubyte))
        self.bitmap = m.mtmd_bitmap_init(image.shape[1], image.shape[0], ctypes.cast(self.image, ctypes.POINTER(ctypes.c_uint8)))
        self.chunks = m.mtmd_input_chunks_init()
        marker = m.mtmd_default_marker()
        text = m.mtmd_input_text(text=marker, text_len=len(marker), add_special=False, parse_special=True)
        bitmaps = (m.mtmd_bitmap_p_ctypes * 1)(self.bitmap)
        if m.mtmd_tokenize(eyes, self.chunks, ctypes.byref(text), bitmaps, 1):
            sys.exit("worker.py: llama.cpp does not take the picture")
        for i in range(m.mtmd_input_chunks_size(self.chunks)):
            self.chunk = m.mtmd_input_chunks_get(self.chunks, i)
            if m.mtmd_input_chunk_get_type(self.chunk) == m.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                break
        return eyes

    def see(self):
        if self.mtmd.mtmd_encode_chunk(self.eyes, self.chunk):
            sys.exit("worker.py: llama.cpp does not encode the picture")

    def seen(self):
        n = self.mtmd.mtmd_input_chunk_get_n_tokens(self.chunk)
        p = self.mtmd.mtmd_get_output_embd(self.eyes)
        return np.ctypeslib.as_array(p, (n, self.dim)).copy()

    def clear(self, sequence, start):
        self.lib.llama_memory_seq_rm(self.lib.llama_get_memory(self.context), sequence, start, -1)

    def run(self, batch):
        if self.lib.llama_decode(self.context, batch):
            sys.exit("worker.py: llama_decode failed")
        self.lib.llama_synchronize(self.context)

    def fill(self, wanted=None):
        """The prompt's rows: of the text from the table of embeddings, of the image those that all are given."""
        wanted = self.n - 1 if wanted is None else wanted
        rows = np.ascontiguousarray(self.given["embedded"], dtype=np.float32)
        b = self.batch
        ctypes.memmove(b.embd, rows.ctypes.data, rows.nbytes)
        b.n_tokens = self.n
        for i in range(self.n):
            b.pos[i], b.n_seq_id[i], b.logits[i] = i, 1, i == wanted
            b.seq_id[i][0] = 0
        return b

    def prefill(self):
        self.clear(0, 0)
        self.run(self.fill())
        self.filled = 1

    def vision(self, _):
        return milliseconds(self.see)

    def prefill_ms(self, _):
        self.clear(0, 0)
        batch = self.fill()
        self.filled = 1
        return milliseconds(lambda: self.run(batch))

    def decode(self, order):
        texts, t = order["batch"], self.tokens
        if not self.filled:
            self.prefill()
        if texts > self.filled:
            memory = self.lib.llama_get_memory(self.context)
            for i in range(1, texts):
                self.clear(i, 0)
                self.lib.llama_memory_seq_cp(memory, 0, i, -1, -1)
            self.filled = texts
        steps = []
        for k in range(order.get("steps", 1)):
            t.n_tokens = texts
            for i in range(texts):
                t.token[i], t.pos[i], t.n_seq_id[i], t.logits[i] = 1000, self.n + k, 1, 1
                t.seq_id[i][0] = i
            steps.append(milliseconds(lambda: self.run(t)))
        for i in range(texts):
            self.clear(i, self.n)
        return steps

    def take(self):
        got = {}
        if self.eyes:
            self.see()
            got["rows"] = self.seen()
        self.clear(0, 0)
        row = int(self.given["prompt"]) - 1
        self.run(self.fill(row))
        self.filled = 0
        p = self.lib.llama_get_logits_ith(self.context, row)
        got["logits"] = np.ctypeslib.as_array(p, (self.n_vocab,)).copy()
        return got


# ---- the process ----

def answer(**what):
    print(json.dumps(what), flush=True)


def serve(peer):
    stages = {"vision": peer.vision, "prefill": peer.prefill_ms, "decode": peer.decode, "product": getattr(peer, "product", None)}
    answer(about=peer.about)
    for line in sys.stdin:
        order = json.loads(line)
        if order["stage"] == "take":
            np.savez(order["out"], **peer.take())
            answer()
        else:
            answer(ms=stages[order["stage"]](order))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("peer", choices=("transformers", "llama.cpp"))
    p.add_argument("input")
    p.add_argument("--model", required=True)
    p.add_argument("--vision", help="llama.cpp: the file with CLIP and the projector")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--micro-batch", type=int, default=1024)
    p.add_argument("--dtype", default="bfloat16")
    p.add_argument("--packed", action="store_true")
    p.add_argument("--reference")
    p.add_argument("--once", action="store_true")
    p.add_argument("--loud", action="store_true")
    a = p.parse_args()
    given = dict(np.load(a.input))
    peer = (Transformers if a.peer == "transformers" else LlamaCpp)(a, given)
    if a.reference:
        got = peer.take()
        embedded = peer.text.embed_tokens(peer.ids).float().numpy()
        embedded[given["ids"] == given["image_token"]] = got["rows"]
        np.savez(a.reference, embedded=embedded, rows_class_last=peer.class_row_last(), **got)
    elif a.once:
        peer.see()
        answer(prefilled=bool(peer.prefill() or True))
    else:
        serve(peer)


if __name__ == "__main__":
    main()
