"""Parts of tests/oracle/full7b.sh: a random checkpoint of FakeVLM's real shapes, and transformers on it layer by layer.

  full7b.py make DIR [--layers N] [--vision-layers N] [--tokenizer FILE]   the checkpoint (13.5 GB at 32 layers)
  full7b.py run DIR IMAGE OUT float32|bfloat16                             the taps of docs/DESIGN.md by transformers
  full7b.py table ORACLE NAME=DUMP...                                      distances to ORACLE, stage by stage

make streams: one tensor in memory at a time, each seeded by its name. run loads each decoder layer, runs it, drops it.
bfloat16 is what a GPU computes: every operation's inputs and outputs rounded to bf16, products summed in float32 (CPUs
without bf16 arithmetic run torch's own bf16 products at a crawl, so a product is done on widened values and rounded).
"""

import argparse
import hashlib
import json
import math
import os
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

HIDDEN, FFN, VOCAB, VDIM, VFFN, IMAGE, PATCH = 4096, 11008, 32064, 1024, 4096, 336, 14
HEADS, VISION_HEADS = 32, 16
PREFIX = "language_model.model."


# ---- make ----

def shapes(layers, vision_layers):
    """(name, shape, std, mean) in the order of the published shards."""
    def linear(name, out, inp, bias=False, gain=1.0):
        yield name + ".weight", (out, inp), gain / math.sqrt(inp), 0
        if bias:
            yield name + ".bias", (out,), 0.05, 0

    def norm(name, dim, bias=False):
        yield name + ".weight", (dim,), 0.1, 1
        if bias:
            yield name + ".bias", (dim,), 0.05, 0

    yield PREFIX + "embed_tokens.weight", (VOCAB, HIDDEN), 0.5, 0
    deep = 1 / math.sqrt(2)  # keeps the residual's growth to that of a trained model
    for i in range(layers):
        p = f"{PREFIX}layers.{i}."
        for n in "qkv":
            yield from linear(f"{p}self_attn.{n}_proj", HIDDEN, HIDDEN, gain=1.4 if n in "qk" else 1)
        yield from linear(p + "self_attn.o_proj", HIDDEN, HIDDEN, gain=deep)
        yield from linear(p + "mlp.gate_proj", FFN, HIDDEN)
        yield from linear(p + "mlp.up_proj", FFN, HIDDEN)
        yield from linear(p + "mlp.down_proj", HIDDEN, FFN, gain=2 * deep)
        yield from norm(p + "input_layernorm", HIDDEN)
        yield from norm(p + "post_attention_layernorm", HIDDEN)
    yield from norm(PREFIX + "norm", HIDDEN)
    yield from linear("language_model.lm_head", VOCAB, HIDDEN, gain=3)
    yield from linear("multi_modal_projector.linear_1", HIDDEN, VDIM, True)
    yield from linear("multi_modal_projector.linear_2", HIDDEN, HIDDEN, True)
    v = "vision_tower.vision_model."
    yield v + "embeddings.class_embedding", (VDIM,), 0.05, 0
    yield v + "embeddings.patch_embedding.weight", (VDIM, 3, PATCH, PATCH), 0.05 / math.sqrt(3 * PATCH * PATCH), 0
    yield v + "embeddings.position_embedding.weight", ((IMAGE // PATCH) ** 2 + 1, VDIM), 0.05, 0
    yield from norm(v + "pre_layrnorm", VDIM, True)
    for i in range(vision_layers):
        p = f"{v}encoder.layers.{i}."
        for n in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(p + "self_attn." + n, VDIM, VDIM, True)
        yield from norm(p + "layer_norm1", VDIM, True)
        yield from linear(p + "mlp.fc1", VFFN, VDIM, True)
        yield from linear(p + "mlp.fc2", VDIM, VFFN, True)
        yield from norm(p + "layer_norm2", VDIM, True)
    yield from norm(v + "post_layernorm", VDIM, True)


def values(name, shape, std, mean):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "little")
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=g) * std + mean).to(torch.bfloat16)


def write_shard(path, table):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in table:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for row in table:
            f.write(values(*row).view(torch.int16).numpy().tobytes())
    return at


def stand_in_tokenizer(path):
    """32000 pieces of Llama's kind: bytes, characters, the words of the prompt and labels, fillers that no text meets."""
    from sentencepiece import sentencepiece_model_pb2 as pb
    import checkpoints
    m = pb.ModelProto()
    m.ParseFromString(checkpoints.train_tokenizer())
    least = min(p.score for p in m.pieces)
    for i in range(32000 - len(m.pieces)):
        p = m.pieces.add()
        p.piece, p.score, p.type = f"\u25c7{i}", least - 1 - i, pb.ModelProto.SentencePiece.NORMAL
    m.trainer_spec.vocab_size = 32000
    with open(path, "wb") as f:
        f.write(m.SerializeToString())


def make(a):
    os.makedirs(a.dir, exist_ok=True)
    vision = dict(model_type="clip_vision_model", hidden_size=VDIM, image_size=IMAGE, intermediate_size=VFFN,
                  num_attention_heads=VISION_HEADS, num_hidden_layers=a.vision_layers, patch_size=PATCH, projection_dim=768,
                  vocab_size=32000)
    text = dict(_name_or_path="lmsys/vicuna-7b-v1.5", architectures=["LlamaForCausalLM"], max_position_embeddings=4096,
                model_type="llama", rms_norm_eps=1e-5, torch_dtype="bfloat16", vocab_size=VOCAB)
    if a.layers != 32:
        text["num_hidden_layers"] = a.layers
    if HIDDEN != 4096:
        text.update(hidden_size=HIDDEN, intermediate_size=FFN, num_attention_heads=HEADS, num_key_value_heads=HEADS)
    cfg = dict(architectures=["LlavaForConditionalGeneration"], ignore_index=-100, image_token_index=32000,
               model_type="llava", pad_token_id=32001, projector_hidden_act="gelu", text_config=text,
               torch_dtype="bfloat16", transformers_version="4.45.2", vision_config=vision, vision_feature_layer=-2,
               vision_feature_select_strategy="default")
    pre = dict(crop_size=dict(height=IMAGE, width=IMAGE), do_center_crop=True, do_convert_rgb=True, do_normalize=True,
               do_rescale=True, do_resize=True, image_mean=[0.48145466, 0.4578275, 0.40821073],
               image_processor_type="CLIPImageProcessor", image_std=[0.26862954, 0.26130258, 0.27577711], resample=3,
               rescale_factor=0.00392156862745098, size=dict(shortest_edge=IMAGE))
    added = {str(i): dict(content=c, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
             for i, c in enumerate(["<unk>", "<s>", "</s>"])}
    added.update({str(32000 + i): dict(added["0"], content=c) for i, c in enumerate(["<image>", "<pad>"])})
    tok = dict(add_bos_token=True, add_eos_token=False, added_tokens_decoder=added, bos_token="<s>", eos_token="</s>",
               unk_token="<unk>", pad_token="<pad>", legacy=True, clean_up_tokenization_spaces=False,
               tokenizer_class="LlamaTokenizer", model_max_length=4096)
    for name, obj in (("config.json", cfg), ("preprocessor_config.json", pre), ("tokenizer_config.json", tok),
                      ("added_tokens.json", {"<image>": 32000, "<pad>": 32001}),
                      ("generation_config.json", dict(bos_token_id=1, eos_token_id=2, pad_token_id=32001))):
        with open(os.path.join(a.dir, name), "w") as f:
            json.dump(obj, f, indent=2)
    if a.tokenizer:
        with open(a.tokenizer, "rb") as f, open(os.path.join(a.dir, "tokenizer.model"), "wb") as g:
            g.write(f.read())
    else:
        stand_in_tokenizer(os.path.join(a.dir, "tokenizer.model"))
    parts, size = [[]], 0
    for row in shapes(a.layers, a.vision_layers):
        size += 2 * math.prod(row[1])
        if size > 5e9:
            parts.append([])
            size = 2 * math.prod(row[1])
        parts[-1].append(row)
    where, total = {}, 0
    for i, table in enumerate(parts):
        shard = f"model-{i + 1:05d}-of-{len(parts):05d}.safetensors"
        total += write_shard(os.path.join(a.dir, shard), table)
        where.update({row[0]: shard for row in table})
    with open(os.path.join(a.dir, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": where}, f)
    print(f"made {total / 1e9:.2f} GB in {len(parts)} shards")


# ---- run ----

class Weights:
    """Tensors of a checkpoint one at a time, by the names of 4.45.2 whatever the file calls them."""

    def __init__(self, path, dtype):
        import llava
        self.path, self.dtype, self.where = path, dtype, {}
        for shard in llava.shards(path):
            with safe_open(os.path.join(path, shard), "pt") as f:
                self.where.update({llava.old_name(k): (shard, k) for k in f.keys()})

    def get(self, name):
        shard, key = self.where[name]
        with safe_open(os.path.join(self.path, shard), "pt") as f:
            return f.get_tensor(key).to(self.dtype)

    def fill(self, module, prefix):
        state = {k: self.get(prefix + k) for k in module.state_dict()}
        module.load_state_dict(state, strict=True, assign=True)
        return module.eval()


def rounded_products():
    """Matrix products of bf16 operands with float32 sums, rounded once, as tensor cores do them."""
    linear, matmul, bmm, conv = F.linear, torch.matmul, torch.bmm, torch.nn.Conv2d._conv_forward

    def widen(f):
        def g(x, y, *rest):
            if x.dtype != torch.bfloat16:
                return f(x, y, *rest)
            return f(x.float(), y.float(), *[r.float() if r is not None else None for r in rest]).to(torch.bfloat16)
        return g

    def conv_forward(self, x, w, b):
        return conv(self, x.float(), w.float(), b if b is None else b.float()).to(x.dtype)
    F.linear, torch.matmul, torch.bmm, torch.nn.Conv2d._conv_forward = widen(linear), widen(matmul), widen(bmm), conv_forward


def meta(cls, *args):
    with torch.device("meta"):
        return cls(*args)


@torch.no_grad()
def run(a):
    from PIL import Image
    from transformers import CLIPVisionModel, LlamaTokenizer
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, LlamaRotaryEmbedding
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
    import checkpoints
    import llava

    dtype = getattr(torch, a.dtype)
    if dtype == torch.bfloat16:
        rounded_products()
    cfg, w, t, start = llava.read_config(a.dir), Weights(a.dir, dtype), {}, time.time()
    tc, vc = cfg.text_config, cfg.vision_config
    pixels, u8 = llava.preprocess(a.dir, Image.open(a.image))
    tok = LlamaTokenizer.from_pretrained(a.dir)
    n_image = (vc.image_size // vc.patch_size) ** 2
    ids = checkpoints.expand(tok(checkpoints.QUESTION)["input_ids"], cfg.image_token_index, n_image)
    opening, labels = ([tok.convert_tokens_to_ids(p) for p in ps]
                       for ps in (["▁This", "▁image", "▁is"], ["▁real", "▁fake"]))
    t["pixels"], t["pixels.u8"], t["input_ids"] = pixels, torch.from_numpy(u8), torch.tensor(ids, dtype=torch.int32)

    torch.set_default_dtype(dtype)
    tower = CLIPVisionModel._from_config(vc, attn_implementation="eager")
    w.fill(tower, "vision_tower.")
    h = tower(pixels[None].to(dtype), output_hidden_states=True).hidden_states
    for i in range(vc.num_hidden_layers + 1 + cfg.vision_feature_layer):
        t[f"vision.layer.{i}"] = h[i + 1][0]
    t["vision.embed"], t["vision.features"] = h[0][0], h[cfg.vision_feature_layer][0, 1:]
    del tower, h
    proj = w.fill(meta(LlavaMultiModalProjector, cfg), "multi_modal_projector.")
    rows = t["projector.out"] = proj(t["vision.features"][None])[0]
    print(f"vision and projector {time.time() - start:.1f} s", file=sys.stderr)

    table = w.get(PREFIX + "embed_tokens.weight")
    n, ids = len(ids), torch.tensor(ids + opening)  # causal: the opening's rows leave the prompt's as they are
    x = table[ids].clone()
    x[ids == cfg.image_token_index] = rows
    del table
    t["decoder.embed"] = x[:n]
    torch.set_default_dtype(torch.float32)
    rotary = LlamaRotaryEmbedding(config=tc)
    torch.set_default_dtype(dtype)
    positions = torch.arange(len(ids))[None]
    angles = rotary(x[None], positions)
    mask = torch.full((len(ids), len(ids)), torch.finfo(dtype).min, dtype=dtype).triu(1)[None, None]
    for i in range(tc.num_hidden_layers):
        layer = w.fill(meta(LlamaDecoderLayer, tc, i), f"{PREFIX}layers.{i}.")
        for m in layer.modules():
            if isinstance(m, LlamaRotaryEmbedding):
                m.to_empty(device="cpu")  # its own copy is not asked for when the angles are given
        x = layer(x[None], attention_mask=mask, position_ids=positions, position_embeddings=angles)[0][0]
        t[f"decoder.layer.{i}"] = x[:n]
        print(f"layer {i} {time.time() - start:.1f} s", file=sys.stderr)
        del layer
    norm = w.fill(meta(LlamaRMSNorm, tc.hidden_size, tc.rms_norm_eps), PREFIX + "norm.")
    x = norm(x)
    t["decoder.norm"] = x[:n]
    head = "language_model.lm_head.weight"
    logits = F.linear(x[[n - 1, -1]], w.get(head if head in w.where else PREFIX + "embed_tokens.weight"))
    t["logits"], t["verdict.logits"] = logits[0], logits[1][torch.tensor(labels)]
    save_file({k: v.float().contiguous().clone() if v.is_floating_point() else v for k, v in t.items()}, a.out)
    print(f"transformers {a.dtype}: {time.time() - start:.0f} s, {n} positions")


# ---- table ----

def table(a):
    want = safe_open(a.oracle, "pt")
    runs = [(r.split("=", 1)[0], safe_open(r.split("=", 1)[1], "pt")) for r in a.runs]
    print("| stage | rms | " + " | ".join(f"{n} rel-L2 | {n} max-abs" for n, _ in runs) + " |")
    print("|---|---|" + "---|---|" * len(runs))
    order = ["pixels.u8", "pixels", "input_ids", "vision.embed", "vision.layer.", "vision.features", "projector.out",
             "decoder.embed", "decoder.layer.", "decoder.norm", "logits", "verdict.logits"]

    def key(k):
        head, _, layer = k.rpartition("layer.")
        return (order.index(head + "layer."), int(layer)) if head else (order.index(k), 0)
    bad = 0
    for k in sorted(want.keys(), key=key):
        y = want.get_tensor(k)
        cells, rel = [], {}
        for name, r in runs:
            x = r.get_tensor(k)
            d = x.double() - y.double()
            rel[name] = float(d.norm() / y.double().norm())
            cells.append(f"{rel[name]:.2e} | {float(d.abs().max()):.2e}")
            if k in ("pixels.u8", "pixels", "input_ids") and rel[name] != 0:
                bad += 1
        if "bf16" in rel:
            bad += sum(v > rel["bf16"] for n, v in rel.items() if n != "bf16")
        print(f"| {k} | {float(y.double().pow(2).mean().sqrt()):.3g} | " + " | ".join(cells) + " |")
    top = want.get_tensor("logits").argmax()
    for name, r in runs:
        print(f"\nargmax of the logits: {name} {int(r.get_tensor('logits').argmax())}, oracle {int(top)}", end="")
    what = "where a run is further from the oracle than transformers in bf16" if any(n == "bf16" for n, _ in runs) else \
        "of pixels and ids that are not exact"
    print(f"\n\n{'FAIL' if bad else 'ok'}: {bad} stages {what}")
    sys.exit(bad > 0)


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="what", required=True)
    m = sub.add_parser("make")
    m.add_argument("dir")
    m.add_argument("--layers", type=int, default=32)
    m.add_argument("--vision-layers", type=int, default=24)
    m.add_argument("--tokenizer")
    r = sub.add_parser("run")
    for n in ("dir", "image", "out", "dtype"):
        r.add_argument(n)
    t = sub.add_parser("table")
    t.add_argument("oracle")
    t.add_argument("runs", nargs="+")
    a = p.parse_args()
    {"make": make, "run": run, "table": table}[a.what](a)


if __name__ == "__main__":
    main()
