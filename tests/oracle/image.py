"""Goldens of the image path: small files of every kind with the hash of the RGB that Pillow reads from them, and hashes
of resized, cropped, padded and normalised windows by transformers' CLIPImageProcessor (PIL). usage: image.py GOLDEN_DIR

Writes GOLDEN_DIR/image/: the files, and manifest.txt with the lines
  decode FILE W H SHA256 NEEDS     NEEDS: the shortest beginning of the file that still gives the same picture
  warned FILE                      a decode line whose picture must carry a warning
  refuse FILE CODE                 Pillow refuses, misreads, or fr-run does not read it
  fit KIND W H RESIZE CROP FILTER MODE SHA256        of the u8 window, of a picture made by formula (`made`)
  normalise RESCALE MEAN.. STD.. SHA256              of the float32 bits, over a picture that holds every value
tests/image.c replays them. Pillow 10.4.0 is the oracle (requirements.txt); 11.0.0 and 13.0.0 read the same pixels from
every file of a decode line. JPEG files that Pillow cannot write lie in image/: cjpeg of libjpeg-turbo 2.1.5 made them
(-arithmetic, -sample).
"""

import glob
import hashlib
import io
import math
import os
import struct
import sys
import warnings

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import image_files as f  # noqa: E402

warnings.simplefilter("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def picture(w, h, seed=1):
    y, x = np.mgrid[0:h, 0:w]
    waves = np.stack([128 + 110 * np.sin(x / 3 + y / 7), 128 + 100 * np.cos(x / 5 - y / 4), x * 9 + y * 5 & 255], -1)
    noise = np.random.default_rng(seed).normal(0, 12, (h, w, 3))
    return Image.fromarray(np.clip(waves + noise, 0, 255).astype(np.uint8))


def saved(im, kind, **options):
    out = io.BytesIO()
    im.save(out, kind, **options)
    return out.getvalue()


def read(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def strip_marker(jpeg, marker):
    """without the segments FF `marker`"""
    out, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        n = 2 + struct.unpack(">H", jpeg[at + 2:at + 4])[0]
        out += b"" if jpeg[at + 1] == marker else jpeg[at:at + n]
        at += n
    return out + jpeg[at:]


def jpegs():
    p, cmyk = picture(33, 21), Image.merge("CMYK", [picture(25, 18, s).getchannel(0) for s in range(4)])
    for name, ss in (("444", 0), ("422", 1), ("420", 2)):
        for kind, options in (("baseline", {}), ("progressive", {"progressive": True})):
            yield f"{kind}-{name}.jpg", saved(p, "JPEG", quality=70, subsampling=ss, **options)
    yield "grey.jpg", saved(p.convert("L"), "JPEG", quality=70)
    yield "rgb.jpg", saved(p, "JPEG", quality=70, keep_rgb=True)
    yield "restart.jpg", saved(p, "JPEG", quality=40, restart_marker_blocks=2)
    restart = saved(p, "JPEG", quality=40, restart_marker_blocks=1)
    at = restart.index(b"\xff\xd3")
    yield "extraneous-bytes.jpg", restart[:at] + b"\x12\x34\x56" + restart[at:]
    yield "pixel.jpg", saved(picture(1, 1), "JPEG")
    adobe = saved(cmyk, "JPEG", quality=70)
    yield "cmyk-adobe.jpg", adobe
    yield "cmyk-plain.jpg", strip_marker(adobe, 0xEE)
    at = adobe.index(b"Adobe") + 11
    yield "ycck.jpg", adobe[:at] + b"\2" + adobe[at + 1:]
    exif = Image.Exif()
    exif[0x112] = 6
    yield "orientation-6.jpg", saved(p, "JPEG", quality=60, exif=exif)
    yield "trailing-bytes.jpg", saved(p, "JPEG", quality=60) + b"\0more after the end"
    yield "thumbnail.mpo.jpg", saved(p, "MPO", quality=60, save_all=True, append_images=[picture(16, 12)])
    for path in sorted(glob.glob(os.path.join(HERE, "image", "*.jpg"))):
        yield os.path.basename(path), open(path, "rb").read()


def pngs():
    rng, w, h = np.random.default_rng(4), 21, 14
    trns = {0: b"\0\3", 2: b"\0\1\0\2\0\3", 3: b"\0\x80\xff"}
    for colour, depths, channels in ((0, (1, 2, 4, 8, 16), 1), (2, (8, 16), 3), (3, (1, 2, 4, 8), 1), (4, (8, 16), 2),
                                     (6, (8, 16), 4)):
        for bits in depths:
            s = rng.integers(0, 1 << bits, (h, w, channels))
            before = f.chunk(b"PLTE", rng.integers(0, 256, 3 << bits, np.uint8).tobytes()) if colour == 3 else b""
            yield f"colour{colour}-{bits}.png", f.png(s, bits, colour, before=before)
            if colour in trns:
                before += f.chunk(b"tRNS", trns[colour][:1 << bits])
            yield f"colour{colour}-{bits}-adam7.png", f.png(s, bits, colour, True, before)
    s = rng.integers(0, 256, (h, w, 1))
    few = f.chunk(b"PLTE", rng.integers(0, 256, 3 * 100, np.uint8).tobytes())
    yield "palette-too-short.png", f.png(s, 8, 3, before=few)
    yield "idat-in-pieces.png", f.png(s, 8, 0, pieces=7)
    yield "idat-empty-pieces.png", f.png(s[:1, :1], 8, 0, pieces=40)
    yield "more-data-than-rows.png", f.png(s, 8, 0, extra=b"beyond the last row" * 9)
    for n in range(1, 10):
        yield f"adam7-{n}x{10 - n}.png", f.png(s[:10 - n, :n], 8, 0, True)
    yield "text-and-icc.png", f.png(s, 8, 0, before=f.chunk(b"gAMA", struct.pack(">I", 45455)) +
                                    f.chunk(b"tEXt", b"Title\0x"), after=f.chunk(b"tEXt", b"Comment\0later"))
    yield "animated.png", saved(picture(12, 9), "PNG", save_all=True, append_images=[picture(12, 9, 2)])
    yield "pixel.png", f.png(s[:1, :1], 8, 0)


def bmps():
    rng, w, h = np.random.default_rng(5), 13, 7
    for bits in (1, 4, 8):
        pal = rng.integers(0, 256, (1 << bits, 4), np.uint8)
        rows = [rng.integers(0, 256, (w * bits + 7) // 8, np.uint8).tobytes() for _ in range(h)]
        yield f"palette-{bits}.bmp", f.bmp(rows, w, h, bits, palette=pal.tobytes())
        yield f"palette-{bits}-os2.bmp", f.bmp(rows, w, h, bits, header=12, palette=pal[:, :3].tobytes())
    yield "palette-8-short-v5.bmp", f.bmp(rows, w, h, 8, header=124, palette=pal[:90].tobytes(), colours=90)
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, 1)
    yield "grey-8.bmp", f.bmp(rows, w, h, 8, palette=ramp.tobytes())
    yield "top-down-gap.bmp", f.bmp(rows, w, -h, 8, palette=pal.tobytes(), gap=10)
    layouts = {16: [("555", (0x7C00, 0x3E0, 0x1F)), ("565", (0xF800, 0x7E0, 0x1F))],
               24: [("masks", (0xFF0000, 0xFF00, 0xFF))],
               32: [("bgrx", (0xFF0000, 0xFF00, 0xFF)), ("xbgr", (0xFF000000, 0xFF0000, 0xFF00)),
                    ("bgxr", (0xFF000000, 0xFF00, 0xFF)), ("abgr", (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
                    ("rgba", (0xFF, 0xFF00, 0xFF0000, 0xFF000000)), ("bgra", (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
                    ("bgar", (0xFF000000, 0xFF00, 0xFF, 0xFF0000)), ("none", (0, 0, 0, 0))]}
    for bits, known in layouts.items():
        rows = [rng.integers(0, 256, w * bits // 8, np.uint8).tobytes() for _ in range(h)]
        yield f"raw-{bits}.bmp", f.bmp(rows, w, h, bits)
        for name, masks in known:
            yield f"{name}-{bits}.bmp", f.bmp(rows, w, -h if len(masks) == 4 else h, bits,
                                              header=108 if len(masks) == 4 else 40, compression=3, masks=masks)


def gifs():
    rng, w, h = np.random.default_rng(6), 19, 11
    pal = [rng.integers(0, 256, 3 << n, np.uint8).tobytes() for n in range(9)]
    for n in (2, 4, 8):
        yield f"global-{n}.gif", f.gif((w, h), (0, 0), rng.integers(0, 1 << n, (h, w)), n, pal[n])
    s = rng.integers(0, 16, (h, w))
    yield "local.gif", f.gif((w, h), (0, 0), s, 4, pal[4], local=pal[3] + pal[3])
    yield "no-palette.gif", f.gif((w, h), (0, 0), s, 4)
    yield "short-palette.gif", f.gif((w, h), (0, 0), s, 4, pal[2])
    yield "transparent.gif", f.gif((w, h), (0, 0), s, 4, pal[4], transparent=5)
    yield "small-frame.gif", f.gif((w + 9, h + 5), (4, 3), s, 4, pal[4])
    yield "small-frame-transparent.gif", f.gif((w + 9, h + 5), (4, 3), s, 4, pal[4], transparent=6)
    yield "frame-leaves-screen.gif", f.gif((w - 3, h + 4), (2, 1), s, 4, pal[4])
    yield "clear-codes.gif", f.gif((w, h), (0, 0), s, 4, pal[4], clear_every=9)
    for rows in (1, 2, 3, 5, 11):
        yield f"interlaced-{rows}.gif", f.gif((w, rows), (0, 0), s[:rows], 4, pal[4], interlaced=True)
    yield "table-full.gif", f.gif((90, 80), (0, 0), rng.integers(0, 256, (80, 90)), 8, pal[8], clear_every=10 ** 9)
    yield "animated.gif", saved(picture(20, 15).quantize(16), "GIF", save_all=True,
                                append_images=[picture(20, 15, 2).quantize(16)])


def tgas():
    rng, w, h = np.random.default_rng(7), 17, 9
    palettes = {16: 2, 24: 3}  # 32 bits: this Pillow has no such palette, 13 reads it as fr-run does
    for kind, depth in ((1, 8), (2, 16), (2, 24), (2, 32), (3, 8), (3, 16)):
        size = depth // 8
        px = [rng.integers(0, 256, size, np.uint8).tobytes() for _ in range(w * h)]
        px = [px[i - i % 4] if i % 7 < 4 else px[i] for i in range(w * h)]
        extra = {}
        if kind == 1:
            extra = dict(palette=rng.integers(0, 256, 3 * 200, np.uint8).tobytes(), first=7, entries=200, map_bits=24)
        for flags in (0, 0x10, 0x20, 0x30) if (kind, depth) in ((2, 24), (1, 8)) else (0x20,):
            yield f"plain-{kind}-{depth}-{flags:02x}.tga", f.tga(kind, depth, w, h, b"".join(px), flags, **extra)
            yield f"rle-{kind}-{depth}-{flags:02x}.tga", f.tga(kind | 8, depth, w, h, f.tga_rle(px, w), flags,
                                                               ident=b"name", **extra)
        yield f"cross-{kind}-{depth}.tga", f.tga(kind | 8, depth, w, h, f.tga_rle(px, w, 25, True), 0x20, **extra)
    for bits, size in palettes.items():
        yield f"map-{bits}.tga", f.tga(1, 8, w, h, rng.integers(0, 256, w * h, np.uint8).tobytes(), 0x20, entries=256,
                                       palette=rng.integers(0, 256, 256 * size, np.uint8).tobytes(), map_bits=bits)


def pnms():
    rng, w, h = np.random.default_rng(8), 11, 6
    bits = [rng.integers(0, 256, n, np.uint8).tobytes() for n in (2 * h, w * h * 6)]
    yield "p4.pbm", b"P4\n# a comment\n11 6\n" + bits[0]
    for maxval in (1, 7, 100, 254, 255, 256, 1000, 65535):
        per = 2 if maxval > 255 else 1
        v = rng.integers(0, maxval + 1, w * h * 3)
        body = v.astype(">u2").tobytes() if per == 2 else v.astype(np.uint8).tobytes()
        yield f"p6-{maxval}.ppm", b"P6 11\t6 %d\n" % maxval + body
        yield f"p5-{maxval}.pgm", b"P5\r11#w\n\n6\n%d " % maxval + body[:w * h * per]
    yield "p6-above-maxval.ppm", b"P6 11 6 100\n" + bits[1][:w * h * 3]


def webps():
    p, q = picture(31, 22), picture(31, 22).convert("RGBA")
    q.putalpha(picture(31, 22, 3).getchannel(1))
    for name, im in (("rgb", p), ("alpha", q)):
        for kind, options in (("lossy", {"quality": 60}), ("lossless", {"lossless": True}),
                              ("exact", {"lossless": True, "exact": True})):
            yield f"{kind}-{name}.webp", saved(im, "WEBP", **options)
    yield "pixel.webp", saved(picture(1, 1), "WEBP")
    yield "animated.webp", saved(p, "WEBP", save_all=True, append_images=[p.rotate(180)], quality=50)
    still = saved(picture(16, 10), "WEBP", quality=60)[12:]
    yield "small-frame.webp", f.webp_animation((30, 20), [(6, 4, 16, 10, still)] * 2)
    alpha = saved(q.crop((0, 0, 16, 10)), "WEBP", lossless=True, exact=True)[12:]
    yield "small-frame-alpha.webp", f.webp_animation((30, 20), [(6, 4, 16, 10, alpha)])


def refused():
    """(name, bytes, code): damaged, or not read by name"""
    rng = np.random.default_rng(9)
    s = rng.integers(0, 256, (8, 8, 1))
    ok = f.png(s, 8, 0)

    def ihdr(w, h, bits):
        return ok.replace(ok[8:33], f.chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, 0, 0, 0, 0)))

    at = ok.index(b"IDAT") + 8
    yield "bad-idat-checksum.png", ok[:at] + bytes([ok[at] ^ 1]) + ok[at + 1:], "damaged"
    yield "bad-ihdr-checksum.png", ok[:20] + bytes([ok[20] ^ 1]) + ok[21:], "damaged"
    yield "no-palette.png", f.png(s, 8, 3), "damaged"
    yield "rows-missing.png", ihdr(8, 9, 8), "damaged"
    yield "bits-3.png", ihdr(8, 8, 3), "damaged"
    for name, w, h, code in (("zero", 0, 8, "damaged"), ("huge", 2 ** 31 - 1, 2 ** 31 - 1, "limit"),
                             ("bomb", 12000, 12000, "damaged")):
        yield f"{name}.png", ihdr(w, h, 8), code
    rows = [bytes(8)] * 8
    yield "rle8.bmp", f.bmp(rows, 8, 8, 8, compression=1, palette=bytes(1024)), "format"
    yield "masks.bmp", f.bmp([bytes(16)] * 8, 8, 8, 16, compression=3, masks=(0xF00, 0xF0, 0xF)), "format"
    yield "two-greys-8.bmp", f.bmp(rows, 8, 8, 8, colours=2, palette=b"\0\0\0\0\xff\xff\xff\0"), "format"
    small = f.bmp(rows, 2, 8, 24)
    yield "huge.bmp", small[:18] + struct.pack("<ii", 2 ** 31 - 1, 2 ** 30) + small[26:], "limit"
    yield "huge.gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;", "limit"
    early = f.gif((9, 9), (0, 0), s[:, :, 0] & 3, 2)
    yield "codes-end-early.gif", early.replace(b"\x08\0\x08\0", b"\x09\0\x09\0"), "damaged"
    yield "end-before-frame.gif", b"GIF89a\4\0\4\0\0\0\0;", "damaged"
    yield "run-crosses-row.tga", f.tga(11, 8, 4, 4, b"\x8f\x50", 0x20), "damaged"
    yield "plain.ppm", b"P3 1 1 255 1 2 3\n", "format"
    yield "huge.ppm", b"P6 99999 99999 255\n", "limit"
    yield "maxval-0.ppm", b"P6 1 1 0\n\0\0\0", "damaged"
    yield "number-missing.ppm", b"P6 1 x 255\n\0\0\0", "damaged"
    j = saved(picture(24, 24), "JPEG", quality=50)
    sof = j.index(b"\xff\xc0")
    yield "huge.jpg", j[:sof + 5] + b"\xff\xdc\xff\xdc" + j[sof + 9:], "limit"
    yield "lossless.jpg", j[:sof] + b"\xff\xc3" + j[sof + 2:], "format"
    yield "12-bit.jpg", j[:sof + 4] + b"\x0c" + j[sof + 5:], "format"
    yield "ends-early-with-mark.jpg", j[:-60] + b"\xff\xd9", "damaged"
    w = saved(picture(24, 24), "WEBP")
    yield "lying-size.webp", w[:4] + struct.pack("<I", len(w) + 1000) + w[8:], "damaged"


def needs(data, rgb):
    """The shortest beginning that Pillow reads as the same picture; those of fewer bytes must be refused."""
    def same(n):
        try:
            got = read(data[:n])
        except Exception:
            return False
        return got.shape == rgb.shape and np.array_equal(got, rgb)
    return next(n for n in range(len(data) + 1) if same(n))


def made(kind, w, h):
    """The picture of a fit line; tests/image.c has the same formula."""
    y, x, c = np.mgrid[0:h, 0:w, 0:3].astype(np.uint32)
    if kind == "smooth":
        return ((x * 3 + y * 5 + c * 40 + (x * y >> 5)) & 255).astype(np.uint8)
    v = x * np.uint32(0x9E3779B1) + y * np.uint32(0x85EBCA77) + c * np.uint32(0xC2B2AE3D)
    v = (v ^ v >> 15) * np.uint32(0x2C1B3C6D)
    v = (v ^ v >> 12) * np.uint32(0x297A2D39)
    return (v >> 24).astype(np.uint8)


def window(rgb, resize, crop, resample, pad):
    """By CLIPImageProcessor; by Pillow and its rules where 4.45.2 takes the height for channels (1 and 3 rows)."""
    h, w, _ = rgb.shape
    im = Image.fromarray(rgb)
    if pad and w != h:
        square = Image.new("RGB", (max(w, h),) * 2, tuple(int(m * 255) for m in MEAN))
        square.paste(im, ((max(w, h) - w) // 2, (max(w, h) - h) // 2))
        im, (w, h) = square, square.size
    short, other = min(w, h), max(w, h)
    size = [resize if v == short else int(resize * other / short) for v in (w, h)]
    if h not in (1, 3) and size[1] not in (1, 3):
        p = CLIPImageProcessor(size={"shortest_edge": resize}, crop_size={"height": crop, "width": crop},
                               resample=resample, do_rescale=False, do_normalize=False)
        return np.ascontiguousarray(p(im, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0).astype(np.uint8))
    big = np.asarray(im.resize(size, resample))
    out = np.zeros((crop, crop, 3), np.uint8)
    top, left = ((v - crop) // 2 for v in (size[1], size[0]))
    y0, x0 = max(0, top), max(0, left)
    part = big[y0:top + crop, x0:left + crop]
    out[y0 - top:y0 - top + part.shape[0], x0 - left:x0 - left + part.shape[1]] = part
    return out


def fits():
    sizes = [(1, 1), (1, 3), (3, 1), (2, 2), (1, 40), (40, 1), (335, 337), (336, 336), (337, 336), (336, 500),
             (500, 336),             (672, 672), (640, 427), (427, 640), (97, 1000), (1000, 97), (100, 75), (1200, 900), (333, 2)]
    for i, (w, h) in enumerate(sizes):
        yield "noise" if i % 2 else "smooth", w, h, 336, 336, "bicubic", "crop"
    yield "noise", 1, 2000, 28, 28, "bicubic", "crop"
    yield "noise", 2000, 1, 28, 28, "bicubic", "crop"
    for name in FILTERS:
        for w, h in ((61, 45), (200, 311), (56, 90), (5, 7)):
            yield "noise", w, h, 56, 56, name, "crop"
    for w, h in ((50, 90), (90, 51), (336, 336), (700, 300), (299, 701), (1, 30), (30, 1)):
        yield "noise", w, h, 336, 336, "bicubic", "pad"
    for name in FILTERS:
        yield "noise", 70, 33, 40, 40, name, "pad"
        yield "noise", 33, 70, 40, 33, name, "pad"
    for resize, crop in ((20, 28), (21, 28), (27, 28), (1, 28), (40, 28), (41, 28)):
        for w, h in ((30, 31), (64, 30), (30, 65), (28, 28)):
            yield "smooth", w, h, resize, crop, "bicubic", "crop"


def normalised():
    every = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, 2)
    for rescale, mean, std in ((1 / 255, MEAN, STD), (1 / 255, [0.5] * 3, [0.5] * 3),
                               (0.00392156862745098, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
                               (1 / 127.5, [1.0] * 3, [1.0] * 3)):
        p = CLIPImageProcessor(do_resize=False, do_center_crop=False, rescale_factor=rescale, image_mean=mean,
                               image_std=std)
        pixels = p(Image.fromarray(every), return_tensors="np")["pixel_values"][0]
        assert pixels.dtype == np.float32 and pixels.shape == (3, 16, 16)
        yield rescale, mean + std, hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def main(golden):
    out = os.path.join(golden, "image")
    os.makedirs(out, exist_ok=True)
    lines = []
    for group in (jpegs, pngs, bmps, gifs, tgas, pnms, webps):
        for name, data in group():
            name = group.__name__[:-1] + "-" + name
            rgb = read(data)
            open(os.path.join(out, name), "wb").write(data)
            h, w, _ = rgb.shape
            lines.append(f"decode {name} {w} {h} {hashlib.sha256(rgb.tobytes()).hexdigest()} {needs(data, rgb)}")
            if name.startswith(("png-colour0-16", "pnm-p5-1000", "pnm-p5-256", "pnm-p5-65535", "jpeg-extraneous")):
                lines.append("warned " + name)
    for name, data, code in refused():
        open(os.path.join(out, "refused-" + name), "wb").write(data)
        lines.append(f"refuse refused-{name} {code}")
    for kind, w, h, resize, crop, name, mode in fits():
        u8 = window(made(kind, w, h), resize, crop, FILTERS[name], mode == "pad")
        assert u8.shape == (crop, crop, 3), (kind, w, h, u8.shape)
        lines.append(f"fit {kind} {w} {h} {resize} {crop} {name} {mode} {hashlib.sha256(u8.tobytes()).hexdigest()}")
    for rescale, numbers, digest in normalised():
        lines.append("normalise %.17g %s %s" % (rescale, " ".join("%.9g" % np.float32(v) for v in numbers), digest))
    open(os.path.join(out, "manifest.txt"), "w").write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
