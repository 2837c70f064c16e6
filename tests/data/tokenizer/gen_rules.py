#!/usr/bin/env python3
"""Reference ids of the other pre-tokenizer rules: the vocabulary of ../golden/tokenizer.json under the regular expression
and normaliser of Llama 3, Qwen2, Qwen3.5, Hunyuan, GPT-2 and GPT-NeoX, by the `tokenizers` library (with Oniguruma).

usage: gen_rules.py --tokenizer ../golden/tokenizer.json --out rules.json
needs: pip install tokenizers==0.23.3
"""
import argparse, json
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?%s+|\p{N}| ?[^\s%s\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = (QWEN % (r"\p{L}", r"\p{L}")).replace(r"\p{N}|", r"\p{N}{1,3}|")
# Three expressions, each applied to the pieces that the former left.
HUNYUAN = [r"\p{N}{1,3}", r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+".encode().decode("unicode_escape"),
           r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]
SPLIT = {"llama-bpe": LLAMA, "hunyuan-dense": HUNYUAN, "qwen2": QWEN % (r"\p{L}", r"\p{L}"), "qwen35": QWEN % (r"[\p{L}\p{M}]", r"\p{L}\p{M}"), "stablelm2": QWEN % (r"\p{L}", r"\p{L}"),
         "gpt-2": None, "olmo": None}
COMPOSED = {"qwen2", "qwen35", "olmo"}
TEXTS = ["Hello,  world! ", "Once upon a time there was a little girl.", "It's they're I'VE he'd WE'LL don't", "'\u017f 'S 'RE'", "12345 678,901.23",
         "\u0661\u0662\u0663 \u00bd\u2163", "a\nb\n\nc\n\n\nd", "  indented\n    more\n", "\r\n\r\n x", "!\n\n", "! \n", "tab\tand\u00a0nbsp", "trailing spaces   ",
         "e\u0301e\u0301 cafe\u0301", "x\u0301\u0302y", "\u0928\u092e\u0938\u094d\u0924\u0947", "\uac00\u1112\u1161\u11ab", "\u65e5\u672c\u8a9e\u306e", "\U0001f642\U0001f44d\U0001f3fd",
         "<|eot_id|> e\u0301<|eot_id|>", "snake_case CamelCase", "\u3000wide  \u2028 space", "a\u200db", "\u24d0\u2170", "    \n   \n x",
         # digits of many scripts, in runs and beside letters
         "\u0967\u0968\u0969\u096a\u096b 7\u0664x8", "x1y22z333w4444v55555", "\u0e51\u0e52\u0e53\u0e54 \uff11\uff12\uff13\uff14", "\u00b2\u00b3\u2075 \u2460\u246b \u4e00\u4e8c\u4e093", "\U0001d7ce\U0001d7d9\U0001d7e2\U0001d7ec", "$1,234.56 -7e-3 0x1F 1_000",
         # Han, kana, Hangul, mixed with digits, letters, marks and spaces
         "\u65e5\u672c\u8a9e123\u30c6\u30b9\u30c8abc", "abc\u6f22\u5b57 \u3072\u3089\u304c\u306a\u3001\u30ab\u30bf\u30ab\u30ca\u30fb\u30fc\u3002", "  \u6f22  12  a", "\u304b\u3099\u309b\u30a0x\u3400\u9fa6", "\ud55c\uad6d\uc5b4 \u4e2d\u6587\uff0c\u82f1\u6587mixed", "!\u4e2d@\u6587 #abc", "\U00020000\u4e00 \u4e00e\u0301",
         # emoji with joiners, variation selectors, skin tones, flags and keycaps
         "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea\U0001f1ef\U0001f1f5 ok", "\u2764\ufe0f\u200d\U0001f525a", "1\ufe0f\u20e3 #\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f",
         # white space of all kinds
         "\u3000\u3000a \u3000b\u3000", "a \t \tb\t\tc", "a\r\n\r\n  b\r\rc\n\r", "a\u00a0\u00a0b \u2003 \u200b x", "\x0b\x0c\x1c \x85\u2029z", "\n \n  \n   x   \n", "x  1   2    \u4e00", "\t", " \n", "\u3000\n",
         # control and format characters, alone, in runs, before letters and at the end
         "\x00\x01a\x02", "\ufeffBOM \u200f\u200e\u05d0\u05d1", "a\u00adb\u00ad\u00ad c", "\x7f\x7f1\x7f\u4e00\x7f\x7f", "\ue000\U0010ffff!",
         # special tokens and things that look like them
         "<|begin_of_text|>a<|end_of_text|>", "<|eot_id|", "|<|eot_id|>>1", "<|eot_id|><|eot_id|> \n",
         # contractions in capitals, with other quotes and other letters
         "DON'T YOU'RE I'M WE'D THEY'LL 'TIS X'Ve", "\u2019s don\u2019t I\u2019M", "''s 'll'll 'sS 'stop", "'\u0130 'd1 '\u017ft",
         # marks
         "a\u0308\u0323 \u0308\u0308b 1\u0301 .\u0301 \u0301", "\u0915\u094d\u0937\u093f \u0ba8\u0bbf", "\u0e01\u0e33\u0e25\u0e31\u0e07 \u1000\u103c", "\u1e9b\u0323 \u212b \u2126 \ufb01",
         # punctuation before words, and code
         "(foo) [bar] {baz} <a href=\"x\">--y</a>", "_x __y$z `q` ~~r~~ \\n \u00abt\u00bb \u00bfu\u00a1", "if(x!=0){return y[i]+=1;}//ok\n\n\treturn"]

ap = argparse.ArgumentParser(); ap.add_argument("--tokenizer", required=True); ap.add_argument("--out", required=True)
a = ap.parse_args()
out = {}
for rule, regex in SPLIT.items():
    j = json.load(open(a.tokenizer)); j["model"]["ignore_merges"] = rule == "llama-bpe"
    t = Tokenizer.from_str(json.dumps(j))
    t.normalizer = normalizers.NFC() if rule in COMPOSED else None
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex is None)
    stages = [] if regex is None else [regex] if isinstance(regex, str) else regex
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r), "isolated") for r in stages] + [byte_level])
    def words(x):                              # of the whole text: special tokens spelled in it are plain text here
        x = t.normalizer.normalize_str(x) if t.normalizer else x
        cut = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r), "isolated") for r in stages]) if stages else byte_level
        return [x[a:b] for _, (a, b) in cut.pre_tokenize_str(x)]
    out[rule] = [dict(text=x, ids=t.encode(x, add_special_tokens=False).ids, words=words(x)) for x in TEXTS]
with open(a.out, "w", encoding="ascii") as f:
    f.write("{\n" + ",\n".join(json.dumps(k) + ": [\n" + ",\n".join(json.dumps(v) for v in x) + "\n]" for k, x in out.items()) + "\n}\n")
print(sum(map(len, out.values())), "vectors")
