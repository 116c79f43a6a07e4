"""The reference forward pass: transformers' LLaVA in float32 with eager attention, every intermediate named as in
docs/DESIGN.md (section Taps), and how far rounding alone may move each of them.

noise(): the same model in float64, run clean and then with every operation's output disturbed as much as one float32
implementation disturbs it when it rounds: a sum of K terms by u*sqrt(K) of its row's size (random walk of K roundings,
u = 2^-24), a norm or an activation by 4u, an addition by u, an angle of RoPE by 3u of itself (float32 inv_freq). What
comes out at each tap is one party's expected error, amplification through the depth included; tests/e2e.c multiplies.
"""

import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from transformers import CLIPImageProcessor, DynamicCache, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

U = 2.0**-24
SIGMAS = 4  # as AGREED_SIGMAS in tests/golden.h; largest single values: twice that
MARGIN = 10


# ---- checkpoint -> model ----

def old_name(name):
    """A tensor name of transformers >= 4.52 (or 5.x) as 4.45.2 calls it."""
    if name.startswith("model."):
        name = name[len("model."):]
        if name.startswith("language_model."):
            name = "language_model.model." + name[len("language_model."):]
    elif name.startswith("lm_head."):
        name = "language_model." + name
    if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
        name = "vision_tower.vision_model." + name[len("vision_tower."):]
    return name


def read_config(path):
    with open(os.path.join(path, "config.json")) as f:
        cfg = json.load(f)
    rope = cfg.get("text_config", {}).pop("rope_parameters", None)
    if rope:  # transformers 5.x
        cfg["text_config"]["rope_theta"] = rope.get("rope_theta", 10000.0)
        if rope.get("rope_type", "default") != "default":
            cfg["text_config"]["rope_scaling"] = {"type": rope["rope_type"], "factor": rope["factor"]}
    config = LlavaConfig(**cfg)
    config._attn_implementation = "eager"
    config.text_config._attn_implementation = "eager"
    config.vision_config._attn_implementation = "eager"
    return config


def shards(path):
    index = os.path.join(path, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as f:
            return sorted(set(json.load(f)["weight_map"].values()))
    return ["model.safetensors"]


def load(path):
    """The checkpoint as it lies on disk, widened to float32, in evaluation mode."""
    model = LlavaForConditionalGeneration._from_config(read_config(path), attn_implementation="eager").float().eval()
    state = {}
    for shard in shards(path):
        with safe_open(os.path.join(path, shard), "pt") as f:
            for name in f.keys():
                state[old_name(name)] = f.get_tensor(name).float()
    want = set(model.state_dict())
    if model.config.text_config.tie_word_embeddings:
        state["language_model.lm_head.weight"] = state["language_model.model.embed_tokens.weight"]
    missing = want - set(state)
    if missing:
        raise SystemExit(f"{path}: tensors missing: {sorted(missing)[:4]}")
    model.load_state_dict({k: v for k, v in state.items() if k in want}, strict=True)
    model.tie_weights()
    return model


def preprocess(path, image):
    """PIL image -> normalised float32 [3,H,W] and the uint8 [H,W,3] before it."""
    proc = CLIPImageProcessor.from_pretrained(path)
    pixels = proc(image, return_tensors="np")["pixel_values"][0].astype(np.float32)
    u8 = proc(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    return torch.from_numpy(pixels), np.ascontiguousarray(u8.transpose(1, 2, 0)).astype(np.uint8)


# ---- model -> taps ----

def embed(model, ids, image_rows):
    x = model.get_input_embeddings()(torch.tensor(ids))
    where = [i for i, t in enumerate(ids) if t == model.config.image_token_index]
    assert len(where) == image_rows.shape[0], (len(where), image_rows.shape)
    x[torch.tensor(where)] = image_rows
    return x


def text_layers(model, x, past=None):
    """Rows [n,hidden] -> (residual after each layer, after the final norm, logits, cache)."""
    lm, outs, hooks = model.language_model, [], []
    for layer in lm.model.layers:
        hooks.append(layer.register_forward_hook(lambda m, a, o: outs.append(o[0][0].clone())))
    norm, logits = [], []  # hooked, because 4.45.2 casts its logits to float32
    hooks.append(lm.model.norm.register_forward_hook(lambda m, a, o: norm.append(o[0].clone())))
    hooks.append(lm.lm_head.register_forward_hook(lambda m, a, o: logits.append(o[0].clone())))
    r = lm(inputs_embeds=x[None], past_key_values=DynamicCache() if past is None else past, use_cache=True)
    for h in hooks:
        h.remove()
    return outs, norm[0], logits[0], r.past_key_values


def vision(model, pixels):
    """-> dict of the vision taps, projector.out included. The reference's own forward makes the same rows."""
    cfg, t = model.config, {}
    v = model.vision_tower(pixels[None], output_hidden_states=True)
    run = cfg.vision_config.num_hidden_layers + 1 + cfg.vision_feature_layer
    t["vision.embed"] = v.hidden_states[0][0]
    for i in range(run):
        t[f"vision.layer.{i}"] = v.hidden_states[i + 1][0]
    t["vision.features"] = v.hidden_states[cfg.vision_feature_layer][0, 1:]
    t["projector.out"] = model.multi_modal_projector(t["vision.features"][None])[0]
    return t


@torch.no_grad()
def taps(model, pixels, ids, steps, opening, labels, forced=None):
    """All taps of one image. opening: ids of "This image is"; labels: (real, fake). forced: feed these step ids
    instead of the own argmax (so that disturbed runs stay on the same path)."""
    t = vision(model, pixels)
    x = embed(model, ids, t["projector.out"])
    t["decoder.embed"] = x
    layers, norm, logits, past = text_layers(model, x)
    for i, h in enumerate(layers):
        t[f"decoder.layer.{i}"] = h
    t["decoder.norm"] = norm
    t["logits"] = logits[-1]
    rows, picks = [logits[-1]], []
    for k in range(steps):
        picks.append(int(rows[-1].argmax()) if forced is None else forced[k])
        if k + 1 < steps:
            row = model.get_input_embeddings()(torch.tensor([picks[-1]]))
            _, _, lg, past = text_layers(model, row, past)
            rows.append(lg[-1])
    if steps:
        t["steps.logits"] = torch.stack(rows)
        t["steps.ids"] = torch.tensor(picks, dtype=torch.int32)
    table = model.get_input_embeddings()
    x = torch.cat([x, table(torch.tensor(opening))]) if opening else x
    _, _, lg, _ = text_layers(model, x)
    t["verdict.logits"] = lg[-1][torch.tensor(labels)]
    return t


@torch.no_grad()
def greedy(model, x, eos, limit):
    """Greedy ids from rows [n,hidden] until eos or limit; eos is the last id when met."""
    _, _, lg, past = text_layers(model, x)
    out = []
    while len(out) < limit:
        out.append(int(lg[-1].argmax()))
        if out[-1] in eos:
            break
        _, _, lg, past = text_layers(model, model.get_input_embeddings()(torch.tensor(out[-1:])), past)
    return out


# ---- float64 and the disturbed runs ----

class Double:
    """The model in float64 throughout: 4.45.2 pins RMSNorm, RoPE and the decoder's softmax to float32."""

    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.saved = LlamaRMSNorm.forward, LlamaRotaryEmbedding.forward, F.softmax

        def norm(m, x):
            return m.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon))

        def rope(m, x, position_ids):
            cfg = m.config
            hd = cfg.head_dim
            inv = 1.0 / cfg.rope_theta ** (torch.arange(0, hd, 2, dtype=torch.float64) / hd)
            if cfg.rope_scaling:
                inv = inv / cfg.rope_scaling["factor"]
            a = position_ids[0][:, None].double() * inv
            if getattr(m, "shake", 0):
                a = a * (1 + m.shake * torch.randn(a.shape, dtype=torch.float64))
            a = torch.cat([a, a], -1)[None]
            return a.cos(), a.sin()

        softmax = F.softmax
        LlamaRMSNorm.forward, LlamaRotaryEmbedding.forward = norm, rope
        F.softmax = lambda x, dim=None, dtype=None, **kw: softmax(x, dim=dim)
        self.model.double()
        return self.model

    def __exit__(self, *exc):
        LlamaRMSNorm.forward, LlamaRotaryEmbedding.forward, F.softmax = self.saved
        self.model.float()


def shake(y, size):
    rms = y.pow(2).mean(-1, keepdim=True).sqrt()
    return y + size * torch.maximum(rms, y.abs()) * torch.randn(y.shape, dtype=y.dtype)


def shakers(model):
    """Hooks that disturb each operation; returns them for removal."""
    hooks = []

    def after(module, size):
        def hook(m, a, o):
            return (shake(o[0], size),) + o[1:] if isinstance(o, tuple) else shake(o, size)
        hooks.append(module.register_forward_hook(hook))

    for name, m in model.named_modules():
        kind, leaf = type(m).__name__, name.rsplit(".", 1)[-1]
        if kind == "Linear":
            after(m, U * math.sqrt(m.in_features))
        elif kind == "Conv2d":
            k = m.in_channels * m.kernel_size[0] ** 2

            def conv(mod, a, o, k=k):
                return shake(o.movedim(1, -1), U * math.sqrt(k)).movedim(-1, 1)
            hooks.append(m.register_forward_hook(conv))
        elif "Norm" in kind or "Activation" in kind or kind in ("SiLU", "GELU"):
            after(m, 4 * U)
        elif kind in ("LlamaDecoderLayer", "CLIPEncoderLayer"):
            after(m, 2 * U)
        elif kind in ("LlamaRotaryEmbedding", "LlamaLinearScalingRotaryEmbedding"):
            m.shake = 3 * U
        if leaf in ("out_proj", "o_proj"):  # scores, softmax and the weighted sum over T keys
            def attn(mod, a):
                t = a[0].shape[-2]
                return (shake(a[0], U * (math.sqrt(max(t, 64)) + 8)),) + a[1:]
            hooks.append(m.register_forward_pre_hook(attn))
        if leaf in ("q_proj", "k_proj"):
            after(m, U * math.sqrt(m.out_features))
    return hooks


def unshake(model, hooks):
    for h in hooks:
        h.remove()
    for m in model.modules():
        if hasattr(m, "shake"):
            del m.shake


def noise(model, run, seeds=6, disturb=shakers):
    """run(model) -> dict of taps. -> {tap: [relative L2, largest row's rms of the absolute error]}, float64 taps.
    disturb: hooks every operation of the model, as shakers() does."""
    with Double(model) as m:
        with torch.no_grad():
            clean = run(m)
            sums = {}
            for seed in range(seeds):
                torch.manual_seed(1000 + seed)
                hooks = disturb(m)
                try:
                    t = run(m)
                finally:
                    unshake(m, hooks)
                for k, v in t.items():
                    if v.dtype == torch.float64:
                        d = (v - clean[k]).pow(2)
                        sums[k] = sums.get(k, 0) + d
    out = {}
    for k, d in sums.items():
        d = d / seeds
        rel = math.sqrt(float(d.sum()) / max(float(clean[k].pow(2).sum()), 1e-300))
        row = math.sqrt(float(d.mean(-1).max()))
        out[k] = [rel, row]
    return out, clean


def rel_l2(a, b):
    a, b = a.double(), b.double()
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


def check_noise(case, t, clean, n):
    """The reference's own float32 error must be what the model of rounding expects."""
    worst = 0
    for k, (rel, _) in n.items():
        worst = max(worst, rel_l2(t[k], clean[k]) / rel)
    print(f"{case}: reference float32 against float64: at most {worst:.2f} of the expected error")
    if worst > 1:
        raise SystemExit(f"{case}: the model of rounding does not cover the reference itself: {worst:.1f}")


def check_steps(case, t, n, distinct):
    """The two conditions that make greedy decoding a test: variety, and no near ties."""
    top = t["steps.logits"].topk(2, -1).values
    margin = float((top[:, 0] - top[:, 1]).min())
    bound = 2 * SIGMAS * n["steps.logits"][1]
    kinds = len(set(t["steps.ids"].tolist()))
    ok = kinds >= distinct and margin >= MARGIN * bound
    print(f"{case}: {kinds} distinct of {len(top)}, margin {margin:.4f} = {margin / bound:.0f} bounds", "" if ok else "(no)")
    return ok
