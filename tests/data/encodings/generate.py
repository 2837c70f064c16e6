"""Writes the reference data of tests/encodings: bytes made by numpy and by the `gguf` package, not by this crate.

    pip install numpy gguf safetensors
    python tests/data/encodings/generate.py

packed.tsv          encoding, rows, columns, SHA-256 of the packed bytes of `trits(rows * columns)` without scale bytes.
                    Written with reshapes and transposes, as the original converters do, where the crate computes places.
dense.safetensors   `<type>.bytes`: random blocks [rows, bytes]; `<type>.values`: what `gguf.quants.dequantize` makes of
                    them, f32 [rows, columns].
"""

import hashlib
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent


def trits(count):
    """The generator of tests/encodings/main.rs: a linear congruence, jumped ahead by its closed form."""
    a, c, seed = np.uint32(1664525), np.uint32(1013904223), np.uint32(0x9E3779B9)
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(count, a, np.uint32), dtype=np.uint32)
        sums = np.cumsum(np.concatenate([[np.uint32(1)], powers[:-1]]), dtype=np.uint32)
        state = powers * seed + sums * c
    return ((state >> 16) % 3).astype(np.int8) - 1


def tile(values, bm, by, strip_rows, strip_cols):
    """[M, K] -> [..., strip_rows, strip_cols]: blocks of rows, blocks of columns, strips of rows, strips of columns."""
    m, k = values.shape
    v = values.reshape(m // bm, bm // strip_rows, strip_rows, k // by, by // strip_cols, strip_cols)
    return v.transpose(0, 3, 1, 4, 2, 5).reshape(-1, strip_rows, strip_cols)


def tl1(w, bm, by, strip_rows):
    strip_cols = 256 // strip_rows
    pairs = (3 * w[:, 0::2] + w[:, 1::2] + 4).astype(np.uint8)
    v = tile(pairs, bm, by // 2, strip_rows, strip_cols // 2)
    byte = v[:, :, 0::2] << 4 | v[:, :, 1::2]  # [strips, rows, groups of four columns]
    byte = byte.reshape(len(byte), strip_rows // 16, 16, -1).transpose(0, 1, 3, 2)
    return byte.tobytes()


def swap(v):
    """Groups of eight rows in the order 0, 2, 1, 3."""
    return v.reshape(len(v), 4, 8, -1)[:, [0, 2, 1, 3]].reshape(v.shape)


def tl2(w, bm, by):
    k3 = w.shape[1] - w.shape[1] % by
    three, two = w[:, :k3], w[:, k3:]
    value = (9 * three[:, 0::3] + 3 * three[:, 1::3] + three[:, 2::3]).astype(np.int8)
    v = tile(np.abs(value).astype(np.uint8), bm, by // 3, 32, 2)
    out = swap(v[:, :, :1] << 4 | v[:, :, 1:]).tobytes()
    sign = tile((value < 0).astype(np.uint16), bm, by // 3, 32, 8)  # [strips, 32 rows, 8 triples]
    words = np.zeros((len(sign), 16), np.uint16)
    for triple in range(8):
        for half in range(2):
            words |= sign[:, 16 * half : 16 * half + 16, triple] << np.uint16(15 - (2 * triple + half))
    out += words.astype("<u2").tobytes()
    if two.shape[1]:
        pairs = (3 * two[:, 0::2] + two[:, 1::2] + 4).astype(np.uint8)
        v = tile(pairs, bm, 16, 32, 2)
        out += swap(v[:, :, :1] << 4 | v[:, :, 1:]).tobytes()
    return out


def vlut(w, by_five, t):
    codes = (w + 1).astype(np.int64)
    m, k = codes.shape
    fives = k // 20 * 4 if by_five else 0
    out = b""
    parts = [(codes[:, : 5 * fives], 5, t), (codes[:, 5 * fives :], 4, 1 if by_five else t)]
    for part, width, side in parts:
        if part.shape[1]:
            number = (part.reshape(m, -1, width) * 3 ** np.arange(width)).sum(2).astype(np.uint8)  # [M, groups]
            out += number.reshape(m, -1, side).transpose(1, 0, 2).tobytes()
    return out


PRESETS = [
    (1536, 4096, (256, 128, 32), (256, 96)),
    (1536, 1536, (128, 64, 64), (128, 192)),
    (4096, 1536, (256, 128, 32), (256, 96)),
    (3200, 8640, (160, 64, 32), (160, 96)),
    (3200, 3200, (320, 128, 64), (320, 96)),
    (8640, 3200, (320, 64, 32), (320, 96)),
    (14336, 4096, (256, 128, 64), (256, 96)),
    (4096, 14336, (256, 128, 32), (128, 96)),
    (1024, 4096, (128, 64, 64), (256, 96)),
    (4096, 4096, (128, 64, 32), (128, 96)),
]


def packed():
    for m, k, one, two in PRESETS:
        w = trits(m * k).reshape(m, k)
        yield "TL1", m, k, tl1(w, *one)
        yield "TL2", m, k, tl2(w, *two)
    for m, k in [(6, 160), (33, 640), (7, 1504)]:
        w = trits(m * k).reshape(m, k)
        for name, by_five, t in [
            ("I2_V", False, 1), ("I2_V_4", False, 4), ("I2_V_8", False, 8), ("I1_V", True, 1), ("I1_V_2", True, 2),
        ]:
            if (k // 4) % t == 0:
                yield name, m, k, vlut(w, by_five, t)


def dense():
    random = np.random.default_rng(7)
    kinds = gguf.GGMLQuantizationType
    # Where each type has its f16 scales; the largest of them keeps all weights within f16.
    for kind, scales in [
        (kinds.Q4_0, [0]), (kinds.Q4_1, [0, 2]), (kinds.Q5_0, [0]), (kinds.Q5_1, [0, 2]), (kinds.Q2_K, [80, 82]),
        (kinds.Q3_K, [108]), (kinds.Q4_K, [0, 2]), (kinds.Q5_K, [0, 2]),
    ]:
        columns, size = gguf.GGML_QUANT_SIZES[kind]
        rows, per_row = 3, 512 // columns
        blocks = random.integers(0, 256, (rows * per_row, size), np.uint8)
        for at in scales:
            d = random.uniform(-0.5, 0.5, rows * per_row).astype("<f2")
            blocks[:, at : at + 2] = d.view(np.uint8).reshape(-1, 2)
        values = gguf.quants.dequantize(blocks.reshape(rows, -1), kind).astype(np.float32)
        yield f"{kind.name}.bytes", blocks.reshape(rows, -1)
        yield f"{kind.name}.values", values


if __name__ == "__main__":
    with open(HERE / "packed.tsv", "w") as out:
        for name, m, k, data in packed():
            print(name, m, k, hashlib.sha256(data).hexdigest(), sep="\t", file=out)
    save_file(dict(dense()), HERE / "dense.safetensors")
