"""Parts of tests/oracle/full13b.sh: FakeReasoning's real shapes with random f16 weights, in the authors' layout.

  full13b.py make DIR [--layers N] [--towers N] [--tokenizer FILE]    DIR/model (26.8 GB at 40 layers), DIR/clip, DIR/dino.pth
  full13b.py run MODEL CLIP DINO IMAGE OUT     the taps of docs/DESIGN.md by tests/oracle/fakereasoning.py, one decoder
                                               layer in memory; for merged weights of any size, the published ones too
  full13b.py table ORACLE NAME=DUMP...                                distances to ORACLE, stage by stage

Writing 13 billion normal numbers one by one takes longer than reading them, so every tensor is a window of one pool of
2^24 of them, begun where its name says. Sizes of all parts: docs/MODEL.md.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

import full7b

HIDDEN, FFN, VOCAB, HEADS = 5120, 13824, 32000, 40
DIM, TOWER_FFN, TOWER_HEADS, PATCH, IMAGE, DINO_SIDE = 1024, 4096, 16, 14, 336, 37
MID, FUSION_FFN = 32, 20480
POOL = 1 << 24
FAR = 2e-5  # relative L2 distance of any stage to float32


def linear(name, out, inp, bias=True, gain=1.0):
    yield name + ".weight", (out, inp), gain / math.sqrt(inp), 0
    if bias:
        yield name + ".bias", (out,), 0.05, 0


def norm(weight, bias, dim):
    yield weight, (dim,), 0.1, 1
    if bias:
        yield bias, (dim,), 0.05, 0


def model_shapes(layers):
    """(name, shape, std, mean)"""
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN), 0.5, 0
    deep = 1 / math.sqrt(2)
    for i in range(layers):
        p = f"model.layers.{i}."
        for n in "qkv":
            yield from linear(f"{p}self_attn.{n}_proj", HIDDEN, HIDDEN, False, 1.4 if n in "qk" else 1)
        yield from linear(p + "self_attn.o_proj", HIDDEN, HIDDEN, False, deep)
        yield from linear(p + "mlp.gate_proj", FFN, HIDDEN, False)
        yield from linear(p + "mlp.up_proj", FFN, HIDDEN, False)
        yield from linear(p + "mlp.down_proj", HIDDEN, FFN, False, 2 * deep)
        yield from norm(p + "input_layernorm.weight", None, HIDDEN)
        yield from norm(p + "post_attention_layernorm.weight", None, HIDDEN)
    yield from norm("model.norm.weight", None, HIDDEN)
    for n in ("mm_projector", "dino_mm_projector"):
        yield from linear(f"model.{n}.0", HIDDEN, DIM)
        yield from linear(f"model.{n}.2", HIDDEN, HIDDEN)
    c = "model.crossattention."
    yield c + "attention_mlp.mlp.0.weight", (MID, TOWER_HEADS, 1, 1), 0.1, 0
    yield c + "attention_mlp.mlp.0.bias", (MID,), 0.05, 0
    yield c + "attention_mlp.mlp.2.weight", (TOWER_HEADS, MID, 1, 1), 0.1, 0
    yield c + "attention_mlp.mlp.2.bias", (TOWER_HEADS,), 0.05, 0
    for n in ("v", "k", "q", "merge"):
        yield from linear(f"{c}mhatt.0.linear_{n}", HIDDEN, HIDDEN)
    yield from linear(c + "ffn.0.mlp.fc.linear", FUSION_FFN, HIDDEN)
    yield from linear(c + "ffn.0.mlp.linear", HIDDEN, FUSION_FFN)
    for i in range(2):
        yield from norm(f"{c}norm.{i}.a_2", f"{c}norm.{i}.b_2", HIDDEN)
    yield from linear("lm_head", VOCAB, HIDDEN, False, 3)


def clip_shapes(layers):
    v = "vision_model."
    yield v + "embeddings.class_embedding", (DIM,), 0.05, 0
    yield v + "embeddings.patch_embedding.weight", (DIM, 3, PATCH, PATCH), 0.05 / math.sqrt(3 * PATCH * PATCH), 0
    yield v + "embeddings.position_embedding.weight", ((IMAGE // PATCH) ** 2 + 1, DIM), 0.05, 0
    for n in ("pre_layrnorm", "post_layernorm"):
        yield from norm(f"{v}{n}.weight", f"{v}{n}.bias", DIM)
    for i in range(layers):
        p = f"{v}encoder.layers.{i}."
        for n in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(p + "self_attn." + n, DIM, DIM)
        for n in ("layer_norm1", "layer_norm2"):
            yield from norm(f"{p}{n}.weight", f"{p}{n}.bias", DIM)
        yield from linear(p + "mlp.fc1", TOWER_FFN, DIM)
        yield from linear(p + "mlp.fc2", DIM, TOWER_FFN)


def dino_shapes(layers):
    yield "cls_token", (1, 1, DIM), 0.05, 0
    yield "pos_embed", (1, 1 + DINO_SIDE ** 2, DIM), 0.05, 0
    yield "mask_token", (1, DIM), 0.05, 0
    yield "patch_embed.proj.weight", (DIM, 3, PATCH, PATCH), 0.5 / math.sqrt(3 * PATCH * PATCH), 0
    yield "patch_embed.proj.bias", (DIM,), 0.05, 0
    for i in range(layers):
        p = f"blocks.{i}."
        for n in ("norm1", "norm2"):
            yield from norm(f"{p}{n}.weight", f"{p}{n}.bias", DIM)
        yield from linear(p + "attn.qkv", 3 * DIM, DIM, gain=1.4)
        yield from linear(p + "attn.proj", DIM, DIM)
        yield p + "ls1.gamma", (DIM,), 0.02, 0.2
        yield p + "ls2.gamma", (DIM,), 0.02, 0.2
        yield from linear(p + "mlp.fc1", TOWER_FFN, DIM)
        yield from linear(p + "mlp.fc2", DIM, TOWER_FFN)
    yield from norm("norm.weight", "norm.bias", DIM)


class Pool:
    def __init__(self):
        self.values = torch.randn(POOL, generator=torch.Generator().manual_seed(13))

    def blocks(self, name, shape, std, mean):
        """The tensor in f16, piece by piece."""
        at = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "little") % POOL
        left = math.prod(shape)
        while left:
            n = min(left, POOL - at)
            yield (self.values[at:at + n] * std + mean).to(torch.float16)
            left, at = left - n, 0 if n == left else (at + n + 977) % POOL

    def tensor(self, name, shape, std, mean):
        return torch.cat(list(self.blocks(name, shape, std, mean))).reshape(shape)


def write_shard(path, table, pool):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in table:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for row in table:
            for block in pool.blocks(*row):
                f.write(block.view(torch.int16).numpy().tobytes())
    return at


def write_json(path, obj):
    with open(path, "w") as f:
        json.dump(obj, f, indent=2)


def make_model(out, layers, tower, tokenizer, pool):
    os.makedirs(out, exist_ok=True)
    write_json(os.path.join(out, "config.json"), dict(
        architectures=["LlavaLlamaForCausalLM"], model_type="llava_llama", hidden_size=HIDDEN, intermediate_size=FFN,
        num_hidden_layers=layers, num_attention_heads=HEADS, num_key_value_heads=HEADS, hidden_act="silu", vocab_size=VOCAB,
        rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=None, max_position_embeddings=4096, attention_bias=False,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0, torch_dtype="float16",
        mm_vision_tower=tower, mm_hidden_size=DIM, mm_projector_type="mlp2x_gelu", mm_vision_select_layer=-2,
        mm_vision_select_feature="patch", mm_patch_merge_type="flat", image_aspect_ratio="pad",
        mm_use_im_start_end=False, mm_use_im_patch_token=False, tokenizer_model_max_length=2048,
        tokenizer_padding_side="right", use_cache=True, transformers_version="4.37.2"))
    write_json(os.path.join(out, "generation_config.json"),
               dict(bos_token_id=1, eos_token_id=2, pad_token_id=0, transformers_version="4.37.2"))
    special = {n: dict(content=c, lstrip=False, normalized=False, rstrip=False, single_word=False)
               for n, c in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))}
    write_json(os.path.join(out, "tokenizer_config.json"),
               dict(add_bos_token=True, add_eos_token=False, legacy=False, model_max_length=2048, padding_side="right",
                    tokenizer_class="LlamaTokenizer", clean_up_tokenization_spaces=False,
                    **{k: dict(v, __type="AddedToken") for k, v in special.items()}))
    write_json(os.path.join(out, "special_tokens_map.json"), dict(special, pad_token="<unk>"))
    if tokenizer:
        shutil.copyfile(tokenizer, os.path.join(out, "tokenizer.model"))
    else:
        full7b.stand_in_tokenizer(os.path.join(out, "tokenizer.model"))
    parts, size = [[]], 0
    for row in model_shapes(layers):
        size += 2 * math.prod(row[1])
        if size > 5e9:
            parts.append([])
            size = 2 * math.prod(row[1])
        parts[-1].append(row)
    where, total = {}, 0
    for i, table in enumerate(parts):
        shard = f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors"
        total += write_shard(os.path.join(out, shard), table, pool)
        where.update({row[0]: shard for row in table})
    write_json(os.path.join(out, "model.safetensors.index.json"), {"metadata": {"total_size": total}, "weight_map": where})
    return total


def make_clip(out, layers, pool):
    os.makedirs(out, exist_ok=True)
    write_json(os.path.join(out, "config.json"), dict(
        architectures=["CLIPModel"], model_type="clip", projection_dim=768,
        text_config=dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12),
        vision_config=dict(model_type="clip_vision_model", hidden_size=DIM, intermediate_size=TOWER_FFN, image_size=IMAGE,
                           num_attention_heads=TOWER_HEADS, num_hidden_layers=layers, patch_size=PATCH, projection_dim=768)))
    write_json(os.path.join(out, "preprocessor_config.json"), dict(
        crop_size=IMAGE, do_center_crop=True, do_normalize=True, do_resize=True, feature_extractor_type="CLIPFeatureExtractor",
        image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711], resample=3, size=IMAGE))
    state = {row[0]: pool.tensor(*row) for row in clip_shapes(layers)}
    state["vision_model.embeddings.position_ids"] = torch.arange((IMAGE // PATCH) ** 2 + 1)[None]
    state["logit_scale"] = torch.tensor(2.6592)
    state["visual_projection.weight"] = pool.tensor("visual_projection.weight", (768, DIM), 0.02, 0)
    torch.save(state, os.path.join(out, "pytorch_model.bin"))


def make(a):
    pool = Pool()
    clip = os.path.join(a.dir, "clip")
    make_clip(clip, a.towers, pool)
    torch.save({r[0]: pool.tensor(*r).float() for r in dino_shapes(a.towers)}, os.path.join(a.dir, "dino.pth"))
    total = make_model(os.path.join(a.dir, "model"), a.layers, os.path.abspath(clip), a.tokenizer, pool)
    print(f"made {total / 1e9:.2f} GB, {np.round(total / 2 / 1e9, 3)} billion parameters besides the towers")


# ---- run ----

class Shards:
    """Tensors of a sharded checkpoint, safetensors or torch's, one at a time."""

    def __init__(self, path):
        self.path, self.open = path, {}
        for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
            if os.path.exists(os.path.join(path, index)):
                with open(os.path.join(path, index)) as f:
                    self.where = json.load(f)["weight_map"]
                return
        raise SystemExit(f"{path}: neither model.safetensors.index.json nor pytorch_model.bin.index.json")

    def get(self, name):
        from safetensors import safe_open
        path = os.path.join(self.path, self.where[name])
        if path.endswith(".safetensors"):
            with safe_open(path, "pt") as f:
                return f.get_tensor(name).float()
        if path not in self.open:
            self.open = {path: torch.load(path, map_location="cpu", mmap=True, weights_only=True)}
        return self.open[path][name].float()

    def shape(self, name):
        return self.get(name).shape

    def fill(self, module, prefix):
        module.load_state_dict({k: self.get(prefix + k) for k in module.state_dict()}, strict=True, assign=True)
        return module.eval()


def towers(a, cfg, shards):
    """Everything before the decoder -> taps."""
    import fakereasoning as fr
    from PIL import Image
    from torch import nn
    from transformers import CLIPVisionModel

    m, dino, hidden = nn.Module(), fr.dino_tensors(a.dino), cfg["hidden_size"]
    mid, heads = shards.shape("model.crossattention.attention_mlp.mlp.0.weight")[:2]
    ffn = shards.shape("model.crossattention.ffn.0.mlp.fc.linear.weight")[0]
    widths = [shards.shape(f"model.{n}.0.weight")[1] for n in ("mm_projector", "dino_mm_projector")]
    m.clip = CLIPVisionModel._from_config(fr.clip_config(a.clip), attn_implementation="eager")
    fr.load_strict(m.clip, {"vision_model." + k: v for k, v in fr.below(
        fr.tensors_of(a.clip, "pytorch_model"), "vision_model.").items()}, drop=["position_ids"])
    m.dino = fr.Dino(**fr.dino_sizes(dino, heads))
    fr.load_strict(m.dino, dino)
    with torch.device("meta"):
        parts = dict(mm_projector=fr.projector(widths[0], hidden), dino_mm_projector=fr.projector(widths[1], hidden),
                     crossattention=fr.Fusion(hidden, heads, mid, ffn))
    for name, part in parts.items():
        setattr(m, name, shards.fill(part, f"model.{name}."))
    m.select_layer = cfg["mm_vision_select_layer"]
    m.eval()
    pixels, u8 = fr.preprocess(a.clip, Image.open(a.image), cfg.get("image_aspect_ratio") == "pad")
    t = fr.see(m, pixels)
    t["pixels"], t["pixels.u8"] = pixels, torch.from_numpy(u8)
    return t


@torch.no_grad()
def run(a):
    import fakereasoning as fr
    from safetensors.torch import save_file
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding

    start, path = time.time(), a.model
    cfg, shards, text = fr.get_json(os.path.join(path, "config.json")), Shards(path), fr.Text(path)
    t = towers(a, cfg, shards)
    print(f"towers and fusion {time.time() - start:.1f} s", file=sys.stderr)
    tc = LlamaConfig(**{k: v for k, v in cfg.items() if k not in ("architectures", "model_type")})
    tc._attn_implementation = "eager"
    prompt = text.prompt(t["fusion.out"].shape[0])
    t["input_ids"], n = torch.tensor(prompt, dtype=torch.int32), len(prompt)
    ids = torch.tensor(prompt + text.opening)  # causal: the opening's rows leave the prompt's as they are
    x = shards.get("model.embed_tokens.weight")[ids.clamp_min(0)].clone()
    x[ids == fr.IMAGE_ID] = t["fusion.out"]
    t["decoder.embed"] = x[:n]
    positions = torch.arange(len(ids))[None]
    angles = LlamaRotaryEmbedding(config=tc)(x[None], positions)
    mask = torch.full((len(ids), len(ids)), torch.finfo(torch.float32).min).triu(1)[None, None]
    for i in range(tc.num_hidden_layers):
        with torch.device("meta"):
            layer = LlamaDecoderLayer(tc, i)
        shards.fill(layer, f"model.layers.{i}.")
        for m in layer.modules():
            if isinstance(m, LlamaRotaryEmbedding):
                m.to_empty(device="cpu")  # its own copy is not asked for when the angles are given
        x = layer(x[None], attention_mask=mask, position_ids=positions, position_embeddings=angles)[0][0]
        t[f"decoder.layer.{i}"] = x[:n]
        print(f"layer {i} {time.time() - start:.1f} s", file=sys.stderr)
        del layer
    with torch.device("meta"):
        norm = LlamaRMSNorm(tc.hidden_size, tc.rms_norm_eps)
    x = shards.fill(norm, "model.norm.")(x)
    t["decoder.norm"] = x[:n]
    logits = F.linear(x[[n - 1, -1]], shards.get("lm_head.weight"))
    t["logits"], t["verdict.logits"] = logits[0], logits[1][torch.tensor(text.labels)]
    save_file({k: v.contiguous().clone() for k, v in t.items()}, a.out)
    print(f"torch float32: {time.time() - start:.0f} s, {n} positions, P(fake) direct {fr.p_fake(t['verdict.logits']):.9g}")


# ---- table ----

def natural(name):
    return [int(p) if p.isdigit() else p for p in name.split(".")]


def table(a):
    from safetensors import safe_open
    want, bad = safe_open(a.oracle, "pt"), 0
    runs = [(r.split("=", 1)[0], safe_open(r.split("=", 1)[1], "pt")) for r in a.runs]
    order = list(runs[0][1].keys())
    print("| stage | rms | " + " | ".join(f"{n} rel-L2 | {n} max-abs" for n, _ in runs) + " |")
    print("|---|---|" + "---|---|" * len(runs))
    for k in sorted((k for k in want.keys() if k in order), key=natural):
        y, cells = want.get_tensor(k).double(), []
        for i, (_, r) in enumerate(runs):
            d = r.get_tensor(k).double() - y
            rel = float(d.norm() / y.norm())
            cells.append(f"{rel:.2e} | {float(d.abs().max()):.2e}")
            bad += i == 0 and rel > (0 if k in ("pixels", "pixels.u8", "input_ids") else FAR)
        print(f"| {k} | {float(y.pow(2).mean().sqrt()):.3g} | " + " | ".join(cells) + " |")
    print(f"\n{'FAIL' if bad else 'ok'}: {bad} stages of {runs[0][0]} further than {FAR:g} from float32, or pixels and ids not exact")
    sys.exit(bad > 0)


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="what", required=True)
    m = sub.add_parser("make")
    m.add_argument("dir")
    m.add_argument("--layers", type=int, default=40)
    m.add_argument("--towers", type=int, default=24)
    m.add_argument("--tokenizer")
    r = sub.add_parser("run")
    for n in ("model", "clip", "dino", "image", "out"):
        r.add_argument(n)
    t = sub.add_parser("table")
    t.add_argument("oracle")
    t.add_argument("runs", nargs="+")
    a = p.parse_args()
    {"make": make, "run": run, "table": table}[a.what](a)


if __name__ == "__main__":
    main()
