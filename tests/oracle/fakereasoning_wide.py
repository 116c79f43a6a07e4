"""FakeReasoning at its real widths, few layers: the golden of tests/e2e_wide.c.

usage: fakereasoning_wide.py GOLDEN     writes GOLDEN/e2e/fr-wide/golden.safetensors

1.4 GB of weights in bfloat16 lie in no file: each value is a function of its tensor's name and its place in it, written
once here and once in tests/wide.h. values() says which. A golden holds 1024 values of each tap and where they lie
(`at.TAP`), with the noise of the whole tap. Needs 9 GB of memory and some minutes.
"""

import json
import math
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig

import checkpoints
import fakereasoning as fr
import llava

STEPS, SAMPLES, PICTURE, SIDE = 2, 1024, "wide.png", 56
HIDDEN, WIDTH = 5120, 1024
CLIP = dict(hidden_size=WIDTH, num_attention_heads=16, intermediate_size=4096, num_hidden_layers=3, patch_size=14,
            hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=768)
DINO = dict(dim=WIDTH, heads=16, ffn=4096, layers=2, patch=14, side=37)
FUSION = dict(heads=16, mid=32, ffn=20480)
TEXT = dict(vocab_size=512, hidden_size=HIDDEN, intermediate_size=13824, num_hidden_layers=1, num_attention_heads=40,
            num_key_value_heads=40, max_position_embeddings=4096, rms_norm_eps=1e-5, rope_theta=10000.0,
            hidden_act="silu", tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0)


# ---- weights ----

def size_of(name, shape):
    """-> (mean, deviation) of a tensor's values."""
    leaf = name.rsplit(".", 1)[-1]
    fan = math.prod(shape[1:])
    if leaf == "gamma":
        return 1, 0.2
    if leaf == "a_2" or leaf == "weight" and "norm" in name:
        return 1, 0.1
    if leaf in ("bias", "b_2") or leaf in ("cls_token", "pos_embed", "mask_token") or "class_embedding" in name \
            or "position_embedding" in name:
        return 0, 0.05
    if "embed_tokens" in name:
        return 0, 0.25
    gain = (0.05 if "patch_embed" in name else 0.5 if "attention_mlp" in name else 3 if "lm_head" in name
            else 1.4 if "q_proj" in name or "k_proj" in name or "attn.qkv" in name else 1)
    return 0, gain / math.sqrt(fan)


def values(name, shape):
    """Uniform: u = the upper 24 bits of splitmix64's k-th output, from the FNV-1a hash of the name on, as a number in
    [-1, 1); mean + u * (float)(deviation * sqrt 3) in float32, rounded to bfloat16. -> float32"""
    mean, deviation = size_of(name, shape)
    seed = 0xcbf29ce484222325
    for c in name.encode():
        seed = (seed ^ c) * 0x100000001b3 % 2**64
    scale, out = np.float32(deviation * math.sqrt(3)), np.empty(math.prod(shape), np.float32)
    with np.errstate(over="ignore"):
        for at in range(0, len(out), 1 << 22):
            k = np.arange(at + 1, min(at + (1 << 22), len(out)) + 1, dtype=np.uint64)
            z = np.uint64(seed) + k * np.uint64(0x9e3779b97f4a7c15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
            z ^= z >> np.uint64(31)
            u = ((z >> np.uint64(40)).astype(np.int64) - (1 << 23)).astype(np.float32) * np.float32(2.0**-23)
            bits = (np.float32(mean) + u * scale).view(np.uint32)
            bits = bits + np.uint32(0x7fff) + (bits >> np.uint32(16) & np.uint32(1))
            out[at:at + len(k)] = (bits & np.uint32(0xffff0000)).view(np.float32)
    return torch.from_numpy(out).reshape(shape)


def build():
    nn.Linear.reset_parameters = nn.Conv2d.reset_parameters = lambda self: None  # all is filled below
    nn.init.normal_ = lambda tensor, *a, **k: tensor
    torch.Tensor.normal_ = lambda self, *a, **k: self
    m = fr.FakeReasoning(CLIPVisionConfig(image_size=SIDE, **CLIP), LlamaConfig(**TEXT), DINO, FUSION)
    for prefix, module in (("", m.clip), ("", m.dino), ("", m.language_model), ("model.mm_projector.", m.mm_projector),
                           ("model.dino_mm_projector.", m.dino_mm_projector),
                           ("model.crossattention.", m.crossattention)):
        for name, p in module.named_parameters():
            p.data = values(prefix + name, tuple(p.shape))
    return m


def read(image):
    """-> pixels, pixels.u8, prompt ids, the tokenizer"""
    work = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "golden", "e2e", "fr-merged-f16")
    with open(os.path.join(work, "clip", "preprocessor_config.json")) as f:
        pre = dict(json.load(f), size=SIDE, crop_size=SIDE)
    pixels, u8 = fr.preprocess_by(pre, image, True)
    text = fr.Text(os.path.join(work, "model"))
    return pixels, u8, text.prompt((SIDE // CLIP["patch_size"])**2), text


def finish(t, pixels, u8, ids):
    t = {k: v.float().contiguous().clone() if v.is_floating_point() else v for k, v in t.items()}
    t["pixels"], t["pixels.u8"] = pixels, torch.from_numpy(u8)
    t["input_ids"] = torch.tensor(ids, dtype=torch.int32)
    return t


def sample(t):
    """The golden: SAMPLES values of each float tensor that has more, and where they lie."""
    out, g = {}, torch.Generator().manual_seed(3)
    for k, v in t.items():
        if v.numel() > SAMPLES and not k.startswith("noise."):
            out["at." + k] = torch.randperm(v.numel(), generator=g)[:SAMPLES].sort().values.to(torch.int32)
            v = v.flatten()[out["at." + k].long()]
        out[k] = v
    return out


def golden(out):
    pixels, u8, ids, text = read(checkpoints.picture(*checkpoints.IMAGES[PICTURE]))
    m = build()
    t = fr.taps(m, pixels, ids, STEPS, text.opening, text.labels)
    steps = t["steps.ids"].tolist()
    n, clean = llava.noise(m, lambda x: fr.taps(x, pixels.double(), ids, STEPS, text.opening, text.labels, steps),
                           seeds=3, disturb=fr.shakers)
    llava.check_noise("fr-wide", t, clean, n)
    if not llava.check_steps("fr-wide", t, n, 1):
        raise SystemExit("fr-wide: a greedy choice is too close")
    t = finish(t, pixels, u8, ids)
    t.update({"noise." + k: torch.tensor(v, dtype=torch.float32) for k, v in n.items()})
    os.makedirs(out, exist_ok=True)
    save_file(sample(t), os.path.join(out, "golden.safetensors"),
              metadata={"made": json.dumps(dict(image=PICTURE, chat="llava_v1"))})


if __name__ == "__main__":
    golden(os.path.join(sys.argv[1], "e2e", "fr-wide"))
