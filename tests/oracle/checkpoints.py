"""Tiny random LLaVA checkpoints of several shapes and their goldens, made by transformers 4.45.2 in float32.

usage: checkpoints.py GOLDEN      writes GOLDEN/e2e/images/*.png and GOLDEN/e2e/<case>/{model/...,golden.safetensors}

Committed under tests/golden/e2e. Weights are scaled so that 24 greedy tokens hold at least 12 distinct ids and every
top-1/top-2 margin is ten times the agreed bound: both are asserted here, seeds are tried until they hold.
"""

import io
import json
import os
import shutil
import sys

import numpy as np
import sentencepiece as spm
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import LlamaTokenizerFast, LlavaForConditionalGeneration
from transformers.tokenization_utils_base import AddedToken

import llava

STEPS = 24
DISTINCT = 12
QUESTION = "<image>\nDoes the image looks real/fake?"
CHATS = {"raw": "{}", "llava": "USER: {} ASSISTANT:"}
DTYPE = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

# Field order: vision (dim, heads, ffn, layers, image, patch), text (dim, heads, kv heads, head_dim, ffn, layers).
CASES = {
    "old-f32": dict(
        vision=(40, 5, 56, 3, 56, 14), text=(32, 4, 4, 8, 88, 2), eps=1e-5, names="old", dtype="f32", extras=True),
    "old-bf16-gqa-shards": dict(
        vision=(72, 3, 88, 3, 70, 14), text=(72, 4, 2, 24, 88, 2), eps=1e-5, names="old", dtype="bf16", shards=3),
    "new-f16-688": dict(
        vision=(40, 1, 88, 3, 56, 14), text=(40, 2, 2, 40, 688, 2), eps=1e-5, names="4.52", dtype="f16"),
    "v5-bf16-tied-linear": dict(
        vision=(48, 2, 104, 2, 56, 14), text=(64, 8, 4, 8, 120, 3), eps=1e-5, names="5", dtype="bf16", tied=True,
        layer=-1, rope=4.0, shards=2),
    "omits-bf16-nonlegacy": dict(
        vision=(32, 2, 40, 2, 224, 32), text=(48, 2, 2, 24, 88, 3), eps=1e-6, names="4.52", dtype="bf16", omit=True,
        legacy=False, tok="json"),
    "mixed-chat-shards": dict(
        vision=(64, 1, 72, 3, 42, 14), text=(40, 5, 1, 8, 96, 3), eps=1e-5, names="old", dtype="mixed", shards=4,
        chat="llava", tok="model", resize=50, norm=([0.5, 0.5, 0.5], [0.5, 0.25, 0.5])),
}


# ---- pictures ----

def picture(w, h, seed):
    """Smooth colour fields with edges and some noise: no two rows or columns alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    planes = []
    for _ in range(3):
        a, b, c, d = rng.uniform(0.5, 3, 4)
        f = np.sin(a * 3 * x / w + d) + np.cos(b * 4 * y / h + c) + ((x * c / w + y / h) % 0.5 > 0.25)
        planes.append(f)
    img = np.stack(planes, -1) + 0.2 * rng.standard_normal((h, w, 3))
    img = (img - img.min()) / (img.max() - img.min())
    return Image.fromarray((img * 255).round().astype(np.uint8))


IMAGES = {"wide.png": (97, 61, 1), "tall.png": (45, 83, 2), "square.png": (70, 70, 3), "small.png": (23, 31, 4),
          "edge.png": (120, 57, 5)}


def write_images(out):
    os.makedirs(out, exist_ok=True)
    for name, args in IMAGES.items():
        picture(*args).save(os.path.join(out, name), optimize=True)


# ---- tokenizer ----

WORDS = ["This image is real", "This image is fake", "Does the image looks real/fake?", "USER:", "ASSISTANT:",
         "The light is soft and the shadow is broken", "fine texture is garbled", "sharp edges are repeated"]


def train_tokenizer(words=WORDS):
    rng = np.random.default_rng(7)
    lines = [words[i] for i in rng.integers(0, len(words), 400)]
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=400, byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", add_dummy_prefix=True,
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, pad_id=-1,
        unk_id=0, bos_id=1, eos_id=2, num_threads=1, minloglevel=2)
    return model.getvalue()


def write_tokenizer(path, proto, case):
    """-> (the fast tokenizer, vocabulary size with <image> and <pad>)."""
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "tokenizer.model"), "wb") as f:
        f.write(proto)
    tok = LlamaTokenizerFast(vocab_file=os.path.join(path, "tokenizer.model"), legacy=case.get("legacy", True),
                             add_prefix_space=True, add_bos_token=True, add_eos_token=False, from_slow=True)
    tok.add_tokens([AddedToken("<image>", normalized=False, special=True),
                    AddedToken("<pad>", normalized=False, special=True)], special_tokens=True)
    tok.pad_token = "<pad>"
    tok.save_pretrained(path)
    with open(os.path.join(path, "tokenizer_config.json")) as f:
        saved = json.load(f)
    del saved["add_prefix_space"]  # a knob of the conversion; 4.45.2 reads no tokenizer.json where it stands
    with open(os.path.join(path, "tokenizer_config.json"), "w") as f:
        json.dump(saved, f, indent=2, sort_keys=True)
        f.write("\n")
    if case.get("tok") == "json":
        os.remove(os.path.join(path, "tokenizer.model"))
    if case.get("tok") == "model":
        os.remove(os.path.join(path, "tokenizer.json"))
    return tok


# ---- config ----

def config(case, vocab, image_id):
    vd, vh, vf, vl, image, patch = case["vision"]
    td, th, tk, hd, tf, tl = case["text"]
    text = dict(model_type="llama", hidden_size=td, num_attention_heads=th, num_key_value_heads=tk, head_dim=hd,
                intermediate_size=tf, num_hidden_layers=tl, rms_norm_eps=case["eps"], vocab_size=vocab,
                max_position_embeddings=512, rope_theta=10000.0, hidden_act="silu", attention_bias=False,
                mlp_bias=False, rope_scaling=None, tie_word_embeddings=bool(case.get("tied")), bos_token_id=1,
                eos_token_id=2)
    vis = dict(model_type="clip_vision_model", hidden_size=vd, num_attention_heads=vh, intermediate_size=vf,
               num_hidden_layers=vl, image_size=image, patch_size=patch, hidden_act="quick_gelu",
               layer_norm_eps=1e-5, projection_dim=32)
    if "rope" in case:
        text["rope_scaling"] = {"type": "linear", "factor": case["rope"]}
    if case["names"] == "5":
        text["rope_parameters"] = {"rope_type": "linear", "factor": text.pop("rope_scaling")["factor"],
                                   "rope_theta": text.pop("rope_theta")}
    cfg = dict(architectures=["LlavaForConditionalGeneration"], model_type="llava", ignore_index=-100,
               image_token_index=image_id, image_seq_length=(image // patch) ** 2, projector_hidden_act="gelu",
               vision_feature_select_strategy="default", vision_feature_layer=case.get("layer", -2),
               tie_word_embeddings=False, text_config=text, vision_config=vis)
    cfg["dtype" if case["names"] == "5" else "torch_dtype"] = "bfloat16"
    if case.get("omit"):  # everything that equals the class defaults goes
        for k in ("rms_norm_eps", "num_key_value_heads", "head_dim", "rope_theta", "hidden_act", "attention_bias",
                  "mlp_bias", "rope_scaling", "tie_word_embeddings", "max_position_embeddings", "bos_token_id",
                  "eos_token_id", "model_type"):
            del text[k]
        for k in ("image_size", "patch_size", "hidden_act", "layer_norm_eps", "projection_dim", "model_type"):
            del vis[k]
        for k in ("projector_hidden_act", "vision_feature_select_strategy", "vision_feature_layer", "ignore_index",
                  "tie_word_embeddings", "image_seq_length"):
            del cfg[k]
    return cfg


def write_config(path, case, cfg):
    def put(name, obj):
        with open(os.path.join(path, name), "w") as f:
            json.dump(obj, f, indent=1)
            f.write("\n")

    put("config.json", cfg)
    image = case["vision"][4]
    pre = dict(image_processor_type="CLIPImageProcessor")
    if not case.get("omit"):
        mean, std = case.get("norm", ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]))
        pre.update(crop_size={"height": image, "width": image}, do_center_crop=True, do_convert_rgb=True,
                   do_normalize=True, do_rescale=True, do_resize=True, image_mean=mean, image_std=std, resample=3,
                   rescale_factor=0.00392156862745098, size={"shortest_edge": case.get("resize", image)})
    put("preprocessor_config.json", pre)
    if not case.get("omit"):
        put("generation_config.json", dict(bos_token_id=1, eos_token_id=2, pad_token_id=cfg["image_token_index"] + 1))


# ---- weights ----

def randomise(model, seed):
    """Normal weights of std ~ 1.3/sqrt(fan in) (about 0.1 to 0.2), biases, uneven norms. Every fifth embedding row and the
    patch embedding are small, so that the eps inside the first norms is seen."""
    g = torch.Generator().manual_seed(seed)

    def normal(shape, std):
        return torch.randn(shape, generator=g) * std

    for name, p in model.named_parameters():
        leaf = name.rsplit(".", 2)[-2:]
        if p.dim() == 1 and "norm" in name.lower() and leaf[-1] == "weight":
            v = 1 + normal(p.shape, 0.2)
        elif p.dim() == 1 and "class_embedding" not in name:
            v = normal(p.shape, 0.1)
        elif "embed_tokens" in name:
            v = normal(p.shape, 0.25)
            v[::5] *= 0.02
        elif "embedding" in name:
            v = normal(p.shape, 0.02 if "patch" not in name else 0.05 / p[0].numel() ** 0.5)
        else:
            v = normal(p.shape, (3.0 if "lm_head" in name else 1.3) / p.shape[1] ** 0.5)
        p.data.copy_(v)


def stored_dtype(case, name, tensor):
    if case["dtype"] != "mixed":
        return DTYPE[case["dtype"]]
    return torch.float32 if tensor.dim() == 1 else torch.float16 if "vision" in name else torch.bfloat16


def new_name(name, generation):
    if generation == "old":
        return name
    if name.startswith("language_model.lm_head."):
        return name[len("language_model."):]
    if name.startswith("language_model.model."):
        return "model.language_model." + name[len("language_model.model."):]
    if generation == "5":
        name = name.replace("vision_tower.vision_model.", "vision_tower.")
    return "model." + name


def write_weights(path, case, model):
    state = {}
    for name, p in model.state_dict().items():
        if name == "language_model.lm_head.weight" and case.get("tied"):
            continue
        state[new_name(name, case["names"])] = p.detach().to(stored_dtype(case, name, p)).contiguous().clone()
    if case.get("extras"):  # left in files by older transformers: no one asks for them
        hd = case["text"][3]
        state["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = (
            1.0 / 10000 ** (torch.arange(0, hd, 2).float() / hd))
        n = (case["vision"][4] // case["vision"][5]) ** 2 + 1
        state["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(n)[None]
    n = case.get("shards", 1)
    if n == 1:
        save_file(state, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
        return
    names, where, size = list(state), {}, sum(t.numel() * t.element_size() for t in state.values())
    for i in range(n):
        part = names[i * len(names) // n:(i + 1) * len(names) // n]
        shard = f"model-{i + 1:05d}-of-{n:05d}.safetensors"
        save_file({k: state[k] for k in part}, os.path.join(path, shard), metadata={"format": "pt"})
        where.update({k: shard for k in part})
    with open(os.path.join(path, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}, f, indent=1)
        f.write("\n")


# ---- golden ----

def expand(ids, image_id, n):
    return [t for i in ids for t in ([i] * n if i == image_id else [i])]


def golden(name, case, path, tok, image):
    """-> (tensors, ok)"""
    model = llava.load(path)
    image_id = model.config.image_token_index
    n_image = (model.config.vision_config.image_size // model.config.vision_config.patch_size) ** 2
    text = CHATS[case.get("chat", "raw")].format(QUESTION)
    ids = expand(tok(text)["input_ids"], image_id, n_image)
    opening, labels = ([tok.convert_tokens_to_ids(p) for p in ps]
                       for ps in (["▁This", "▁image", "▁is"], ["▁real", "▁fake"]))
    assert tok.unk_token_id not in opening + labels, "a label or an opening word is not one piece"
    pixels, u8 = llava.preprocess(path, image)
    t = llava.taps(model, pixels, ids, STEPS, opening, labels)
    steps = t["steps.ids"].tolist()
    if len(set(steps)) < DISTINCT:  # cheap refusal first
        return None, False
    n, clean = llava.noise(model, lambda m: llava.taps(m, pixels.double(), ids, STEPS, opening, labels, steps))
    if not llava.check_steps(name, t, n, DISTINCT):
        return None, False
    llava.check_noise(name, t, clean, n)
    t = {k: v.float().contiguous().clone() if v.is_floating_point() else v for k, v in t.items()}
    t["pixels"], t["pixels.u8"] = pixels, torch.from_numpy(u8)
    t["input_ids"] = torch.tensor(ids, dtype=torch.int32)
    for k, v in n.items():
        t["noise." + k] = torch.tensor(v, dtype=torch.float32)
    return t, True


def make(name, case, out, proto):
    path = os.path.join(out, name, "model")
    shutil.rmtree(os.path.join(out, name), ignore_errors=True)
    tok = write_tokenizer(path, proto, case)
    image_id = tok.convert_tokens_to_ids("<image>")
    cfg = config(case, (image_id + 2 + 15) // 16 * 16 + 16, image_id)
    write_config(path, case, cfg)
    image = Image.open(os.path.join(out, "images", list(IMAGES)[list(CASES).index(name) % len(IMAGES)]))
    model = LlavaForConditionalGeneration._from_config(llava.read_config(path)).eval()
    for seed in range(200):
        randomise(model, seed)
        write_weights(path, case, model)
        tensors, ok = golden(name, case, path, tok, image)
        if ok:
            save_file(tensors, os.path.join(out, name, "golden.safetensors"),
                      metadata={"made": json.dumps(dict(seed=seed, image=os.path.basename(image.filename),
                                                        chat=case.get("chat", "raw"), prompt=QUESTION))})
            return
    raise SystemExit(f"{name}: no seed below 200 gives {DISTINCT} distinct ids with clear margins")


def main():
    out = os.path.join(sys.argv[1], "e2e")
    torch.set_num_threads(1)  # one order of sums wherever this runs
    write_images(os.path.join(out, "images"))
    proto = train_tokenizer()
    for name, case in CASES.items():
        make(name, case, out, proto)


if __name__ == "__main__":
    main()
