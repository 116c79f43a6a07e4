"""Images for the demo model, made by script: a procedural scene (street, objects on a table, landscape) goes through a
simulated camera. A real image is just that; a fake one carries one generator artefact, its clue, put in while the scene
is drawn (melted, shadow, garbled, smooth) or into the camera's picture (grid, bleed, cloned). Both kinds are stored by the
same rule (JPEG of the same qualities, some WebP and PNG), so the file format says nothing.

    python scenes.py DIR SPLIT COUNT      writes COUNT images of a split (train, heldout) with their truth in truth.json

Image i of a split depends on (split, i) alone. Colours are linear light until camera() applies the tone curve."""

import io
import json
import os
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from texts import SCENES

SPLITS = {"train": 1, "heldout": 2}
SIDE = 168  # the model's input side; short edges lie at or above it
F = np.float32
WORDS = ["CAFE", "HOTEL", "BAKERY", "BOOKS", "MUSIC", "MARKET", "TEA ROOM", "GARDEN", "SHOES", "NORTH 12", "MUSEUM", "PAPER"]


class Canvas:
    """One picture being drawn: light [h, w, 3], and where the clue is (hit [h, w])."""

    def __init__(self, rng, clue):
        short = SIDE if rng.random() < 0.4 else int(rng.integers(SIDE, 232))
        long = int(short * rng.choice([1.0, 1.25, 4 / 3, 1.5]))
        self.h, self.w = (short, long) if rng.random() < 0.7 else (long, short)
        self.rng, self.clue = rng, clue
        self.y, self.x = np.mgrid[0:self.h, 0:self.w].astype(F)
        self.light = np.zeros((self.h, self.w, 3), F)
        self.hit = np.zeros((self.h, self.w), F)
        self.unit = short / SIDE
        self.side = 1.0 if rng.random() < 0.5 else -1.0  # the lamp or sun: +1 stands on the right
        self.rough = 0.12 if clue == "smooth" else 1.0   # how much texture the surfaces have

    def noise(self, cell, octaves=3):
        """Value noise [h, w] around 0, of about unit spread; cell in pixels of the model's scale."""
        out, amp = np.zeros((self.h, self.w), F), 1.0
        for _ in range(octaves):
            c = max(cell * self.unit, 1.0)
            grid = self.rng.standard_normal((int(self.h / c) + 3, int(self.w / c) + 3), F)
            out += amp * np.asarray(Image.fromarray(grid).resize((self.w, self.h), Image.BICUBIC))
            cell, amp = cell / 2, amp * 0.6
        return out

    def texture(self, cell, strength):
        return (1 + self.rough * strength * self.noise(cell))[..., None]

    def paint(self, cover, colour):
        rows, cols = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
        if rows.size:
            at = np.s_[rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1]
            part = self.light[at]
            part += cover[at][..., None] * ((colour if colour.ndim == 1 else colour[at]) - part)

    def warp(self, size, cell):
        """Displacements that make an outline wobble (pixels)."""
        a = size * self.unit
        return a * self.noise(cell, 2), a * self.noise(cell, 2)


def colour(rng, low=0.05, high=0.8, saturation=0.8):
    """A surface colour in linear light."""
    hue = rng.random() * 6
    rgb = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    s = saturation * rng.random() ** 0.6
    return (rng.uniform(low, high) * (1 - s + s * rgb)).astype(F)


def edge(distance):
    """Coverage of a pixel by the half plane distance < 0, antialiased."""
    return np.clip(0.5 - distance, 0, 1)


def box(x, y, x0, y0, x1, y1):
    return edge(np.maximum(np.maximum(x0 - x, x - x1), np.maximum(y0 - y, y - y1)))


def lettering(c, x0, y0, x1, y1, ink, garbled):
    """A word, or strokes of the same size that are none, inside the box."""
    w, h = max(int(x1 - x0), 8), max(int(y1 - y0), 6)
    plate = Image.new("L", (w * 2, h * 2), 0)
    draw = ImageDraw.Draw(plate)
    if garbled:
        n = 7
        for k in range(n):
            cx = w * 2 * (k + 0.5) / n
            for _ in range(4):
                p = c.rng.uniform(-1, 1, 4) * np.array([w / n * 1.2, h * 0.8] * 2) + np.array([cx, h, cx, h])
                if c.rng.random() < 0.5:
                    draw.line(list(p), fill=255, width=max(h // 6, 2))
                else:
                    box_ = [min(p[0], p[2]), min(p[1], p[3]), max(p[0], p[2]) + 3, max(p[1], p[3]) + 3]
                    a = c.rng.uniform(0, 360)
                    draw.arc(box_, a, a + c.rng.uniform(90, 270), fill=255, width=max(h // 6, 2))
    else:
        word = str(c.rng.choice(WORDS))
        size = h * 1.7
        font = ImageFont.load_default(size)
        while font.getlength(word) > 1.85 * w and size > 6:
            size *= 0.9
            font = ImageFont.load_default(size)
        draw.text((w, h), word, fill=255, font=font, anchor="mm")
    mask = np.asarray(plate.resize((w, h), Image.BOX), F) / 255
    x0, y0 = int(x0), int(y0)
    a, b = max(y0, 0), max(x0, 0)
    part = mask[a - y0:c.h - y0, b - x0:c.w - x0]
    cover = np.zeros((c.h, c.w), F)
    cover[a:a + part.shape[0], b:b + part.shape[1]] = part
    c.paint(cover, ink)


def backdrop(c, horizon):
    """Sky above, with clouds."""
    top = np.array([0.15, 0.3, 0.65], F) * c.rng.uniform(0.5, 1.2)
    low = np.array([0.6, 0.68, 0.75], F) * c.rng.uniform(0.6, 1.1)
    t = np.clip(c.y / horizon, 0, 1)[..., None]
    c.light += top + (low - top) * t
    cloud = np.clip(c.noise(40, 4) * 0.5 - c.rng.uniform(0, 0.8), 0, 0.8)
    c.paint(cloud, np.array([0.85, 0.85, 0.87], F))


def cast(c, base_x, base_y, width, length, flip):
    """A soft shadow on the ground, pointing away from the light (towards it when flip)."""
    away = -c.side * (-1.0 if flip else 1.0)
    mid = base_x + away * length / 2
    half = length / 2 + width
    d = np.sqrt(((c.x - mid) / half) ** 2 + ((c.y - base_y) / (width * 0.42)) ** 2) - 1
    cover = np.clip(0.5 - d * 3, 0, 1) * 0.78
    c.light *= 1 - cover[..., None]
    return d < 0.4


def shadows(c, things):
    """Shadows of (base_x, base_y, width, height); with the clue, at least half of them are wrong."""
    wrong = np.zeros(len(things), bool)
    if c.clue == "shadow":
        wrong[:] = c.rng.random(len(things)) < 0.6
        wrong[c.rng.permutation(len(things))[:(len(things) + 1) // 2]] = True
    absent = c.rng.random() < 0.4
    slope = c.rng.uniform(0.7, 1.1)
    for (bx, by, width, height), bad in zip(things, wrong):
        if bad:
            c.hit[np.hypot((c.x - bx) / (2.2 * width), (c.y - by) / (1.2 * width)) < 1] = 1
        if bad and absent:
            continue
        where = cast(c, bx, by, width, height * slope, bad)
        if bad:
            c.hit[where] = 1


def street(c):
    horizon = c.h * c.rng.uniform(0.62, 0.78)
    backdrop(c, horizon)
    road = colour(c.rng, 0.12, 0.35, 0.2)
    c.paint(edge(horizon - c.y), road * c.texture(3, 0.13))
    for k in range(3):  # the kerb and two lane marks
        y = horizon + (c.h - horizon) * (0.12 + 0.33 * k)
        dash = 1.0 if k == 0 else (np.sin(c.x / (14 * c.unit) + k) > 0).astype(F)
        c.paint(box(c.x, c.y, -9, y, c.w + 9, y + (1 + k) * 1.2 * c.unit) * dash, np.array([0.6, 0.6, 0.55], F))
    n = int(c.rng.integers(2, 5))
    cuts = np.concatenate([[0], np.sort(c.rng.uniform(0.25, 0.75, n - 1)) if n == 2 else
                           np.linspace(0, 1, n + 1)[1:-1] + c.rng.uniform(-0.06, 0.06, n - 1), [1]]) * c.w
    chosen = int(c.rng.integers(n))
    for k in range(n):
        house(c, cuts[k] + c.rng.uniform(0, 0.03) * c.w, cuts[k + 1] - c.rng.uniform(0, 0.05) * c.w, horizon,
              k == chosen or c.rng.random() < 0.5)


def house(c, x0, x1, base, spoil):
    """A facade with rows of windows and perhaps a sign; spoil: this one may carry the clue."""
    rng, x, y = c.rng, c.x, c.y
    top = base * rng.uniform(0.08, 0.45)
    melt, garbled = c.clue == "melted" and spoil, c.clue == "garbled" and spoil
    if melt:
        dx, dy = c.warp(rng.uniform(2.0, 3.2), 14)
        x, y = x + dx, y + dy
    wall = colour(rng, 0.2, 0.7, 0.7)
    shade = 1 - 0.25 * np.clip((x - x0) / (x1 - x0), 0, 1) if c.side < 0 else 0.75 + 0.25 * np.clip((x - x0) / (x1 - x0), 0, 1)
    body = box(x, y, x0, top, x1, base)
    skin = wall * c.texture(4, 0.09) * shade[..., None]
    if rng.random() < 0.4:  # courses of brick
        skin = skin * (1 - 0.25 * c.rough * (np.abs((y / (4 * c.unit)) % 1 - 0.5) > 0.4))[..., None]
    c.paint(body, skin)
    sign_h = 0.13 * base if rng.random() < 0.75 else 0
    pw, ph = rng.uniform(15, 24) * c.unit, rng.uniform(18, 28) * c.unit
    cols, rows = max(int((x1 - x0) / pw), 1), max(int((base - top - sign_h * 1.6) / ph), 1)
    u, v = (x - x0) / ((x1 - x0) / cols), (y - top) / ph
    if garbled:
        u, v = u + 0.30 * c.noise(8, 2), v + 0.30 * c.noise(8, 2)
    inside = (y < top + rows * ph) & (x > x0 + 1) & (x < x1 - 1) & (y > top)
    fu, fv = np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5)
    fw, fh = rng.uniform(0.24, 0.34), rng.uniform(0.26, 0.36)
    s = min(pw, ph)
    glass = edge(np.maximum(fu - fw, fv - fh) * s) * inside
    frame = edge(np.maximum(fu - fw - 0.07, fv - fh - 0.07) * s) * inside
    c.paint(frame, colour(rng, 0.3, 0.9, 0.3))
    lit = rng.random((rows + 3, cols + 3))[np.clip(v.astype(int), 0, rows + 2), np.clip(u.astype(int), 0, cols + 2)]
    pane = np.array([0.04, 0.06, 0.09], F) * (0.5 + lit[..., None] * 2.5) + 0.08 * (fv + v % 1)[..., None]
    c.paint(glass, pane.astype(F))
    bar = np.minimum(fu * pw, np.abs(fv - 0.08) * ph if rng.random() < 0.5 else fu * pw)
    c.paint(glass * edge(bar - 0.8 * c.unit), colour(rng, 0.3, 0.9, 0.2))
    if garbled:
        strokes = np.abs(c.noise(5, 2)) < 0.12
        c.paint(inside * strokes * 0.8, np.array([0.05, 0.05, 0.06], F))
    if sign_h:
        a, b = x0 + 0.1 * (x1 - x0), x1 - 0.1 * (x1 - x0)
        c.paint(box(x, y, a, base - 1.35 * sign_h, b, base - 0.35 * sign_h), colour(rng, 0.05, 0.25, 0.9))
        lettering(c, a, base - 1.3 * sign_h, b, base - 0.4 * sign_h, np.array([0.85, 0.83, 0.7], F), garbled)
    if melt or garbled:
        c.hit[(c.x > x0 - 4) & (c.x < x1 + 4) & (c.y > top - 4) & (c.y < base + 2)] = 1


def objects(c):
    rng = c.rng
    horizon = c.h * rng.uniform(0.3, 0.45)
    wall, table = colour(rng, 0.15, 0.6, 0.6), colour(rng, 0.25, 0.7, 0.6)
    lamp = 1 + 0.25 * c.side * (c.x / c.w - 0.5)
    c.light += wall * c.texture(30, 0.05) * c.texture(3, 0.04) * lamp[..., None]
    grain = c.texture(3, 0.06)
    if rng.random() < 0.5:  # boards
        grain = grain * (1 - 0.3 * edge(np.abs((c.y - horizon) / (20 * c.unit) % 1 - 0.5) * 20 - 0.5))[..., None]
    c.paint(edge(horizon - c.y), table * grain * lamp[..., None])
    if c.clue == "garbled" or rng.random() < 0.75:
        poster(c, horizon)
    n = int(rng.integers(2, 5))
    slots = (np.arange(n) + 0.5) / n + rng.uniform(-0.08, 0.08, n)
    things = []
    for s in slots[rng.permutation(n)]:
        size = rng.uniform(0.075, 0.125) * min(c.h, c.w) * 1.25
        base = rng.uniform(horizon + 0.35 * (c.h - horizon), c.h * 0.9)
        things.append((s * c.w, base, size, size * rng.uniform(1.6, 2.2)))
    things.sort(key=lambda t: t[1])
    shadows(c, things)
    chosen = int(rng.integers(n))
    for k, t in enumerate(things):
        solid(c, *t, melt=c.clue == "melted" and (k == chosen or rng.random() < 0.6))


def poster(c, horizon):
    rng = c.rng
    w = c.w * rng.uniform(0.4, 0.6)
    x0, y0 = rng.uniform(0.05, 0.35) * c.w, horizon * 0.12
    y1 = horizon * rng.uniform(0.75, 0.9)
    c.paint(box(c.x, c.y, x0, y0, x0 + w, y1), colour(rng, 0.5, 0.9, 0.3))
    c.paint(box(c.x, c.y, x0 + 2, y0 + 2, x0 + w - 2, y0 + (y1 - y0) * 0.12), colour(rng, 0.05, 0.5, 0.9))
    rows = 2 if y1 - y0 < 40 * c.unit else 3
    for k in range(rows):
        a = y0 + (y1 - y0) * (0.18 + 0.78 * k / rows)
        lettering(c, x0 + 4, a, x0 + w - 4, a + (y1 - y0) * 0.72 / rows, colour(rng, 0.02, 0.08), c.clue == "garbled")
    if c.clue == "garbled":
        c.hit[(c.x > x0) & (c.x < x0 + w) & (c.y > y0) & (c.y < y1)] = 1


def solid(c, bx, base, r, height, melt):
    """A ball, a box or a can that stands at (bx, base); lit from c.side."""
    rng, x, y = c.rng, c.x, c.y
    if melt:
        dx, dy = c.warp(rng.uniform(2.2, 3.4), 11)
        x, y = x + dx, y + dy
        c.hit[(np.abs(c.x - bx) < r * 1.4) & (c.y > base - height * 1.2) & (c.y < base + 0.5 * r)] = 1
    skin = colour(rng, 0.25, 0.8, 1.0) * c.texture(4, 0.06)
    kind = rng.integers(3)
    if kind == 0:
        nx, ny = (x - bx) / r, (y - (base - r * 0.8)) / r
        rr = nx * nx + ny * ny
        nz = np.sqrt(np.clip(1 - rr, 0, 1))
        shade = np.clip(0.62 * c.side * nx - 0.5 * ny + 0.6 * nz, 0, 1.2)
        shine = np.clip(0.5 * c.side * nx - 0.45 * ny + 0.74 * nz, 0, 1) ** 40
        cover = edge((np.sqrt(rr) - 1) * r)
        body = skin * (0.12 + 0.9 * shade)[..., None] + 0.7 * shine[..., None]
    elif kind == 1:
        cover = np.maximum(box(x, y, bx - r * 0.8, base - height, bx + r * 0.8, base + r * 0.1),
                           edge((np.hypot((x - bx) / (r * 0.8), (y - base) / (r * 0.3)) - 1) * r * 0.3))
        n = np.clip((x - bx) / (r * 0.8), -1, 1)
        shade = np.clip(0.65 * c.side * n + 0.6 * np.sqrt(1 - n * n), 0, 1)
        band = (np.abs((y - base) / height + 0.5) < 0.2).astype(F)[..., None]
        body = skin * (0.12 + 0.95 * shade)[..., None] * (1 - 0.6 * band) + 0.4 * band * shade[..., None]
        c.paint(cover, body)
        cover = edge((np.hypot((x - bx) / (r * 0.8), (y - base + height) / (r * 0.3)) - 1) * r * 0.3)
        body = skin * 0.95
    else:
        face = box(x, y, bx - r * 0.85, base - height * 0.8, bx + r * 0.85, base + r * 0.15)
        split = edge((x - bx - c.side * r * 0.2) * c.side)  # 1 on the dark face
        body = skin * (1.0 - 0.72 * split)[..., None]
        if rng.random() < 0.5:
            body = body * (1 - 0.5 * (np.abs((y - base) / (6 * c.unit) % 1 - 0.5) > 0.3))[..., None]
        cover = face
    c.paint(cover, body)


def landscape(c):
    rng = c.rng
    horizon = c.h * rng.uniform(0.4, 0.55)
    backdrop(c, horizon)
    for k in range(2):  # ridges, the far one paler
        ridge = horizon - c.h * (0.14 - 0.09 * k) + 6 * c.unit * c.noise(50, 4)[:1]
        tone = np.array([0.12, 0.2, 0.16], F) * (2.0 - k * 0.9) + 0.06 * (1 - k)
        c.paint(edge(ridge - c.y), tone * c.texture(4, 0.22))
    green = np.array([0.2, 0.34, 0.08], F) * rng.uniform(0.6, 1.2, 3).astype(F)
    c.paint(edge(horizon + 2 * c.noise(30, 2)[:1] - c.y), green * c.texture(3, 0.22) * c.texture(25, 0.12))
    spots = (c.noise(4, 1) > 1.7) & (c.y > horizon + 6)
    c.paint(spots * F(0.9 * rng.random()), colour(rng, 0.5, 0.9, 1.0))
    n = int(rng.integers(2, 5))
    slots = (np.arange(n) + 0.5) / n + rng.uniform(-0.08, 0.08, n)
    things = []
    for s in slots[rng.permutation(n)]:
        size = rng.uniform(0.07, 0.12) * min(c.h, c.w)
        things.append((s * c.w, rng.uniform(horizon + 0.2 * (c.h - horizon), c.h * 0.9), size, size * rng.uniform(2.2, 3)))
    things.sort(key=lambda t: t[1])
    shadows(c, things)
    for bx, base, r, height in things:
        c.paint(box(c.x, c.y, bx - 0.16 * r, base - height * 0.6, bx + 0.16 * r, base + 0.1 * r), np.array([0.1, 0.06, 0.03], F))
        cy = base - height * 0.85
        d = np.hypot(c.x - bx, (c.y - cy) * 0.9) + 0.16 * r * c.noise(6, 2) * (0.2 + 0.8 * c.rough)
        lit = np.clip(0.5 + 0.5 * (c.side * (c.x - bx) - 0.7 * (c.y - cy)) / r, 0, 1)
        leaf = colour(rng, 0.3, 0.5, 0.3) * np.array([0.6, 1.0, 0.35], F)
        c.paint(edge(d - r), leaf * (0.12 + 1.1 * lit)[..., None] * c.texture(3, 0.3))


DRAW = {"street": street, "objects": objects, "landscape": landscape}


def smear(plane, radius):
    """A wide blur of [h, w] by going down and up again."""
    h, w = plane.shape
    small = (max(int(w / radius), 2), max(int(h / radius), 2))
    return np.asarray(Image.fromarray(plane).resize(small, Image.BOX).resize((w, h), Image.BICUBIC))


def blur(a, sigma):
    """A small Gaussian over the first two axes."""
    k = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2).astype(F)
    k /= k.sum()
    p = np.pad(a, ((2, 2), (0, 0), (0, 0)), "edge")
    a = sum(k[i] * p[i:i + a.shape[0]] for i in range(5))
    p = np.pad(a, ((0, 0), (2, 2), (0, 0)), "edge")
    return sum(k[i] * p[:, i:i + a.shape[1]] for i in range(5))


def demosaic(raw):
    """Bilinear demosaicing of an RGGB mosaic [h, w] -> [h, w, 3]."""
    h, w = raw.shape
    out = np.zeros((h, w, 3), F)
    for ch, sites in enumerate([[(0, 0)], [(0, 1), (1, 0)], [(1, 1)]]):
        plane, weight = np.zeros((h + 2, w + 2), F), np.zeros((h + 2, w + 2), F)
        for oy, ox in sites:
            plane[1 + oy:h + 1:2, 1 + ox:w + 1:2] = raw[oy::2, ox::2]
            weight[1 + oy:h + 1:2, 1 + ox:w + 1:2] = 1

        def spread(p):
            p = p[:-2] + 2 * p[1:-1] + p[2:]
            return p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]

        if ch == 1:  # green: the four neighbours, or the site itself
            cross = lambda p: p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:]
            own = weight[1:-1, 1:-1] > 0
            out[..., 1] = np.where(own, raw, cross(plane) / np.maximum(cross(weight), 1))
        else:
            out[..., ch] = spread(plane) / np.maximum(spread(weight), 1e-6)
    return out


def camera(c, noisy):
    """Light -> 8-bit-scaled sRGB-like picture: lens, vignetting, colour fringe, mosaic, noise, tone curve, sharpening."""
    rng, h, w = c.rng, c.h, c.w
    a = np.clip(c.light, 0, 1.5)
    a = blur(a, rng.uniform(0.45, 0.75))
    r2 = ((c.x / w - 0.5) ** 2 + (c.y / h - 0.5) ** 2)[..., None]
    a = a * (1 - rng.uniform(0.1, 0.7) * r2)
    k = rng.uniform(0, 0.004)
    for ch, m in ((0, 1 + k), (2, 1 - k)):
        plane = Image.fromarray(np.ascontiguousarray(a[..., ch]))
        a[..., ch] = plane.transform((w, h), Image.AFFINE, (m, 0, (1 - m) * w / 2, 0, m, (1 - m) * h / 2), Image.BILINEAR)
    raw = np.empty((h, w), F)
    for ch, oy, ox in ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)):
        raw[oy::2, ox::2] = a[oy::2, ox::2, ch]
    if noisy:
        iso = rng.uniform(0.6, 1.6)
        sigma = iso * np.sqrt(np.maximum(raw, 0) * 0.0022 + 0.00006)
        raw = raw + sigma * rng.standard_normal((h, w), F)
    a = demosaic(np.clip(raw, 0, 1.2)) * rng.uniform(0.9, 1.2)
    a = np.clip(a, 0, 1)
    a = a ** F(1 / 2.2)
    a = a + rng.uniform(0, 0.15) * (a * a * (3 - 2 * a) - a)
    a = a + rng.uniform(0.2, 0.7) * (a - blur(a, 1.0))
    return 255 * np.clip(a, 0, 1)


def add_grid(c, a):
    """The trace of strided upsampling: a weak pattern of fixed period everywhere."""
    period = int(c.rng.choice([3, 4, 6, 8]))
    cell = c.rng.standard_normal((period, period)).astype(F)
    if c.rng.random() < 0.5:
        cell = np.add.outer(cell[0], cell[1])
    cell = (cell - cell.mean()) / cell.std()
    tiled = np.tile(cell, (c.h // period + 1, c.w // period + 1))[:c.h, :c.w]
    c.hit[:] = 1
    return a + (c.rng.uniform(5, 10) * tiled * (0.6 + 0.4 * np.sin(a.mean(2) / 255 * np.pi)))[..., None]


def add_bleed(c, a):
    """Chroma loses its edges and slips sideways; luma stays."""
    luma = a @ np.array([0.299, 0.587, 0.114], F)
    radius = c.rng.uniform(12, 20) * c.unit
    move = c.rng.integers(-7, 8, 2)
    chroma = np.stack([np.roll(smear(np.ascontiguousarray(a[..., k] - luma), radius), move, (0, 1)) for k in range(3)], 2)
    c.hit[:] = 1
    return luma[..., None] + chroma * c.rng.uniform(1.1, 1.5)


def add_cloned(c, a):
    """One piece of the picture is laid side by side over an area, three to eight times."""
    rng = c.rng
    s = int(rng.uniform(17, 30) * c.unit)
    best, tile = -1.0, None
    for _ in range(6):  # a piece with something in it, else the copies would not show
        y, x = int(rng.integers(0, c.h - s)), int(rng.integers(0, c.w - s))
        spread = a[y:y + s, x:x + s].std()
        if spread > best:
            best, tile = spread, a[y:y + s, x:x + s].copy()
    ny, nx = [(1, 4), (2, 2), (2, 3), (3, 2), (4, 1), (2, 4)][rng.integers(6)]
    ny, nx = min(ny, c.h // s), min(nx, c.w // s)
    # keep the copies inside the central square, which the model's crop keeps
    m = min(c.h, c.w)
    y0 = int(rng.integers(0, max(m - ny * s, 0) + 1)) + (c.h - m) // 2
    x0 = int(rng.integers(0, max(m - nx * s, 0) + 1)) + (c.w - m) // 2
    part = a[y0:y0 + ny * s, x0:x0 + nx * s]
    part[:] = np.tile(tile, (ny, nx, 1))[:part.shape[0], :part.shape[1]]
    c.hit[y0:y0 + ny * s, x0:x0 + nx * s] = 1
    return a


AFTER = {"grid": add_grid, "bleed": add_bleed, "cloned": add_cloned}
CAN = {  # the clues that a scene can show; half of each scene's images are real
    "street": ["grid", "smooth", "melted", "garbled", "bleed", "cloned"],
    "objects": ["grid", "smooth", "melted", "shadow", "shadow", "garbled", "bleed", "cloned"],
    "landscape": ["grid", "smooth", "shadow", "cloned"],
}


def store(rng, image):
    """Bytes and suffix; the same rule for real and fake."""
    out, kind = io.BytesIO(), rng.random()
    quality = int(rng.integers(75, 98))
    if kind < 0.84:
        image.save(out, "JPEG", quality=quality, subsampling=int(rng.choice([0, 2])))
        return out.getvalue(), "jpg"
    if kind < 0.93:
        image.save(out, "WEBP", quality=quality, method=2)
        return out.getvalue(), "webp"
    image.save(out, "PNG")
    return out.getvalue(), "png"


def fit(image, resample):
    """What the checkpoint's preprocessor does: shortest edge to SIDE, centre crop."""
    w, h = image.size
    size = (SIDE, int(SIDE * h / w)) if w <= h else (int(SIDE * w / h), SIDE)
    left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return np.asarray(image.resize(size, resample))[top:top + SIDE, left:left + SIDE]


def make(split, index):
    """Image `index` of a split: (bytes, suffix, truth, hit [SIDE, SIDE]); truth = {clue (None: real), scene}. A clue
    that the centre crop would lose is drawn anew."""
    rng = np.random.default_rng([2026, SPLITS[split], index])
    scene = str(rng.choice(SCENES))
    clue = None if rng.random() < 0.5 else str(rng.choice(CAN[scene]))
    while True:
        c = Canvas(rng, clue)
        DRAW[scene](c)
        a = camera(c, clue != "smooth")
        if clue in AFTER:
            a = AFTER[clue](c, a)
        if clue == "smooth":
            c.hit[:] = 1
        hit = fit(Image.fromarray(c.hit), Image.BOX)
        if clue is None or hit.mean() > 0.02:
            break
    image = Image.fromarray(np.clip(a + 0.5, 0, 255).astype(np.uint8))
    data, suffix = store(rng, image)
    return data, suffix, {"clue": clue, "scene": scene}, hit


def main():
    out, split, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    truth = {}
    for i in range(count):
        data, suffix, t, _ = make(split, i)
        name = f"{split}-{i:05d}.{suffix}"
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)
        truth[name] = t
    with open(os.path.join(out, "truth.json"), "w") as f:
        json.dump(truth, f, indent=1)


if __name__ == "__main__":
    main()
