#!/usr/bin/env python3
"""Writes the inputs that fuzzing begins with to corpus/: recipes of a few bytes, as each target reads them.

usage: fuzz/seeds.py
The files that recipes are about are made by the targets themselves, of the golden models in tests/data/golden.
"""
import json, pathlib, random

HERE = pathlib.Path(__file__).parent
random.seed(1)


def some(count):
    return bytes(random.randrange(256) for _ in range(count))


def write(target, seeds):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number:03}").write_bytes(seed)
    print(f"{target}: {len(seeds)} seeds")


def number(value):
    return value.to_bytes(8, "little")


# A file of its own bytes: no tensors, a key of each type. 15 asks for it.
KEYS = [(kind, bytes(width)) for kind, width in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)]]
KEYS += [(8, number(2) + b"ab"), (9, b"\x05\0\0\0" + number(2) + bytes(8)), (9, b"\x08\0\0\0" + number(1) + number(1) + b"a")]
RAW = b"\x0f\0" + b"GGUF\x03\0\0\0" + number(0) + number(len(KEYS))
RAW += b"".join(number(2) + b"k%c" % (97 + place) + kind.to_bytes(4, "little") + value for place, (kind, value) in enumerate(KEYS))

# No change of each template, and one of each kind of change, in several ways to compute.
FILES, CHANGES, DIRECTORIES = 31, 18, 10
files = [bytes([0, way, template, 0]) for template in range(FILES) for way in (0, 15, 32, 48)]
files += [bytes([0, 0, random.randrange(FILES), 1, random.randrange(256), change]) + some(12) for change in range(CHANGES) for _ in range(4)]
write("gguf", files + [RAW])
directories = [bytes([way, template, 0]) for template in range(DIRECTORIES) for way in (0, 32)]
directories += [bytes([0, random.randrange(DIRECTORIES), 1]) + some(16) for _ in range(64)]
write("directory", directories)
# The encodings, whether tables are rounded and loss is put up with, and a file or a directory.
write("convert", [bytes([linear, 0, lossy, 0, template, 0]) for linear in range(4) for lossy in (0, 1) for template in range(FILES)]
      + [bytes([linear, 1, table, 1, 0]) + recipe[2:] for linear in range(4) for table in range(5) for recipe in random.sample(files, 4)]
      + [bytes([linear, 0, lossy, 3, template, 0]) for linear in range(4) for lossy in (0, 1) for template in range(DIRECTORIES)])
texts = json.loads((HERE / "../tests/data/tokenizer/rules.json").read_text())["gpt-2"]
texts = [vector["text"].encode() for vector in texts]
write("tokenizer", [bytes([mode, which, 1]) + text for mode in (0, 4) for which in range(8) for text in random.sample(texts, 12)]
      + [bytes([0, which, 0]) + some(40) for which in range(7)] + [bytes([6, which, 0]) + some(24) for which in range(8) for _ in range(6)])
write("encoding", [bytes([encoding]) + (bytes([0]) if encoding in range(23, 27) else b"") + bytes([rows, cols, 0, 0]) + some(64)
                   for encoding in range(32) for rows in (0, 3) for cols in (0, 1, 2, 64)])
write("output", [bytes([mode]) + some(length) for mode in (0, 1) for length in (20, 60, 200) for _ in range(12)])
