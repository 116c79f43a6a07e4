"""Small random FakeReasoning checkpoints in the layouts that its authors publish, and their goldens.

usage: fakereasoning_cases.py GOLDEN [CASE...]     writes GOLDEN/e2e/<case>/{model,clip,base,dino.pth,golden.safetensors}

Each case is what a user has on disk (docs/MODEL.md): the model's directory or, for LoRA, an adapter and its base; a CLIP
directory; DINOv2's weights. The greedy text of two of them reaches "<CONCLUSION> This image is": their embeddings and
head hold a chain in which each token points to the next. Weights, margins and the search for a seed: as checkpoints.py.
"""

import json
import math
import os
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPVisionConfig, LlamaConfig
from sentencepiece import sentencepiece_model_pb2 as pb

import checkpoints
import fakereasoning as fr
import llava

STEPS, DISTINCT = checkpoints.STEPS, checkpoints.DISTINCT
DTYPE = checkpoints.DTYPE
EOS = "</s>"
SAID = ["▁Inconsistent", "▁Lighting", "▁and", "▁Shadows:", "▁the", "▁light", "▁falls", "▁twice."]
TRIGGER = ["CON", "CL", "US", "ION", ">", "▁This", "▁image", "▁is"]
# What follows what, from the prompt's last piece on; both labels go on alike.
CHAINS = {
    "blank": [":", "<REASONING>", *SAID, "</REASONING>", "<", *TRIGGER, ("▁real", "▁fake"), ".</CONCLUSION>", EOS],
    "joined": [":", "<REASONING>", *SAID, "</REASONING", "><", *TRIGGER, ("▁real", "▁fake"), ".</CONCLUSION>", EOS],
}

# clip (dim, heads, ffn, layers, image, patch), dino (dim, heads, ffn, layers, side of the table), fusion (mid, ffn),
# text (dim, heads, ffn, layers).
CASES = {
    "fr-merged-f16": dict(
        clip=(40, 1, 56, 3, 56, 14), dino=(40, 5, 72, 3, 6), fusion=(12, 104), text=(40, 5, 88, 2), dtype="f16",
        shards=2, towers=True, clip_file="bin", clip_kind="clip", dino_kind="flat", dino_dtype="f32", chain="blank",
        image="wide.png", pad=True, model_type="llava_llama"),
    "fr-bin-bf16": dict(
        clip=(48, 2, 88, 3, 70, 14), dino=(48, 3, 56, 2, 3), fusion=(7, 136), text=(72, 3, 104, 2), dtype="bf16",
        shards=3, ext="bin", clip_file="safetensors", clip_kind="vision", dino_kind="nested", dino_dtype="f32",
        image="tall.png", pad=True, small=True, model_type="llava"),
    "fr-lora-safetensors": dict(
        clip=(56, 7, 72, 2, 56, 14), dino=(56, 7, 88, 3, 4), fusion=(14, 72), text=(56, 7, 120, 2), dtype="bf16",
        clip_file="safetensors", clip_kind="clip", dino_kind="flat", dino_dtype="f16", chain="joined",
        image="edge.png", pad=True, model_type="llava_llama", lora=dict(
            r=4, alpha=10, targets=("q_proj", "v_proj", "up_proj"), ext="safetensors", dtype="bf16", trained="bf16")),
    "fr-lora-bin": dict(
        clip=(64, 4, 72, 3, 42, 14), dino=(64, 2, 104, 2, 5), fusion=(4, 88), text=(48, 2, 72, 3), dtype="f16",
        ext="bin", clip_file="bin", clip_kind="vision", dino_kind="nested", dino_dtype="bf16",
        image="small.png", pad=False, small=True, plain=True, model_type="llava_llama", lora=dict(
            r=3, alpha=7, targets=("k_proj", "o_proj", "gate_proj", "down_proj"), ext="bin", dtype="f32",
            trained="f16")),
}


# ---- tokenizer ----

def train_tokenizer():
    """checkpoints' tokenizer on this prompt, and with the pieces of the answers."""
    lines = [fr.SYSTEM + " USER:", fr.QUESTION.replace("<image>", "") + " ASSISTANT:", "This image is real",
             "This image is fake", "the light falls", "< > / C O N L U S I R E A G"]
    m = pb.ModelProto()
    m.ParseFromString(checkpoints.train_tokenizer(lines))
    have = {p.piece for p in m.pieces}
    wanted = ["▁<", "CO", "CON", "CL", "US", "IO", "ION", "><", "</REASONING", "▁This", "▁image", "▁is", "▁real",
              "▁fake"] + [p for p in CHAINS["blank"][1:-1] if isinstance(p, str)]
    for i, text in enumerate(p for p in dict.fromkeys(wanted) if p not in have):
        p = m.pieces.add()
        p.piece, p.score, p.type = text, 100 - i, pb.ModelProto.SentencePiece.NORMAL
    m.trainer_spec.vocab_size = len(m.pieces)
    return m.SerializeToString()


def write_tokenizer(path, proto, legacy):
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "tokenizer.model"), "wb") as f:
        f.write(proto)
    special = {k: dict(content=v, lstrip=False, normalized=False, rstrip=False, single_word=False)
               for k, v in (("bos_token", "<s>"), ("eos_token", EOS), ("unk_token", "<unk>"))}
    fr.put_json(os.path.join(path, "tokenizer_config.json"), dict(
        add_bos_token=True, add_eos_token=False, clean_up_tokenization_spaces=False, legacy=legacy,
        model_max_length=2048, pad_token=None, padding_side="right", sp_model_kwargs={},
        tokenizer_class="LlamaTokenizer", **special))
    fr.put_json(os.path.join(path, "special_tokens_map.json"), dict(special, pad_token="<unk>"))


# ---- configurations ----

def text_config(case, vocab):
    dim, heads, ffn, layers = case["text"]
    return dict(vocab_size=vocab, hidden_size=dim, intermediate_size=ffn, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=4096, rms_norm_eps=1e-5,
                rope_theta=10000.0, rope_scaling=None, hidden_act="silu", attention_bias=False,
                tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def model_config(case, vocab):
    return dict(
        architectures=["LlavaLlamaForCausalLM"], model_type=case["model_type"], **text_config(case, vocab),
        mm_vision_tower="openai/clip-vit-large-patch14-336", mm_hidden_size=case["clip"][0],
        mm_projector_type="mlp2x_gelu", mm_vision_select_layer=-2, mm_vision_select_feature="patch",
        mm_patch_merge_type="flat", mm_use_im_start_end=False, mm_use_im_patch_token=False,
        image_aspect_ratio="pad" if case["pad"] else "square", tokenizer_model_max_length=2048,
        tokenizer_padding_side="right", use_mm_proj=True, use_cache=True, freeze_mm_mlp_adapter=False,
        tune_mm_mlp_adapter=False, torch_dtype="float16", transformers_version="4.37.2")


def vision_config(case):
    dim, heads, ffn, layers, image, patch = case["clip"]
    return dict(hidden_size=dim, num_attention_heads=heads, intermediate_size=ffn, num_hidden_layers=layers,
                image_size=image, patch_size=patch, hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=16)


def build(case, vocab):
    """The model without weights, adapters in place."""
    dim, heads, ffn, layers, side = case["dino"]
    mid, fusion_ffn = case["fusion"]
    m = fr.FakeReasoning(CLIPVisionConfig(**vision_config(case)), LlamaConfig(**text_config(case, vocab)),
                         dict(dim=dim, heads=heads, ffn=ffn, layers=layers, side=side, patch=case["clip"][5]),
                         dict(heads=heads, mid=mid, ffn=fusion_ffn))
    lora = case.get("lora")
    for layer in m.language_model.model.layers if lora else ():
        for part in (layer.self_attn, layer.mlp):
            for leaf in [n for n, _ in part.named_children() if n in lora["targets"]]:
                w = getattr(part, leaf)
                setattr(part, leaf, fr.LoraLinear(w, torch.empty(lora["r"], w.in_features),
                                                  torch.empty(w.out_features, lora["r"]), lora["alpha"] / lora["r"]))
    return m


# ---- weights ----

def randomise(m, seed):
    """As checkpoints.randomise: sums of size 1, uneven norms, small first rows so that the eps of the first norms is
    seen. Maps of DINOv2 with values down to 1e-5, so that the offset of the logarithm is; their bias is kept where no
    head's softmax is a single one."""
    g = torch.Generator().manual_seed(seed)

    def normal(shape, std):
        return torch.randn(shape, generator=g) * std

    for name, p in m.named_parameters():
        if name.endswith(("gamma", "a_2")) or "norm" in name and name.endswith("weight"):
            v = 1 + normal(p.shape, 0.2)
        elif name.endswith(("class_embedding", "cls_token", "mask_token", "pos_embed", "position_embedding.weight")):
            v = normal(p.shape, 0.02 if "clip" in name else 0.05)
        elif p.dim() == 1:
            v = normal(p.shape, 0.1)
        elif "patch" in name:
            v = normal(p.shape, 0.05 / p[0].numel() ** 0.5)
        elif "embed_tokens" in name:
            v = normal(p.shape, 0.25)
            v[::5] *= 0.02
        elif "attention_mlp" in name:
            v = normal(p.shape, 0.5 / p.shape[1] ** 0.5)
        elif "lora_B" in name:
            v = normal(p.shape, 0.3)
        elif "attn.qkv" in name:
            v = normal(p.shape, 2.0 / p.shape[1] ** 0.5)
        else:
            v = normal(p.shape, (3.0 if "lm_head" in name else 1.3) / p.shape[1] ** 0.5)
        p.data.copy_(v)


def small_rows(m, size=0.03):
    """The same fusion with rows of that size between its steps, so that the eps of its norms is seen."""
    f = m.crossattention
    with torch.no_grad():
        for p in (m.mm_projector[2], m.dino_mm_projector[2], f.mhatt[0].linear_merge, f.norm[0],
                  f.ffn[0].mlp.linear):
            for v in p.parameters():
                v *= size
        for p in (f.mhatt[0].linear_q, f.mhatt[0].linear_k, f.mhatt[0].linear_v, f.ffn[0].mlp.fc.linear):
            p.weight /= size


def chain(m, sp, links):
    """Makes each piece of links the likely successor of the one before."""
    embed, head = m.language_model.model.embed_tokens.weight.data, m.language_model.lm_head.weight.data
    ids = [[sp.piece_to_id(p) for p in (x if isinstance(x, tuple) else (x,))] for x in links]
    assert all(i != 0 for x in ids for i in x), links
    for x in ids:
        for i in x:
            embed[i] *= 3 / embed[i].norm() * math.sqrt(embed.shape[1])
    for a, b in zip(ids, ids[1:]):
        for j in b:
            head[j] *= 0.3
            for i in a:
                head[j] += 5 * embed[i] / embed[i].norm()


def to(state, dtype):
    return {k: v.detach().to(DTYPE[dtype]).contiguous().clone() for k, v in state.items()}


def write_tensors(folder, stem, state, ext, shards=1):
    """stem "model" or "adapter_model"; in .bin files the former is pytorch_model."""
    os.makedirs(folder, exist_ok=True)

    def put(name, part):
        if ext == "bin":
            torch.save(part, os.path.join(folder, name))
        else:
            save_file(part, os.path.join(folder, name), metadata={"format": "pt"})

    if ext == "bin" and stem == "model":
        stem = "pytorch_model"
    if shards == 1:
        put(f"{stem}.{ext}", state)
        return
    names, where = list(state), {}
    for i in range(shards):
        part = names[i * len(names) // shards:(i + 1) * len(names) // shards]
        name = f"{stem}-{i + 1:05d}-of-{shards:05d}.{ext}"
        put(name, {k: state[k] for k in part})
        where.update({k: name for k in part})
    size = sum(t.numel() * t.element_size() for t in state.values())
    fr.put_json(os.path.join(folder, f"{stem}.{ext}.index.json"),
                {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))})


def with_prefix(module, prefix):
    return {prefix + k: v for k, v in module.state_dict().items()}


def own_tensors(m):
    return {**with_prefix(m.mm_projector, "model.mm_projector."),
            **with_prefix(m.dino_mm_projector, "model.dino_mm_projector."),
            **with_prefix(m.crossattention, "model.crossattention.")}


def text_tensors(m):
    """The decoder's own and the adapters' thin matrices, apart."""
    state = m.language_model.state_dict()
    return ({k.replace(".base.", "."): v for k, v in state.items() if ".lora_" not in k},
            {k: v for k, v in state.items() if ".lora_" in k})


def tower_copies(m, case, seed):
    """What the authors' merge script leaves in the file and no one reads: the towers, here with other values."""
    g = torch.Generator().manual_seed(seed)
    dim, heads, _, layers, _ = case["dino"]
    out = {}
    for prefix, module in (("model.vision_tower.vision_tower.", m.clip), ("model.dino_tower.clip_vision_tower.", m.clip),
                           ("model.dino_tower.vision_tower.", m.dino)):
        for k, v in module.state_dict().items():
            out[prefix + k] = torch.randn(v.shape, generator=g) if v.is_floating_point() else v
    for i in range(case["text"][3]):
        out[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = 10000 ** -(torch.arange(0, 8, 2) / 8)
    return out


def write_clip(folder, case, m):
    os.makedirs(folder, exist_ok=True)
    image, old = case["clip"][4], case["clip_kind"] == "clip"
    pre = dict(do_center_crop=True, do_normalize=True, do_resize=True, feature_extractor_type="CLIPFeatureExtractor",
               image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711],
               resample=3, crop_size=image, size=image)
    if not old:
        pre.update(do_convert_rgb=True, do_rescale=True, rescale_factor=0.00392156862745098,
                   image_processor_type="CLIPImageProcessor", crop_size={"height": image, "width": image},
                   size={"shortest_edge": image})
        del pre["feature_extractor_type"]
    fr.put_json(os.path.join(folder, "preprocessor_config.json"), pre)
    vision = vision_config(case)
    state = m.clip.state_dict()
    text = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, vocab_size=50,
                max_position_embeddings=8, projection_dim=16)
    if old:
        torch.manual_seed(11)
        both = CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).state_dict()
        both.update(state)
        n = 1 + (case["clip"][4] // case["clip"][5]) ** 2
        both["vision_model.embeddings.position_ids"] = torch.arange(n)[None]
        both["text_model.embeddings.position_ids"] = torch.arange(8)[None]
        state = both
        config = dict(architectures=["CLIPModel"], model_type="clip", projection_dim=16, logit_scale_init_value=2.6592,
                      text_config=dict(text, model_type="clip_text_model"),
                      vision_config=dict(vision, model_type="clip_vision_model"))
    else:
        config = dict(architectures=["CLIPVisionModel"], model_type="clip_vision_model", **vision)
    fr.put_json(os.path.join(folder, "config.json"), dict(config, torch_dtype="float32"))
    write_tensors(folder, "model", {k: v.detach().contiguous().clone() for k, v in state.items()}, case["clip_file"])


def write_dino(path, case, m):
    state = to(m.dino.state_dict(), case["dino_dtype"])
    if case["dino_kind"] == "flat":
        flat = m.dino.state_dict()  # an OrderedDict with _metadata, as torch.save gets it
        for k in flat:
            flat[k] = state[k]
        torch.save(flat, path)
        return
    whole, at, views = torch.cat([v.flatten() for v in state.values()]), 0, {}
    for k, v in state.items():
        views[k] = whole[at:at + v.numel()].view(v.shape)
        at += v.numel()
    torch.save({"model": views, "epoch": 7, "arch": "vit"}, path)


def write_model(folder, case, m, vocab, proto):
    text, thin = text_tensors(m)
    fr.put_json(os.path.join(folder, "config.json"), model_config(case, vocab))
    if case["dtype"] == "bf16":  # in a released directory it may be there or not
        fr.put_json(os.path.join(folder, "generation_config.json"), dict(
            bos_token_id=1, eos_token_id=2, pad_token_id=0, temperature=0.9, top_p=0.6, do_sample=True))
    if not case.get("lora"):
        state = to({**text, **own_tensors(m)}, case["dtype"])
        if case.get("towers"):
            state.update(to(tower_copies(m, case, 1), case["dtype"]))
        write_tensors(folder, "model", state, case.get("ext", "safetensors"), case["shards"])
        return
    write_lora(folder, case, m, thin)


def write_lora(folder, case, m, thin):
    lora = case["lora"]
    fr.put_json(os.path.join(folder, "adapter_config.json"), dict(
        alpha_pattern={}, auto_mapping=None, base_model_name_or_path="liuhaotian/llava-v1.5-13b", bias="none",
        fan_in_fan_out=False, inference_mode=True, init_lora_weights=True, layers_pattern=None,
        layers_to_transform=None, lora_alpha=lora["alpha"], lora_dropout=0.05, modules_to_save=None, peft_type="LORA",
        r=lora["r"], rank_pattern={}, revision=None, target_modules=list(lora["targets"]), task_type="CAUSAL_LM",
        use_dora=False, use_rslora=False))
    write_tensors(folder, "adapter_model", to({"base_model.model." + k: v for k, v in thin.items()}, lora["dtype"]),
                  lora["ext"])
    torch.save(to({"base_model.model." + k: v for k, v in own_tensors(m).items()}, lora["trained"]),
               os.path.join(folder, "non_lora_trainables.bin"))


def write_base(folder, case, m, vocab):
    """What the adapter was trained on: LLaVA with a projector of its own, which is replaced, and no fusion."""
    os.makedirs(folder, exist_ok=True)
    config = model_config(case, vocab + 0)
    config.update(model_type="llava", image_aspect_ratio="pad")
    fr.put_json(os.path.join(folder, "config.json"), config)
    state = {**text_tensors(m)[0], **with_prefix(m.mm_projector, "model.mm_projector.")}
    g = torch.Generator().manual_seed(2)
    state.update({k: torch.randn(v.shape, generator=g) for k, v in state.items() if "mm_projector" in k})
    write_tensors(folder, "model", to(state, case["dtype"]), case.get("ext", "safetensors"), 2)


def write_all(path, case, m, vocab, proto):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(os.path.join(path, "model"))
    write_model(os.path.join(path, "model"), case, m, vocab, proto)
    if case.get("lora"):
        write_base(os.path.join(path, "base"), case, m, vocab)
    write_tokenizer(os.path.join(path, "base" if case.get("lora") else "model"), proto, legacy=case["dtype"] == "f16")
    write_clip(os.path.join(path, "clip"), case, m)
    write_dino(os.path.join(path, "dino.pth"), case, m)


def read_all(path, case):
    parts = [os.path.join(path, p) for p in ("model", "clip", "dino.pth")]
    return fr.load(*parts, os.path.join(path, "base") if case.get("lora") else None)


# ---- golden ----

def golden(name, case, path, seed):
    """-> (tensors, ok)"""
    m, cfg = read_all(path, case)
    text = fr.Text(os.path.join(path, "base" if case.get("lora") else "model"))
    image = checkpoints.picture(*checkpoints.IMAGES[case["image"]])
    pixels, u8 = fr.preprocess(os.path.join(path, "clip"), image, cfg["image_aspect_ratio"] == "pad")
    n_image = (case["clip"][4] // case["clip"][5]) ** 2
    ids = text.prompt(n_image)
    t = fr.taps(m, pixels, ids, STEPS, text.opening, text.labels)
    steps = t["steps.ids"].tolist()
    answer = steps[:steps.index(2) + 1] if 2 in steps else steps
    at = text.reasoned_at(answer)
    if len(set(steps)) < DISTINCT or (at is None) != ("chain" not in case):  # cheap refusal first
        print(f"{name}: seed {seed}: {len(set(steps))} distinct, trigger at {at}: {text.decode(answer)!r}")
        return None, False
    def run(x, pixels):
        r = fr.taps(x, pixels, ids, STEPS, text.opening, text.labels, steps)
        if at is not None:
            r["result.reasoned.logits"] = r["steps.logits"][at][torch.tensor(text.labels)]
        return r

    t = run(m, pixels)
    n, clean = llava.noise(m, lambda x: run(x, pixels.double()), disturb=fr.shakers)
    if not llava.check_steps(name, t, n, DISTINCT):
        return None, False
    llava.check_noise(name, t, clean, n)
    t = {k: v.float().contiguous().clone() if v.is_floating_point() else v for k, v in t.items()}
    t["pixels"], t["pixels.u8"] = pixels, torch.from_numpy(u8)
    t["input_ids"] = torch.tensor(ids, dtype=torch.int32)
    for k, v in n.items():
        t["noise." + k] = torch.tensor(v, dtype=torch.float32)
    t.update(results(t, text, answer, at))
    print(f"{name}: seed {seed}, {len(ids)} positions, {text.decode(answer)!r} "
          f"direct {float(t['result.direct']):.6f} reasoned {float(t.get('result.reasoned', torch.tensor(math.nan))):.6f}")
    return t, True


def results(t, text, answer, at):
    """What a user is told: `result.*`. The noise of a probability is that of a difference of two logits."""
    def probability(name, logits, noise):
        p, s = fr.p_fake(logits), noise[1]
        d = p * (1 - p) / fr.TEMPERATURE * math.sqrt(2) * float(s)
        out["result." + name] = torch.tensor([p], dtype=torch.float64)
        out["noise.result." + name] = torch.tensor([d / p, d])

    out = {"result.answer": torch.tensor(answer, dtype=torch.int32),
           "result.text": torch.tensor(list(text.decode(answer).encode()), dtype=torch.uint8),
           "result.text_verdict": torch.tensor([fr.text_verdict(text.decode(answer))], dtype=torch.int32)}
    probability("direct", t["verdict.logits"], t["noise.verdict.logits"])
    if at is not None:
        probability("reasoned", t["result.reasoned.logits"], t["noise.result.reasoned.logits"])
    return out


def make(name, case, out, proto):
    path = os.path.join(out, name)
    sp = fr.spm.SentencePieceProcessor(model_proto=proto)
    m = build(case, sp.get_piece_size())
    for seed in range(200):
        randomise(m, seed)
        if "chain" in case:
            chain(m, sp, CHAINS[case["chain"]])
        if case.get("small"):
            small_rows(m)
        if case.get("plain"):  # few bytes in the text: those that are no UTF-8 have more than one spelling
            m.language_model.lm_head.weight.data[3:259] *= 0.2
        write_all(path, case, m, sp.get_piece_size(), proto)
        tensors, ok = golden(name, case, path, seed)
        if ok:
            save_file(tensors, os.path.join(path, "golden.safetensors"),
                      metadata={"made": json.dumps(dict(seed=seed, image=case["image"], chat="llava_v1"))})
            return
    raise SystemExit(f"{name}: no seed below 200 gives {DISTINCT} distinct ids with clear margins")


def check_pixels(out):
    """Our own preprocessing against transformers' processor, where they do the same."""
    for name, case in CASES.items():
        for args in checkpoints.IMAGES.values():
            image = checkpoints.picture(*args)
            folder = os.path.join(out, name, "clip")
            mine, _ = fr.preprocess(folder, image, False)
            size = case["clip"][4]
            proc = CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
            assert torch.equal(mine, torch.from_numpy(proc(image, return_tensors="np")["pixel_values"][0])), name


def main():
    out = os.path.join(sys.argv[1], "e2e")
    torch.set_num_threads(1)  # one order of sums wherever this runs
    proto = train_tokenizer()
    for name, case in CASES.items():
        if not sys.argv[2:] or name in sys.argv[2:]:
            make(name, case, out, proto)
    check_pixels(out)


if __name__ == "__main__":
    main()
