#!/usr/bin/env python3
"""Reference ids of the other pre-tokenizer rules: the vocabulary of ../golden/tokenizer.json under the regular expression
and normaliser of Qwen2, Qwen3.5, GPT-2 and GPT-NeoX, by the `tokenizers` library (with Oniguruma).

usage: gen_rules.py --tokenizer ../golden/tokenizer.json --out rules.json
needs: pip install tokenizers==0.23.3
"""
import argparse, json
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?%s+|\p{N}| ?[^\s%s\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT = {"qwen2": QWEN % (r"\p{L}", r"\p{L}"), "qwen35": QWEN % (r"[\p{L}\p{M}]", r"\p{L}\p{M}"), "stablelm2": QWEN % (r"\p{L}", r"\p{L}"),
         "gpt-2": None, "olmo": None}
COMPOSED = {"qwen2", "qwen35", "olmo"}
TEXTS = ["Hello,  world! ", "Once upon a time there was a little girl.", "It's they're I'VE he'd WE'LL don't", "'\u017f 'S 'RE'", "12345 678,901.23",
         "\u0661\u0662\u0663 \u00bd\u2163", "a\nb\n\nc\n\n\nd", "  indented\n    more\n", "\r\n\r\n x", "!\n\n", "! \n", "tab\tand\u00a0nbsp", "trailing spaces   ",
         "e\u0301e\u0301 cafe\u0301", "x\u0301\u0302y", "\u0928\u092e\u0938\u094d\u0924\u0947", "\uac00\u1112\u1161\u11ab", "\u65e5\u672c\u8a9e\u306e", "\U0001f642\U0001f44d\U0001f3fd",
         "<|eot_id|> e\u0301<|eot_id|>", "snake_case CamelCase", "\u3000wide  \u2028 space", "a\u200db", "\u24d0\u2170", "    \n   \n x"]

ap = argparse.ArgumentParser(); ap.add_argument("--tokenizer", required=True); ap.add_argument("--out", required=True)
a = ap.parse_args()
out = {}
for rule, regex in SPLIT.items():
    j = json.load(open(a.tokenizer)); j["model"]["ignore_merges"] = False
    t = Tokenizer.from_str(json.dumps(j))
    t.normalizer = normalizers.NFC() if rule in COMPOSED else None
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex is None)
    t.pre_tokenizer = byte_level if regex is None else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), byte_level])
    out[rule] = [dict(text=x, ids=t.encode(x, add_special_tokens=False).ids) for x in TEXTS]
with open(a.out, "w", encoding="ascii") as f:
    f.write("{\n" + ",\n".join(json.dumps(k) + ": [\n" + ",\n".join(json.dumps(v) for v in x) + "\n]" for k, x in out.items()) + "\n}\n")
print(sum(map(len, out.values())), "vectors")
