"""The form of the demo checkpoint: tokenizer, configs and the untrained model. `python form.py DIR` writes an untrained
checkpoint; train.py calls the same functions."""

import io
import os
import sys

import sentencepiece as spm
import torch
from transformers import (AddedToken, CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlamaTokenizer, LlavaConfig,
                          LlavaForConditionalGeneration, LlavaProcessor)

import texts

IMAGE = 168         # pixels a side
PATCH = 14          # so 12 x 12 = 144 image tokens
PIECES = 640        # SentencePiece vocabulary; <image> 640, <pad> 641
ROWS = 672          # rows of the embedding and of the head: 30 unused ones, as 64 - 2 rows in FakeVLM's 32064
ONE_PIECE = ["▁This", "▁image", "▁is", "▁real", "▁fake"]


def train_tokenizer(path):
    """Llama's own trainer flags on our corpus; deterministic."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(line.strip("\n") for line in texts.corpus()), model_writer=model, vocab_size=PIECES,
        model_type="bpe", byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, add_dummy_prefix=True,
        character_coverage=1.0, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1, minloglevel=2)
    with open(path, "wb") as f:
        f.write(model.getvalue())
    return path


def processor(tokenizer_model):
    tok = LlamaTokenizer(tokenizer_model, legacy=True, add_bos_token=True, add_eos_token=False,
                         clean_up_tokenization_spaces=False, model_max_length=512, padding_side="left")
    tok.add_tokens(AddedToken("<image>", special=True, normalized=False), special_tokens=True)
    tok.add_special_tokens({"pad_token": AddedToken("<pad>", special=True, normalized=False)})
    assert tok.convert_tokens_to_ids("<image>") == PIECES and tok.pad_token_id == PIECES + 1
    for piece in ONE_PIECE:
        assert tok.convert_tokens_to_ids(piece) != tok.unk_token_id, piece + " is not one piece"
    image = CLIPImageProcessor(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE})
    return LlavaProcessor(image, tok, patch_size=PATCH, vision_feature_select_strategy="default")


def config():
    vision = CLIPVisionConfig(hidden_size=192, intermediate_size=512, num_hidden_layers=5, num_attention_heads=6,
                              image_size=IMAGE, patch_size=PATCH, projection_dim=192, hidden_act="quick_gelu")
    text = LlamaConfig(hidden_size=192, intermediate_size=384, num_hidden_layers=3, num_attention_heads=6,
                       num_key_value_heads=2, vocab_size=ROWS, max_position_embeddings=1024, rms_norm_eps=1e-5,
                       rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
    cfg = LlavaConfig(vision, text, image_token_index=PIECES, vision_feature_layer=-2, image_seq_length=(IMAGE // PATCH) ** 2)
    cfg.pad_token_id = PIECES + 1
    cfg.tie_word_embeddings = False
    cfg.fr_run_demo = True  # the mark by which fr-run says DEMO, also when the checkpoint is loaded from a directory
    return cfg


def untrained(seed):
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config())
    model.generation_config.pad_token_id = PIECES + 1
    model.generation_config.bos_token_id = 1
    model.generation_config.eos_token_id = 2
    return model


def save(model, proc, out):
    model.to(torch.bfloat16).save_pretrained(out, safe_serialization=True)
    proc.save_pretrained(out)
    os.chmod(os.path.join(out, "model.safetensors"), 0o644)
    print(sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out)), "bytes in", out)


if __name__ == "__main__":
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    save(untrained(0), processor(train_tokenizer(os.path.join(out, "tokenizer.model"))), out)
