#!/usr/bin/env python3
"""Reference for the SentencePiece tokenizer: a small BPE model with byte fallback, trained the way Llama 2's was,
its vocabulary as a GGUF file would carry it, and text -> ids vectors by the `sentencepiece` library.

usage: gen_sentencepiece.py --corpus ../tales/heldout.txt --out sentencepiece.json
needs: pip install sentencepiece==0.2.3
"""
import argparse, io, json
import sentencepiece as spm

TEXTS = ["", " ", "  ", "   x", "a", " a", "a ", "Once upon a time there was a little girl.", "Hello,  world! ",
         "It's they're I'VE he'd WE'LL don't", "1234567890", "3.14e-10", "\n", "\n\n", "a\nb\r\nc\td", "  indented\n    more\n",
         "trailing spaces   ", "na\u00efve caf\u00e9", "\u65e5\u672c\u8a9e", "\ud55c\uad6d\uc5b4", "\U0001f642\U0001f44d\U0001f3fd",
         "e\u0301 combining", "\u2581", "\u2581a \u2581", "a\u2581b", "<0x41>", "<s>", "</s> <unk>", "<think> x</think>", "x<think>y", "<think><think>",
         "a" * 50, "the " * 12, "thethethethe", "ssssssssss", "!!!???...", "\x00\x01\x7f", "\ufeffBOM", "They said hello to the other little bird.",
         "mmmm nnnn eeee", "tata toto anan", "\U0010ffff", "http://example.org/a?b=c"]

ap = argparse.ArgumentParser(); ap.add_argument("--corpus", required=True); ap.add_argument("--out", required=True)
a = ap.parse_args()
model = io.BytesIO()
# Llama 2's choices: no normalisation, every space kept, digits apart, a space before the text.
spm.SentencePieceTrainer.train(sentence_iterator=iter(open(a.corpus, encoding="utf-8").read().splitlines()), model_writer=model, vocab_size=480,
                               model_type="bpe", byte_fallback=True, split_digits=True, normalization_rule_name="identity",
                               remove_extra_whitespaces=False, add_dummy_prefix=True, allow_whitespace_only_pieces=True,
                               user_defined_symbols=["<think>", "</think>"], minloglevel=2)
# Some pieces are marked unused afterwards, as pruned vocabularies do: they may be passed through, but not come out.
from sentencepiece import sentencepiece_model_pb2 as pb
proto = pb.ModelProto(); proto.ParseFromString(model.getvalue())
UNUSED = {"he", "\u2581the", "ed", "\u2581to"}
for p in proto.pieces:
    if p.piece in UNUSED:
        p.type = pb.ModelProto.SentencePiece.UNUSED
assert sum(p.type == 5 for p in proto.pieces) == len(UNUSED)
sp = spm.SentencePieceProcessor(model_proto=proto.SerializeToString())
# SentencePiece numbers its types as GGUF does: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
out = dict(note="ids are without BOS; control tokens spelled in the text are plain text here",
           tokens=[p.piece for p in proto.pieces], scores=[p.score for p in proto.pieces], types=[p.type for p in proto.pieces],
           bos=sp.bos_id(), eos=sp.eos_id(), unk=sp.unk_id(),
           vectors=[dict(text=x, ids=sp.encode(x), decoded=sp.decode(sp.encode(x))) for x in TEXTS])
with open(a.out, "w", encoding="ascii") as f:
    f.write("{\n" + ",\n".join(json.dumps(k) + ": " + ("[\n" + ",\n".join(json.dumps(v) for v in x) + "\n]" if k == "vectors" else json.dumps(x)) for k, x in out.items()) + "\n}\n")
print(len(TEXTS), "vectors;", sum(v["decoded"] == v["text"] for v in out["vectors"]), "round trips")
