"""Goldens of the tokenizer: transformers' LlamaTokenizerFast (and tokenizers alone) on a small BPE of Llama's kind.

usage: tokenizer.py GOLDEN     writes GOLDEN/tokenizer/
       tokenizer.py --words    prints tokenizer/words.inc: which characters the reference's \\w takes
       tokenizer.py --compare DIR COUNT SEED
                               COUNT random texts through a model's tokenizer, here and by build/tests/tokenizer

GOLDEN/tokenizer/: tokenizer.model and tokenizer.json (the legacy form), variants.json (what each variant has of them,
what it changes in tokenizer.json and which small files lie next to it) and cases.txt. A line of cases.txt is
    T text          a text; a byte below 0x20, 0x7F and the backslash are written \\xNN
    V name          from here on: that variant
    ids|text        of the next text: its ids, and what they decode to (= : the text itself)
    D ids|text      other ids, and what they decode to
"""

import copy
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

import sentencepiece as spm
from tokenizers import AddedToken, Tokenizer, models
from transformers import LlamaTokenizerFast, PreTrainedTokenizerFast
from transformers.utils import logging

logging.set_verbosity_error()

CORPUS = """
This image is real. The light falls from one side, and every shadow agrees with it.
This image is fake. The texture of the skin is too smooth, and the hair melts into the background.
The lettering on the sign is garbled; no word can be read. The fingers of the left hand are fused.
Does the image looks real/fake? USER: <image> ASSISTANT: The picture shows a street in the rain, with 12 cars and 3 buses.
Reflections in the eyes do not match: 2 windows on the left, 1 on the right (unnatural symmetry).
Edges are crisp, noise is even, and the depth of field follows from the lens. There is nothing unrealistic in it.
The grid of an upsampling network is visible in the sky; brightness repeats every 8 pixels.
int main(void) { return 0; }    /* indented by spaces */        x = y + 42;
Äpfel, Öl und Übermut: das Bild wirkt künstlich. L'image semble réelle, d’après l’éclairage.
Изображение выглядит настоящим. Картина поддельная. 这张图片是真的。这张图片是假的。
"""


def train_model():
    out = io.BytesIO()
    lines = [l for l in CORPUS.split("\n") if l]
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 3), model_writer=out, vocab_size=620, model_type="bpe", byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, add_dummy_prefix=True, character_coverage=0.995, unk_id=0, bos_id=1, eos_id=2,
        pad_id=-1, num_threads=1, minloglevel=2, user_defined_symbols=["<sep>"])
    return out.getvalue()


def token(content, **flags):
    return dict({"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                 "special": False}, **flags)


def config(n, **more):
    decoder = {"0": token("<unk>", special=True), "1": token("<s>", special=True), "2": token("</s>", special=True),
               str(n): token("<image>", special=True), str(n + 1): token("<pad>", special=True)}
    return dict({"added_tokens_decoder": decoder, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                 "pad_token": "<pad>", "clean_up_tokenization_spaces": False, "tokenizer_class": "LlamaTokenizer"}, **more)


ODD = [token("<mask>", lstrip=True), token("[R]", rstrip=True), token("[B]", lstrip=True, rstrip=True, special=True),
       token("real", single_word=True), token("<a>"), token("<a><b>"), token("<a>x"), token("x<im", special=True),
       token("norm", normalized=True), token("is fake", normalized=True), token("  two"), token("[W]", lstrip=True,
       rstrip=True, single_word=True), token("▁up"), token("<0x41>"), token("ñ", normalized=True, single_word=True),
       token("so▁it", normalized=True), token("so it", normalized=True, special=True)]  # one spelling once normalised

TEXTS = ["", " ", "  ", "   ", "\n", "\t", "\0", "a", " a", "a ", " real", "real", "fake", "\u2581", "\u2581\u2581", " \u2581",
         "\u2581a", "a\u2581", "\u2581 a", "a \u2581 b", "<image>\nDoes the image looks real/fake?", "USER: <image>\n",
         "USER: <image>\nDoes the image looks real/fake? ASSISTANT:", "This image is fake.", "This image is real.</s>",
         "<s>", "</s>", "<unk>", "<pad>", "<s><s>", "<s> <s>", "a<s>b", " <s> a </s> ", "<0x0A>", "<0x41>", "<0xE5>", "<0xzz>",
         "<image>", "<image><image>", "<image> <image>", " <image>", "<image> ", "<ima", "<im<image>age>", "a<image>b",
         "\n<image>\n", "<image>\u2581a", "<image> a", "<pad><image>x", "<sep>", "a<sep>b", " <sep> ", "<sep> <sep>",
         "0", "12", "1234567890", "3.14159", "-1e-5", "12 345", "a1b2", "x" * 50, "ab" * 40, " " * 17, " " * 33, "\n" * 9, "\t\t x",
         "a\nb", "a\r\nb", "a \n b", "  indented", "trailing   ", "a  b   c    d", "int main(void) { return 0; }    /* x */",
         "Äpfel und Öl", "l’éclairage d'après", "naïve café", "e\u0301", "cafe\u0301", "\u0301", "a\u0300\u0301\u0302",
         "Изображение", "Картина поддельная.", "这张图片是真的。", "这张图片是假的", "日本語のテキスト", "한국어", "العربية", "עברית",
         "हिन्दी", "ไทย", "Ελληνικά", "Հայերեն", "ქართული", "አማርኛ", "😀", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪🇫🇷", "a😀b", "❤️", "𝔘𝔫𝔦", "\U0010ffff", "\ue000",
         "\u200b", "\ufeff", "\ufeffa", "\u00a0", "a\u00a0b", "\u3000", "\u2028", "\u0085", "\u007f", "\x01\x02", "a\0b", "\0\0", "\ufffd",
         "\u2580\u2582", "<", ">", "<>", "< s>", "<s", "s>", "</", "<S>", "[INST]", "<|im_end|>", "http://a.b/c?d=e&f", "C:\\dir\\x",
         "\\x0A", "{\"a\": [1, 2]}", "The quick brown fox", "THE LIGHT", "unrealistic", "Unreal", "realfake", "fake real",
         # odd added tokens
         "<mask>", " <mask>", "a  <mask> b", "\t\n <mask>x", "\u3000<mask>", "\u200b<mask>", "<mask><mask>", "<mask>  <mask>",
         "[R]", "[R]  a", "a [R] \n b", "[R] [R]", "[R]<mask>", "[R] <mask>", "[R]\u00a0x", "[B]", " [B] ", "a [B] b", "[B] [B]  [B]",
         "is real", "is real.", "unreal", "real1", "real_", "(real)", "real-fake", "éreal", "realé", "😀real", "real😀", "реальreal",
         "\u0301real", "real\u0301", "real\u200d", "realreal", "real real", "<a>", "<a><b>", "<a><a><b>", "<a>x", "<a>x<im", "<a>x<image>",
         "x<im", "x<image>", "ax<im", "x<i", "norm", " norm", "a norm b", "anorm", "normnorm", "<s>norm", "norm<s>norm",
         "is fake", "this is fake", " is fake", "<s>is fake", "  two", "a  two", "a   two", " two", "[R]   two", "[W]", "a [W] b", "a[W]b",
         " [W][W] ", "a [W]", "\u2581up", " up", "look up", "look\u2581up", "up", "<image>\u2581up", "ñ", "aña", "a ñ b", "<s>ñ", " ñ", "so it", " so it", "so\u2581it",
         "and so it", "<s>so it"]


def random_texts(n, rng):
    words = CORPUS.split() + ["<image>", "<s>", "\n", "  ", "\u2581", "<mask>", "[R]", "real", "<a>", "norm", "😀", "\0", "é", "7"]
    return ["".join(rng.choice(words) + rng.choice(["", " ", " ", "\n"]) for _ in range(rng.randrange(1, 7))) for _ in range(n)]


# ---- variants ----

def metaspace(scheme, split=False):
    return {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}}


def variants(base, n):
    """name, which vocabulary file, changes to tokenizer.json, files next to it."""
    image_pad = [dict(id=n, **token("<image>", special=True)), dict(id=n + 1, **token("<pad>", special=True))]
    usual = base["added_tokens"] + image_pad
    odd = usual + [dict(id=n + 2 + i, **t) for i, t in enumerate(t for t in ODD if t["content"] not in base["model"]["vocab"])]
    odd += [dict(id=base["model"]["vocab"][t["content"]], **t) for t in ODD if t["content"] in base["model"]["vocab"]]
    no_bytes = [k for k in base["model"]["vocab"] if not re.fullmatch("<0x..>", k)]
    no_strip = {"type": "Sequence", "decoders": base["decoder"]["decoders"][:3]}
    eos = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    template = copy.deepcopy(base["post_processor"])
    template["single"] = template["single"][:1] * 2 + template["single"][1:] + [eos]
    template["special_tokens"]["</s>"] = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
    c = config(n)
    yield "model-bare", "model", {}, {}
    yield "model-legacy", "model", {}, {"config": dict(c, legacy=True)}
    yield "model-first", "model", {}, {"config": dict(c, legacy=False)}
    yield "model-no-prefix", "model", {}, {"config": dict(c, legacy=True, add_prefix_space=False)}
    yield "model-never", "model", {}, {"config": dict(c, legacy=False, add_prefix_space=False, add_bos_token=False)}
    yield "model-added", "model", {}, {
        "config": {"pad_token": "<pad>", "bos_token": {"__type": "AddedToken", **token("<s>", lstrip=True)}, "add_eos_token": True},
        "added": {"<image>": n, "<pad>": n + 1, "norm": n + 2}}
    yield "model-specials", "model", {}, {
        "config": {"legacy": False}, "added": {"<image>": n, "<pad>": n + 1},
        "specials": {"pad_token": "<pad>", "additional_special_tokens": ["<image>", "<s>"], "eos_token": token("</s>")}}
    odd_decoder = dict(c["added_tokens_decoder"], **{str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in odd})
    yield "model-odd", "model", {}, {"config": dict(c, legacy=False, added_tokens_decoder=odd_decoder)}
    yield "json-bare", "json", {}, {}
    yield "json-legacy", "json", {"added_tokens": usual}, {"config": c}
    for scheme in "first", "always", "never":
        yield "json-" + scheme, "json", dict(metaspace(scheme), added_tokens=usual), {"config": c}
    yield "json-split", "json", dict(metaspace("always", True), added_tokens=usual), {"config": c}
    yield "json-replace-only", "json", {"added_tokens": usual, "decoder": no_strip, "normalizer": {
        "type": "Replace", "pattern": {"String": " "}, "content": "▁"}}, {"config": c}
    yield "json-odd", "json", {"added_tokens": odd}, {"config": dict(c, added_tokens_decoder={})}
    yield "json-odd-first", "json", dict(metaspace("first"), added_tokens=odd), {"config": dict(c, added_tokens_decoder={})}
    yield "json-odd-split", "json", dict(metaspace("first", True), added_tokens=odd), {"config": dict(c, added_tokens_decoder={})}
    yield "json-unk", "json", {"model": {"byte_fallback": False, "fuse_unk": True}}, {}
    yield "json-unk-each", "json", {"model": {"byte_fallback": False, "fuse_unk": False}}, {}
    yield "json-drop", "json", {"model": {"byte_fallback": False, "unk_token": None}}, {}
    yield "json-ignore-merges", "json", dict(metaspace("always", True), model={"ignore_merges": True, "merges": base["model"]["merges"][::3]}), {}
    yield "json-pairs", "json", {"model": {"merges": [m.split(" ") for m in base["model"]["merges"][::-1]]}}, {}
    yield "json-few-bytes", "json", {"model": {"fuse_unk": True, "merges": [], "vocab": {
        k: i for i, k in enumerate(no_bytes + ["<0xC3>", "<0xA9>", "<0x0A>", "<0xF0>"])}}}, {}
    yield "json-template", "json", {"added_tokens": usual, "post_processor": template}, {
        "config": dict(c, tokenizer_class="PreTrainedTokenizerFast")}
    yield "json-from-config", "json", {}, {"config": dict(c, additional_special_tokens=["<image>", "<more>"])}


def merged(base, changes):
    out = dict(base, **changes)
    out["model"] = dict(base["model"], **changes.get("model", {}))
    return out


def reference(model, base, kind, changes, files):
    with tempfile.TemporaryDirectory() as d:
        if kind == "model":
            with open(os.path.join(d, "tokenizer.model"), "wb") as f:
                f.write(model)
        else:
            write_json(os.path.join(d, "tokenizer.json"), merged(base, changes))
        for name, key in [("tokenizer_config", "config"), ("added_tokens", "added"), ("special_tokens_map", "specials")]:
            if key in files:
                write_json(os.path.join(d, name + ".json"), files[key])
        generic = "Pre" in files.get("config", {}).get("tokenizer_class", "")
        return (PreTrainedTokenizerFast if generic else LlamaTokenizerFast).from_pretrained(d)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def base_json(model):
    """The legacy form, merges as "a b"."""
    t = json.loads(reference(model, None, "model", {}, {}).backend_tokenizer.to_str())
    t["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]
    return t


# ---- cases ----

def escape(text):
    return re.sub("[\x00-\x1f\x7f\\\\]", lambda m: "\\x%02X" % ord(m[0]), text)


def random_ids(tok, n, rng):
    size = len(tok)
    lists = [[0x0A + 4, 0xE5 + 4, 300], [0xE5 + 4, 0x8F + 4], [0xE5 + 4, 0x8F + 4, 0xAB + 4], [300, 0x41 + 4, 0xFF + 4, 0x42 + 4, 301],
             [0x20 + 4, 300], [1, 0x20 + 4], [2, 300, 2, 301], [size, 300, size + 7], [], [0xF0 + 4, 0x9F + 4, 1, 0x98 + 4, 0x80 + 4, 300]]
    return lists + [[rng.randrange(0, 260 if rng.random() < 0.5 else size + 2) for _ in range(rng.randrange(1, 9))] for _ in range(n)]


def decode(tok, ids):
    return tok.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def write_cases(path, model, base, table, texts, rng):
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for t in texts:
            f.write("T " + escape(t) + "\n")
        for name, kind, changes, files in table:
            tok = reference(model, base, kind, changes, files)
            f.write("V " + name + "\n")
            for t in texts:
                ids = tok(t)["input_ids"]
                text = decode(tok, ids)
                f.write(" ".join(map(str, ids)) + "|" + ("=" if text == t else "~" + escape(text)) + "\n")
            for ids in random_ids(tok, 8, rng):
                f.write("D " + " ".join(map(str, ids)) + "|~" + escape(decode(tok, ids)) + "\n")


def main(golden):
    out = os.path.join(golden, "tokenizer")
    os.makedirs(out, exist_ok=True)
    rng = random.Random(20261121)
    model = train_model()
    base = base_json(model)
    table = list(variants(base, len(base["model"]["vocab"])))
    with open(os.path.join(out, "tokenizer.model"), "wb") as f:
        f.write(model)
    write_json(os.path.join(out, "tokenizer.json"), base)
    with open(os.path.join(out, "variants.json"), "w", encoding="utf-8") as f:
        rows = [json.dumps(dict(name=n, kind=k, json=c, files=s), ensure_ascii=False, separators=(",", ":")) for n, k, c, s in table]
        f.write('{"variants":[\n' + ",\n".join(rows) + "\n]}\n")
    write_cases(os.path.join(out, "cases.txt"), model, base, table, TEXTS + random_texts(40, rng), rng)


# ---- the other uses ----

def words():
    t = Tokenizer(models.BPE({"<unk>": 0}, [], unk_token="<unk>"))
    t.add_tokens([AddedToken("<m>", normalized=False, single_word=True)])
    ranges, line = [], ""
    for low in range(0, 0x110000, 4096):
        codes = [c for c in range(low, low + 4096) if not 0xD800 <= c < 0xE000]
        for c, e in zip(codes, t.encode_batch([chr(c) + "<m>" for c in codes])):
            if 1 in e.ids:
                continue
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
    print("/* \\w: first and last code point, ascending; made by tests/oracle/tokenizer.py --words. */")
    for r in ranges:
        item = "{0x%X, 0x%X}," % tuple(r)
        if len(line) + 1 + len(item) > 118:
            print(line)
            line = item
        else:
            line = (line + " " + item).strip()
    print(line)


def compared_texts(n, rng):
    pieces = CORPUS.split() + TEXTS

    def code():
        high = rng.choice([0x7F, 0x7F, 0x250, 0x3000, 0x10000, 0x110000])
        c = rng.randrange(32, high)
        return chr(c) if not 0xD800 <= c < 0xE000 else " "

    for _ in range(n):
        length, kind = rng.randrange(0, 40), rng.randrange(4)
        if kind == 0:
            yield " ".join(rng.choice(pieces) for _ in range(length // 2))
        elif kind == 1:
            yield "".join(rng.choice(pieces) for _ in range(length // 2))
        elif kind == 2:
            yield "".join(code() if rng.random() < 0.7 else rng.choice(pieces) for _ in range(length))
        else:
            yield "".join(rng.choice(" \u2581ab\nt<>é") for _ in range(2 * length))


def compare(path, n, seed):
    tok = LlamaTokenizerFast.from_pretrained(path)
    texts = list(compared_texts(n, random.Random(seed)))
    records = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    got = subprocess.run(["build/tests/tokenizer", path], input=records, stdout=subprocess.PIPE, check=True).stdout
    at = bad = total = 0
    for t, ids in zip(texts, tok(texts)["input_ids"]):
        (n_ids,) = struct.unpack_from("<I", got, at)
        ours = list(struct.unpack_from("<%di" % n_ids, got, at + 4))
        at += 4 + 4 * n_ids
        (length,) = struct.unpack_from("<I", got, at)
        text = got[at + 4:at + 4 + length]
        at += 4 + length
        total += len(ids)
        if ours != ids or text != decode(tok, ids).encode():
            bad += 1
            print(repr(t), ours, ids)
    print(f"{len(texts)} texts, {total} ids, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    if sys.argv[1] == "--words":
        words()
    elif sys.argv[1] == "--compare":
        compare(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(sys.argv[1])
