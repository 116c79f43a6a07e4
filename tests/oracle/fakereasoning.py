"""The reference forward pass of FakeReasoning: our own modules in float32, every intermediate named as in docs/DESIGN.md.

CLIP's vision tower and the Llama decoder are transformers' (eager attention); DINOv2, the projectors, the fusion, the
prompt, the pixels and the probability are written here from the model's description (docs/MODEL.md), with the parameter
names of the published files, so that a state dict loads as it lies. Nothing is shared with fr-run's code.

Small modules (Split, Softmax, Log) exist so that llava.noise() can disturb what they give as rounding would.
"""

import json
import math
import os
import re

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

import llava

IMAGE_ID = -200
SYSTEM = ("A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
          "detailed, and polite answers to the human's questions.")
QUESTION = ("<image>\nIs this image real or fake? Please describe the image, reasoning step-by-step and conclude with "
            "'this image is real' or 'this image is fake'.")
OPENING = "<CONCLUSION> This image is"
TEMPERATURE = 10.0


# ---- DINOv2 ----

class Split(nn.Module):
    """Rows [n, 3 * dim] of a packed product, thirds in the order q, k, v -> three [heads, n, head_dim]."""

    def forward(self, x, heads):
        n, d = x.shape[0], x.shape[1] // 3
        return tuple(x[:, i * d:(i + 1) * d].reshape(n, heads, d // heads).transpose(0, 1) for i in range(3))


class Softmax(nn.Module):
    def forward(self, x):
        return torch.softmax(x, -1)


class DinoAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.split, self.softmax = Split(), Softmax()

    def forward(self, x):
        q, k, v = self.split(self.qkv(x), self.heads)
        self.map = self.softmax((q * q.shape[-1]**-0.5) @ k.transpose(-2, -1))
        return self.proj((self.map @ v).transpose(0, 1).reshape(x.shape))


class LayerScale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(dim))

    def forward(self, x):
        return self.gamma * x


class DinoMlp(nn.Module):
    def __init__(self, dim, ffn):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, ffn), nn.GELU(), nn.Linear(ffn, dim)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class DinoBlock(nn.Module):
    def __init__(self, dim, heads, ffn):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = DinoAttention(dim, heads), DinoMlp(dim, ffn)
        self.ls1, self.ls2 = LayerScale(dim), LayerScale(dim)

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Positions(nn.Module):
    """The table [1, 1 + side^2, dim] for a g x g grid: as it is, or resized by the factor (g + 0.1) / side."""
    shake = 0  # relative error of the coordinates in a disturbed run

    def forward(self, table, g):
        side = math.isqrt(table.shape[1] - 1)
        if side == g:
            return table[0]
        grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        factor = tuple((g + 0.1) / side * (1 + self.shake * float(torch.randn(()))) for _ in range(2))
        grid = F.interpolate(grid, scale_factor=factor, mode="bicubic", antialias=False)
        assert grid.shape[-2:] == (g, g)
        return torch.cat([table[0, :1], grid[0].flatten(1).T])


class PatchEmbed(nn.Module):
    def __init__(self, dim, patch):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, pixels):
        return self.proj(pixels[None])[0].flatten(1).T


class Dino(nn.Module):
    def __init__(self, dim, heads, ffn, layers, patch, side):
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + side * side, dim))
        self.mask_token = nn.Parameter(torch.empty(1, dim))  # in the file, unused; `norm` too
        self.patch_embed = PatchEmbed(dim, patch)
        self.blocks = nn.ModuleList(DinoBlock(dim, heads, ffn) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.positions = Positions()

    def forward(self, pixels):
        """-> residual streams [1 + layers][1 + N, dim], the last block's map [heads, 1 + N, 1 + N]"""
        x = self.patch_embed(pixels)
        x = torch.cat([self.cls_token[0], x]) + self.positions(self.pos_embed, math.isqrt(x.shape[0]))
        states = [x]
        for block in self.blocks:
            states.append(block(states[-1]))
        return states, self.blocks[-1].attn.map


# ---- fusion ----

class Log(nn.Module):
    def forward(self, x):
        return torch.log(x + 1e-6)


class MapMlp(nn.Module):
    """The map of DINOv2 [heads, 1 + N, 1 + N] -> what it adds to the scores [heads, N, N]."""

    def __init__(self, heads, mid):
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(heads, mid, 1), nn.GELU(), nn.Conv2d(mid, heads, 1))
        self.log = Log()

    def forward(self, attention):
        return self.mlp(self.log(attention[None, :, 1:, 1:]))[0]


class Heads(nn.Module):
    def forward(self, x, heads):
        return x.reshape(x.shape[0], heads, -1).transpose(0, 1)


class CrossHeads(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        for name in ("v", "k", "q", "merge"):
            setattr(self, "linear_" + name, nn.Linear(dim, dim))
        self.split, self.softmax = Heads(), Softmax()

    def forward(self, rows, kv, bias):
        q = self.split(self.linear_q(rows), self.heads)
        k = self.split(self.linear_k(kv), self.heads)
        v = self.linear_v(kv).reshape(kv.shape[0], self.heads, -1).transpose(0, 1)
        weights = self.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + bias)
        return self.linear_merge((weights @ v).transpose(0, 1).reshape(rows.shape))


class Fc(nn.Module):
    def __init__(self, dim, ffn):
        super().__init__()
        self.linear = nn.Linear(dim, ffn)


class FusionMlp(nn.Module):
    def __init__(self, dim, ffn):
        super().__init__()
        self.fc, self.linear = Fc(dim, ffn), nn.Linear(ffn, dim)


class FusionFfn(nn.Module):
    def __init__(self, dim, ffn):
        super().__init__()
        self.mlp = FusionMlp(dim, ffn)

    def forward(self, x):
        return self.mlp.linear(F.relu(self.mlp.fc.linear(x)))


class PostNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.a_2, self.b_2 = nn.Parameter(torch.empty(dim)), nn.Parameter(torch.empty(dim))

    def forward(self, x):
        c = x - x.mean(-1, keepdim=True)
        return self.a_2 * c / torch.sqrt(c.pow(2).mean(-1, keepdim=True) + 1e-6) + self.b_2


class Fusion(nn.Module):
    def __init__(self, dim, heads, mid, ffn):
        super().__init__()
        self.attention_mlp = MapMlp(heads, mid)
        self.mhatt = nn.ModuleList([CrossHeads(dim, heads)])
        self.ffn = nn.ModuleList([FusionFfn(dim, ffn)])
        self.norm = nn.ModuleList([PostNorm(dim), PostNorm(dim)])

    def forward(self, rows, kv, attention):
        bias = self.attention_mlp(attention)
        x = self.norm[0](rows + self.mhatt[0](rows, kv, bias))
        return bias, self.norm[1](x + self.ffn[0](x))


# ---- the whole ----

class LoraLinear(nn.Module):
    """y = W x + scale * B (A x)"""

    def __init__(self, base, a, b, scale):
        super().__init__()
        self.base, self.scale = base, scale
        self.lora_A = nn.Linear(a.shape[1], a.shape[0], bias=False)
        self.lora_B = nn.Linear(b.shape[1], b.shape[0], bias=False)
        self.lora_A.weight.data, self.lora_B.weight.data = a, b
        self.in_features, self.out_features = base.in_features, base.out_features

    def forward(self, x):
        return self.base(x) + self.scale * self.lora_B(self.lora_A(x))


def projector(d, h):
    return nn.Sequential(nn.Linear(d, h), nn.GELU(), nn.Linear(h, h))


class FakeReasoning(nn.Module):
    """sizes: of dino, fusion (heads, mid, ffn) as the tensors say."""

    def __init__(self, clip, text, dino, fusion, select_layer=-2):
        super().__init__()
        clip._attn_implementation = text._attn_implementation = "eager"
        self.select_layer = select_layer
        self.clip = CLIPVisionModel._from_config(clip, attn_implementation="eager")
        self.dino = Dino(**dino)
        self.mm_projector = projector(clip.hidden_size, text.hidden_size)
        self.dino_mm_projector = projector(dino["dim"], text.hidden_size)
        self.crossattention = Fusion(text.hidden_size, **fusion)
        self.language_model = LlamaForCausalLM._from_config(text, attn_implementation="eager")
        self.eval()

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()


# ---- from files ----

def put_json(path, obj):
    with open(path, "w") as f:
        json.dump(obj, f, indent=1)
        f.write("\n")


def get_json(path):
    with open(path) as f:
        return json.load(f)


def tensors_of(folder, stem):
    """All tensors of a directory: STEM.safetensors or .bin, whole or by its index."""
    for ext in ("safetensors", "bin"):
        stem_ext = ("model" if ext == "safetensors" and stem == "pytorch_model" else stem) + "." + ext
        index = os.path.join(folder, stem_ext + ".index.json")
        files = sorted(set(get_json(index)["weight_map"].values())) if os.path.exists(index) else [stem_ext]
        paths = [os.path.join(folder, f) for f in files]
        if not os.path.exists(paths[0]):
            continue
        out = {}
        for p in paths:
            if ext == "bin":
                out.update(torch.load(p, map_location="cpu", weights_only=True))
            else:
                with safe_open(p, "pt") as f:
                    out.update({k: f.get_tensor(k) for k in f.keys()})
        return out
    raise SystemExit(f"{folder}: neither {stem}.bin nor its safetensors")


def below(state, prefix):
    return {k[len(prefix):]: v.float() for k, v in state.items() if k.startswith(prefix)}


def dino_tensors(path):
    state = torch.load(path, map_location="cpu", weights_only=False)
    return {k: v.float() for k, v in state.get("model", state).items()}


def dino_sizes(state, heads):
    ffn, dim = state["blocks.0.mlp.fc1.weight"].shape
    return dict(dim=dim, heads=heads, ffn=ffn, patch=state["patch_embed.proj.weight"].shape[-1],
                side=math.isqrt(state["pos_embed"].shape[1] - 1),
                layers=1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks.")))


def clip_config(folder):
    cfg = get_json(os.path.join(folder, "config.json"))
    return CLIPVisionConfig(**cfg.get("vision_config", cfg))


def load_strict(module, state, drop=()):
    want = set(module.state_dict())
    missing, extra = want - set(state), set(state) - want
    extra = {k for k in extra if not k.endswith(tuple(drop))} if drop else extra
    if missing or extra:
        raise SystemExit(f"{type(module).__name__}: missing {sorted(missing)[:4]}, not known {sorted(extra)[:4]}")
    module.load_state_dict({k: state[k] for k in want})


def load(model, clip, dino, base=None):
    """The parts as they lie on disk, widened to float32. With base, `model` is the adapter's directory."""
    cfg = get_json(os.path.join(model, "config.json"))
    state = tensors_of(base or model, "pytorch_model")
    trained = torch.load(os.path.join(model, "non_lora_trainables.bin"), weights_only=True) if base else {}
    own = below(trained, "base_model.model.model.") if base else below(state, "model.")
    fusion = below(own, "crossattention.")
    mid, heads = fusion["attention_mlp.mlp.0.weight"].shape[:2]
    dino_state = dino_tensors(dino)
    m = FakeReasoning(
        clip_config(clip), LlamaConfig(**{k: v for k, v in cfg.items() if k not in ("architectures", "model_type")}),
        dino_sizes(dino_state, heads),
        dict(heads=heads, mid=mid, ffn=fusion["ffn.0.mlp.fc.linear.weight"].shape[0]), cfg["mm_vision_select_layer"])
    clip_state = {"vision_model." + k: v for k, v in below(tensors_of(clip, "pytorch_model"), "vision_model.").items()}
    load_strict(m.clip, clip_state, drop=["position_ids"])
    load_strict(m.dino, dino_state)
    load_strict(m.mm_projector, below(own, "mm_projector."))
    load_strict(m.dino_mm_projector, below(own, "dino_mm_projector."))
    load_strict(m.crossattention, fusion)
    text = {k: v.float() for k, v in state.items() if k == "lm_head.weight" or k.startswith(
        ("model.embed_tokens.", "model.layers.", "model.norm.")) and not k.endswith("inv_freq")}
    load_strict(m.language_model, text)
    if base:
        attach_lora(m, model)
    return m.eval(), cfg


def attach_lora(m, folder):
    cfg = get_json(os.path.join(folder, "adapter_config.json"))
    thin = below(tensors_of(folder, "adapter_model"), "base_model.model.")
    for name in sorted(k[:-len(".lora_A.weight")] for k in thin if k.endswith(".lora_A.weight")):
        parent = m.language_model.get_submodule(name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        setattr(parent, leaf, LoraLinear(getattr(parent, leaf), thin.pop(name + ".lora_A.weight"),
                                         thin.pop(name + ".lora_B.weight"), cfg["lora_alpha"] / cfg["r"]))
    if thin:
        raise SystemExit(f"{folder}: {sorted(thin)[:4]} fit no matrix")


# ---- image and prompt ----

def side_of(value, *keys):
    return value if isinstance(value, int) else next(value[k] for k in keys if k in value)


def preprocess(clip, image, pad):
    """PIL image -> normalised float32 [3,S,S] and the uint8 [S,S,3] before it."""
    return preprocess_by(get_json(os.path.join(clip, "preprocessor_config.json")), image, pad)


def preprocess_by(pre, image, pad):
    size, crop = side_of(pre["size"], "shortest_edge"), side_of(pre["crop_size"], "height")
    mean, std = pre["image_mean"], pre["image_std"]
    image = image.convert("RGB")
    w, h = image.size
    if pad and w != h:
        side = max(w, h)
        square = Image.new("RGB", (side, side), tuple(int(x * 255) for x in mean))
        square.paste(image, ((side - w) // 2, (side - h) // 2))
        image, w, h = square, side, side
    short, long = min(w, h), int(size * max(w, h) / min(w, h))
    image = image.resize((size, long) if w == short else (long, size), Image.Resampling.BICUBIC)
    top, left = (image.height - crop) // 2, (image.width - crop) // 2
    u8 = np.asarray(image)[top:top + crop, left:left + crop]
    x = (u8.astype(np.float64) * (1.0 / 255)).astype(np.float32)
    x = (x - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))), u8.copy()


class Text:
    """The tokenizer of a checkpoint and what it makes of prompt, opening and answers."""

    def __init__(self, folder):
        self.sp = spm.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        self.opening = self.sp.encode(OPENING)
        self.labels = [self.sp.piece_to_id(p) for p in ("▁real", "▁fake")]
        assert self.sp.unk_id() not in self.labels
        pieces = [self.sp.id_to_piece(i) for i in self.opening]
        assert pieces == ["▁<", "CON", "CL", "US", "ION", ">", "▁This", "▁image", "▁is"], pieces

    def prompt(self, n_image, limit=0):
        first, second = f"{SYSTEM} USER: {QUESTION} ASSISTANT:".split("<image>")
        return [self.sp.bos_id()] + self.sp.encode(first) + [IMAGE_ID] * n_image + self.sp.encode(second)

    def reasoned_at(self, ids):
        """The step whose logits decide between the labels: right after the trigger was produced; None: it never was."""
        run = self.opening[1:]
        for k in range(len(run), len(ids) + 1):
            if ids[k - len(run):k] == run:
                return k
        return None

    def decode(self, ids):
        return self.sp.decode([i for i in ids if i not in (0, 1, 2)]).strip()


def p_fake(labels):
    """[l_real, l_fake] -> probability, double."""
    return 1 / (1 + math.exp((float(labels[0]) - float(labels[1])) / TEMPERATURE))


def text_verdict(text):
    """By the authors' evaluation: 0 real, 1 fake, 2 unparsed."""
    told = re.search(r"<CONCLUSION>(.*?)</CONCLUSION>", text, re.S)
    if not told or not re.search(r"<REASONING>.*?</REASONING>", text, re.S):
        return 2
    return 1 if "This image is fake." in told[1] else 0 if "This image is real." in told[1] else 2


# ---- model -> taps ----

def see(m, pixels):
    """-> dict of the taps up to the image rows `fusion.out`."""
    t = {}
    v = m.clip(pixels[None], output_hidden_states=True)
    run = m.clip.config.num_hidden_layers + 1 + m.select_layer
    t["clip.embed"] = v.hidden_states[0][0]
    for i in range(run):
        t[f"clip.layer.{i}"] = v.hidden_states[i + 1][0]
    t["clip.features"] = v.hidden_states[m.select_layer][0, 1:]
    t["clip.projector.out"] = m.mm_projector(t["clip.features"])
    states, attention = m.dino(pixels)
    t["dino.embed"] = states[0]
    for i, x in enumerate(states[1:]):
        t[f"dino.layer.{i}"] = x
    t["dino.features"] = states[-1][1:]
    t["dino.attention"] = attention
    t["dino.projector.out"] = m.dino_mm_projector(t["dino.features"])
    t["fusion.bias"], t["fusion.out"] = m.crossattention(t["clip.projector.out"], t["dino.projector.out"], attention)
    return t


def embed(m, ids, rows):
    ids = torch.tensor(ids)
    x = m.get_input_embeddings()(ids.clamp_min(0)).clone()
    assert int((ids == IMAGE_ID).sum()) == rows.shape[0]
    x[ids == IMAGE_ID] = rows
    return x


@torch.no_grad()
def taps(m, pixels, ids, steps, opening, labels, forced=None):
    """All taps of one picture; forced: step ids to feed instead of the own argmax."""
    t = see(m, pixels)
    x = embed(m, ids, t["fusion.out"])
    t["decoder.embed"] = x
    layers, norm, logits, past = llava.text_layers(m, x)
    for i, h in enumerate(layers):
        t[f"decoder.layer.{i}"] = h
    t["decoder.norm"] = norm
    t["logits"] = logits[-1]
    rows, picks = [logits[-1]], []
    for k in range(steps):
        picks.append(int(rows[-1].argmax()) if forced is None else forced[k])
        if k + 1 < steps:
            row = m.get_input_embeddings()(torch.tensor([picks[-1]]))
            _, _, lg, past = llava.text_layers(m, row, past)
            rows.append(lg[-1])
    if steps:
        t["steps.logits"] = torch.stack(rows)
        t["steps.ids"] = torch.tensor(picks, dtype=torch.int32)
    x = torch.cat([x, m.get_input_embeddings()(torch.tensor(opening))])
    _, _, lg, _ = llava.text_layers(m, x)
    t["verdict.logits"] = lg[-1][torch.tensor(labels)]
    return t


# ---- what rounding does (llava.noise) ----

def shakers(model):
    """llava's hooks and those of the modules above."""
    hooks, u = llava.shakers(model), llava.U

    def shake_q_k(m, a, o):
        size = u * math.sqrt(o[0].shape[0] * o[0].shape[-1])
        return llava.shake(o[0], size), llava.shake(o[1], size), o[2]

    def weighted_sum(m, a):
        return (llava.shake(a[0], u * (math.sqrt(max(a[0].shape[-2], 64)) + 8)),)

    def each(size, floor=0.0):
        return lambda m, a, o: o + (size * o.abs() + floor) * torch.randn(o.shape, dtype=o.dtype)

    def add(size):
        return lambda m, a, o: llava.shake(o, size)

    after = {"Split": shake_q_k, "Softmax": each(8 * u), "Log": each(4 * u, 2 * u), "DinoBlock": add(2 * u),
             "LayerScale": add(u), "Heads": lambda m, a, o: llava.shake(o, u * math.sqrt(a[0].shape[-1])),
             "LoraLinear": add(2 * u), "FusionFfn": add(u), "CrossHeads": add(u)}
    for name, m in model.named_modules():
        kind = type(m).__name__
        if kind in after:
            hooks.append(m.register_forward_hook(after[kind]))
        if kind == "Positions":
            m.shake = 2 * u
            hooks.append(m.register_forward_hook(add(4 * u)))
        if name.endswith(("attn.proj", "linear_merge")):
            hooks.append(m.register_forward_pre_hook(weighted_sum))
    return hooks
