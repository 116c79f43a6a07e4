"""A checkpoint of FakeVLM's real shapes with random bf16 weights, for measuring: make_7b.py DIR [--layers N]
[--vision-layers N] [--tiny].

The shapes are tests/oracle/full7b.py's. Numbers come from the GPU where there is one (13.5 GB in seconds), each tensor
seeded by its name; the tokenizer is one of the test checkpoints' filled up to 32000 pieces. --tiny: the same layout at
sizes that a CPU runs, to try the scripts.
"""

import argparse
import hashlib
import os
import sys
import time

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "oracle"))
import full7b  # noqa: E402

SMALL_TOKENIZER = os.path.join(ROOT, "tests/golden/e2e/old-f32/model/tokenizer.model")


def values(name, shape, std, mean):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "little")
    g = torch.Generator(device=device).manual_seed(seed)
    return torch.empty(shape, dtype=torch.float32, device=device).normal_(mean, std, generator=g).to(torch.bfloat16).cpu()


def tokenizer(path):
    from sentencepiece import sentencepiece_model_pb2 as pb
    m = pb.ModelProto()
    with open(SMALL_TOKENIZER, "rb") as f:
        m.ParseFromString(f.read())
    least = min(p.score for p in m.pieces)
    for i in range(32000 - len(m.pieces)):
        p = m.pieces.add()
        p.piece, p.score, p.type = f"\u25c7{i}", least - 1 - i, pb.ModelProto.SentencePiece.NORMAL
    m.trainer_spec.vocab_size = 32000
    with open(path, "wb") as f:
        f.write(m.SerializeToString())


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--layers", type=int, default=32)
    p.add_argument("--vision-layers", type=int, default=24)
    p.add_argument("--tiny", action="store_true")
    a = p.parse_args()
    start = time.time()
    if a.tiny:
        full7b.HIDDEN, full7b.FFN, full7b.VDIM, full7b.VFFN, full7b.IMAGE = 256, 688, 128, 256, 56
        full7b.VISION_HEADS, full7b.HEADS = 2, 2
        a.layers, a.vision_layers = 2, 3
    full7b.values = values
    os.makedirs(a.dir, exist_ok=True)
    a.tokenizer = os.path.join(a.dir, "tokenizer.stand-in")
    tokenizer(a.tokenizer)
    full7b.make(a)
    os.remove(a.tokenizer)
    print(f"{a.dir}: {time.time() - start:.1f} s")


if __name__ == "__main__":
    main()
