"""Image files that Pillow reads and cannot write, byte by byte: every PNG, BMP, TGA, GIF, PNM and WebP layout."""

import struct
import zlib

import numpy as np

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_filter(kind, row, up, bpp):
    """row, up: bytes of one scan line and the one before it; the filtered line with its filter byte"""
    out = bytearray([kind])
    for i, v in enumerate(row):
        a = row[i - bpp] if i >= bpp else 0
        b = up[i]
        c = up[i - bpp] if i >= bpp else 0
        pa, pb, pc = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        paeth = a if pa <= pb and pa <= pc else b if pb <= pc else c
        out.append((v - [0, a, b, (a + b) // 2, paeth][kind]) & 255)
    return bytes(out)


def png_rows(samples, bits, step=None):
    """samples [h, w, channels] of `bits` -> filtered scan lines; the filters take turns"""
    h, w, c = samples.shape
    bpp = max(1, bits * c // 8)
    out, up = b"", None
    for y in range(h):
        flat = samples[y].reshape(-1)
        if bits == 16:
            row = flat.astype(">u2").tobytes()
        elif bits == 8:
            row = flat.astype(np.uint8).tobytes()
        else:
            plane = ((flat[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
            row = np.packbits(plane.reshape(-1)).tobytes()
        out += png_filter(y % 5, row, up or bytes(len(row)), bpp)
        up = row
    return out


def png(samples, bits, colour, interlaced=False, before=b"", after=b"", pieces=1, extra=b""):
    """samples [h, w, channels]; before: chunks ahead of IDAT, cut into `pieces`"""
    h, w, _ = samples.shape
    if interlaced:
        raw = b"".join(png_rows(samples[y::dy, x::dx], bits) for x, y, dx, dy in ADAM7 if samples[y::dy, x::dx].size)
    else:
        raw = png_rows(samples, bits)
    data = zlib.compress(raw + extra, 9)
    cuts = [len(data) * i // pieces for i in range(pieces + 1)]
    idat = b"".join(chunk(b"IDAT", data[a:b]) for a, b in zip(cuts, cuts[1:]))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, colour, 0, 0, int(interlaced)))
    return b"\x89PNG\r\n\x1a\n" + head + before + idat + after + chunk(b"IEND", b"")


def bmp(rows, w, h, bits, header=40, compression=0, masks=(), palette=b"", colours=0, gap=0):
    """rows: packed lines in the order of the file, without padding; h < 0 is top-down"""
    stride = (w * bits + 31) // 32 * 4
    body = b"".join(r + bytes(stride - len(r)) for r in rows)
    if header == 12:
        info = struct.pack("<IHHHH", 12, w, h, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, w, h, 1, bits, compression, len(body), 2835, 2835, colours, 0)
        tail = b"".join(struct.pack("<I", m) for m in masks)
        info += tail + bytes(max(0, header - 40 - len(tail)))
    offset = 14 + len(info) + len(palette) + gap
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + palette + bytes(gap) + body


def tga(kind, depth, w, h, body, flags=0, palette=b"", first=0, entries=0, map_bits=0, ident=b""):
    head = struct.pack("<BBBHHBHHHHBB", len(ident), int(bool(entries)), kind, first, entries, map_bits, 0, 0, w, h,
                       depth, flags)
    return head + ident + palette + body


def tga_rle(pixels, w, literal=3, cross=False):
    """pixels: list of bytes objects; runs stay in their row, literals cross it where `cross`"""
    out, i = b"", 0
    while i < len(pixels):
        n = 1
        while i + n < len(pixels) and n < 128 and pixels[i + n] == pixels[i] and (i + n) % w:
            n += 1
        if n > 1:
            out += bytes([127 + n]) + pixels[i]
        else:
            n = min(literal, len(pixels) - i, len(pixels) if cross else w - i % w)
            out += bytes([n - 1]) + b"".join(pixels[i:i + n])
        i += n
    return out


def lzw(indices, root, clear_every=None):
    """GIF's LZW in blocks; clear_every: a clear code after so many codes, None: when the table is full"""
    clear, codes = 1 << root, []
    table, width, nxt, cur = {}, root + 1, (1 << root) + 2, ()
    bits = []

    def emit(code):
        bits.extend((code >> i) & 1 for i in range(width))
        codes.append(code)

    def reset():
        nonlocal table, width, nxt
        table, width, nxt = {(i,): i for i in range(clear)}, root + 1, clear + 2

    reset()
    emit(clear)
    for v in indices:
        if cur + (v,) in table:
            cur += (v,)
            continue
        emit(table[cur])
        if nxt < 4096:
            table[cur + (v,)] = nxt
            nxt += 1
            if nxt > (1 << width) and width < 12:
                width += 1
        if nxt >= 4096 and clear_every is None or clear_every and len(codes) % clear_every == 0:
            emit(clear)
            reset()
        cur = (v,)
    emit(table[cur])
    emit(clear + 1)
    bits += [0] * (-len(bits) % 8)
    data = np.packbits(np.array(bits, np.uint8).reshape(-1, 8)[:, ::-1]).tobytes()
    return bytes([root]) + b"".join(bytes([len(data[i:i + 255])]) + data[i:i + 255]
                                    for i in range(0, len(data), 255)) + b"\0"


def interlace_rows(h):
    return [y for first, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(first, h, step)]


def gif(screen, frame, indices, root, palette=None, local=None, transparent=None, interlaced=False, tail=b"",
        clear_every=None):
    """screen (w, h), frame (x, y), indices [h, w] of the frame; palettes: bytes of 3 * 2^n"""
    def size(p):
        return 128 | (len(p) // 3).bit_length() - 2 if p else 0
    h, w = indices.shape
    order = interlace_rows(h) if interlaced else range(h)
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, size(palette), 0, 0) + (palette or b"")
    out += b"!\xfe\x05hello\0"
    if transparent is not None:
        out += b"!\xf9\x04" + struct.pack("<BHB", 1, 0, transparent) + b"\0"
    out += b"," + struct.pack("<HHHHB", *frame, w, h, size(local) | (64 if interlaced else 0)) + (local or b"")
    out += lzw([int(v) for y in order for v in indices[y]], root, clear_every)
    return out + tail + b";"


def riff(*chunks):
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(b)) + b + bytes(len(b) % 2) for k, b in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def u24(v):
    return struct.pack("<I", v)[:3]


def webp_animation(canvas, frames, background=0x80FF8040):
    """frames: (x, y, w, h, the chunks of a still WebP); x and y are even"""
    head = bytes([0x12, 0, 0, 0]) + u24(canvas[0] - 1) + u24(canvas[1] - 1)
    anmf = [(b"ANMF", u24(x // 2) + u24(y // 2) + u24(w - 1) + u24(h - 1) + u24(100) + b"\0" + body)
            for x, y, w, h, body in frames]
    return riff((b"VP8X", head), (b"ANIM", struct.pack("<IH", background, 0)), *anmf)
