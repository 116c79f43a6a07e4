"""The same weights for llama.cpp: gguf_files.py CHECKPOINT OUT --type bf16|f16|q8_0|q4_0 [--part language|vision].

Writes the decoder (OUT-language-TYPE.gguf) or CLIP and the projector (OUT-vision-TYPE.gguf) of a LLaVA-1.5 checkpoint of
bf16 safetensors, a tensor at a time. What is surprising: llama.cpp rotates neighbouring elements where transformers
rotates halves, so the rows of q and k change places; norms, biases and embeddings of CLIP are float32 there, as in every
published file; the layer norm behind CLIP's last layer must be absent, because llama.cpp would apply it."""

import argparse
import json
import os

import gguf
import numpy as np
import torch
from safetensors import safe_open

TYPES = {t: getattr(gguf.GGMLQuantizationType, t.upper()) for t in ("f32", "bf16", "f16", "q8_0", "q4_0")}
FILE_TYPES = dict(f16=gguf.LlamaFileType.MOSTLY_F16, bf16=gguf.LlamaFileType.MOSTLY_BF16,
                  q8_0=gguf.LlamaFileType.MOSTLY_Q8_0, q4_0=gguf.LlamaFileType.MOSTLY_Q4_0)
DECODER = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
           "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
           "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
CLIP = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.out_proj": "attn_out", "layer_norm1": "ln1", "layer_norm2": "ln2", "mlp.fc1": "ffn_up",
        "mlp.fc2": "ffn_down"}
TOP = {"language_model.model.embed_tokens": "token_embd", "language_model.model.norm": "output_norm",
       "language_model.lm_head": "output", "multi_modal_projector.linear_1": "mm.0", "multi_modal_projector.linear_2": "mm.2",
       "vision_tower.vision_model.pre_layrnorm": "v.pre_ln",
       "vision_tower.vision_model.embeddings.patch_embedding": "v.patch_embd",
       "vision_tower.vision_model.embeddings.position_embedding": "v.position_embd"}


def gguf_name(name):
    """None: llama.cpp has no use for it."""
    if name == "vision_tower.vision_model.embeddings.class_embedding":
        return "v.class_embd"
    stem, kind = name.rsplit(".", 1)
    for prefix, ours, table in (("language_model.model.layers.", "blk", DECODER),
                                ("vision_tower.vision_model.encoder.layers.", "v.blk", CLIP)):
        if stem.startswith(prefix):
            layer, rest = stem[len(prefix):].split(".", 1)
            return f"{ours}.{layer}.{table[rest]}.{kind}"
    return f"{TOP[stem]}.{kind}" if stem in TOP else None


def neighbours(w, heads):
    """Rows of q or k from the two halves of each head to pairs side by side."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


class Checkpoint:
    def __init__(self, path):
        self.path = path
        with open(os.path.join(path, "config.json")) as f:
            self.config = json.load(f)
        self.files = [safe_open(os.path.join(path, f), "pt") for f in sorted(os.listdir(path)) if f.endswith(".safetensors")]
        self.where = {k: f for f in self.files for k in f.keys()}
        t = self.config["text_config"]
        self.layers = t.get("num_hidden_layers", 32)
        self.dim, self.ffn = t.get("hidden_size", 4096), t.get("intermediate_size", 11008)
        self.heads = t.get("num_attention_heads", 32)

    def names(self, part):
        vision = ("vision_tower.", "multi_modal_projector.")
        return [n for n in self.where if n.startswith(vision) == (part == "vision") and gguf_name(n)]

    def shape(self, name):
        return self.where[name].get_slice(name).get_shape()

    def get(self, name):
        w = self.where[name].get_tensor(name)
        if name.startswith("language_model.") and name.endswith(("q_proj.weight", "k_proj.weight")):
            w = neighbours(w, self.heads)
        return w


def type_of(name, shape, kind):
    if len(shape) == 1 or "position_embedding" in name:
        return "f32"
    if "patch_embedding" in name:  # llama.cpp convolves with f16 or f32 only
        return "f16" if kind == "f16" else "f32"
    return kind


def raw(w, kind):
    """The bytes of a tensor as an array whose dtype is all that the writer looks at."""
    if kind == "bf16":
        return w.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    w = w.float().numpy()
    return gguf.quants.quantize(w, TYPES[kind]) if kind[0] == "q" else w.astype(np.float16 if kind == "f16" else np.float32)


def put_tokenizer(w, path, vocab):
    from sentencepiece import sentencepiece_model_pb2 as pb
    m = pb.ModelProto()
    with open(os.path.join(path, "tokenizer.model"), "rb") as f:
        m.ParseFromString(f.read())
    pieces = [(p.piece.encode(), p.score, p.type) for p in m.pieces]
    pieces += [(f"<added{i}>".encode(), -1e4, gguf.TokenType.USER_DEFINED) for i in range(len(pieces), vocab)]
    w.add_tokenizer_model("llama")
    w.add_token_list([p[0] for p in pieces])
    w.add_token_scores([p[1] for p in pieces])
    w.add_token_types([p[2] for p in pieces])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)


def language_head(c, out, kind):
    t = c.config["text_config"]
    w = gguf.GGUFWriter(out, "llama")
    w.add_context_length(t["max_position_embeddings"])
    w.add_embedding_length(c.dim)
    w.add_block_count(c.layers)
    w.add_feed_forward_length(c.ffn)
    w.add_head_count(c.heads)
    w.add_head_count_kv(t.get("num_key_value_heads", c.heads))
    w.add_rope_dimension_count(c.dim // c.heads)
    w.add_rope_freq_base(t.get("rope_theta", 10000.0))
    w.add_layer_norm_rms_eps(t["rms_norm_eps"])
    w.add_vocab_size(t["vocab_size"])
    w.add_file_type(FILE_TYPES[kind])
    put_tokenizer(w, c.path, t["vocab_size"])
    return w


def vision_head(c, out, kind):
    v = c.config["vision_config"]
    with open(os.path.join(c.path, "preprocessor_config.json")) as f:
        pre = json.load(f)
    w = gguf.GGUFWriter(out, "clip")
    w.add_file_type(FILE_TYPES[kind])
    w.add_clip_has_vision_encoder(True)
    w.add_clip_projector_type("mlp")
    w.add_vision_embedding_length(v["hidden_size"])
    w.add_vision_feed_forward_length(v["intermediate_size"])
    w.add_vision_block_count(v["num_hidden_layers"])
    w.add_vision_head_count(v["num_attention_heads"])
    w.add_vision_projection_dim(c.dim)
    w.add_vision_image_size(v["image_size"])
    w.add_vision_patch_size(v["patch_size"])
    w.add_vision_attention_layernorm_eps(v.get("layer_norm_eps", 1e-5))
    w.add_vision_image_mean(pre["image_mean"])
    w.add_vision_image_std(pre["image_std"])
    return w


def write(checkpoint, out, kind, part):
    c = Checkpoint(checkpoint)
    w = (vision_head if part == "vision" else language_head)(c, out + ".part", kind)
    names = c.names(part)
    for n in names:
        shape = c.shape(n)
        how = type_of(n, shape, kind)
        block, size = gguf.GGML_QUANT_SIZES[TYPES[how]]
        w.add_tensor_info(gguf_name(n), shape, np.dtype(np.float32), int(np.prod(shape)) // block * size, TYPES[how])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    for n in names:
        w.write_tensor_data(raw(c.get(n), type_of(n, c.shape(n), kind)))
    w.close()
    os.rename(out + ".part", out)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("checkpoint")
    p.add_argument("out")
    p.add_argument("--type", choices=FILE_TYPES, default="bf16")
    p.add_argument("--part", choices=("language", "vision"), default="language")
    a = p.parse_args()
    write(a.checkpoint, f"{a.out}-{a.part}-{a.type}.gguf", a.type, a.part)


if __name__ == "__main__":
    main()
