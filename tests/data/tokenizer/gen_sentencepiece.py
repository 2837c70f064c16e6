#!/usr/bin/env python3
"""Reference for the SentencePiece tokenizer: small BPE models with byte fallback, trained the way Llama 2's and Gemma's were,
their vocabularies as a GGUF file would carry them, and text -> ids vectors by the `sentencepiece` library.

usage: gen_sentencepiece.py --corpus ../tales/heldout.txt --out .
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

# Runs of spaces and of line ends, and signs: what Gemma's vocabulary has whole.
MORE = ["a  b", "a   b    c     d      e", "  the", "   the", "\n\n\n\n\n", "a\n\nb\n\n\n\nc", " \n  \n\n ", "\t\t\tx", "\r\n\r\n", "<table><b>x</b>", "< table >",
        "<start_of_turn>user\nHi<end_of_turn>", "<bos>", "\u3000\u3000x", "a\u00a0\u00a0b", "1 22  333", "\u0661\u0662\u0663 \uff11\uff12 \u4e00\u4e8c", "\u0915\u094d\u0937\u093f",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea", "DON'T YOU'RE"]

ap = argparse.ArgumentParser(); ap.add_argument("--corpus", required=True); ap.add_argument("--out", required=True)
a = ap.parse_args()
corpus = open(a.corpus, encoding="utf-8").read().splitlines()
# Both: no normalisation, every space kept, digits apart.
COMMON = dict(vocab_size=480, model_type="bpe", byte_fallback=True, split_digits=True, normalization_rule_name="identity",
              remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, minloglevel=2)
# Llama 2 puts a space before the text.
LLAMA = dict(COMMON, add_dummy_prefix=True, user_defined_symbols=["<think>", "</think>"])
# Gemma does not, and has other ids for its signs.
GEMMA = dict(COMMON, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
             control_symbols=["<start_of_turn>", "<end_of_turn>"],
             user_defined_symbols=["\n\n", "\n\n\n", "\n\n\n\n", "\u2581\u2581", "\u2581\u2581\u2581", "\u2581\u2581\u2581\u2581", "<table>", "<b>", "</b>"])


def write(name, options, unused, texts):
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(corpus), model_writer=model, **options)
    proto = pb.ModelProto(); proto.ParseFromString(model.getvalue())
    # Some pieces are marked unused afterwards, as pruned vocabularies do: they may be passed through, but not come out.
    for p in proto.pieces:
        if p.piece in unused:
            p.type = pb.ModelProto.SentencePiece.UNUSED
    assert sum(p.type == 5 for p in proto.pieces) == len(unused)
    sp = spm.SentencePieceProcessor(model_proto=proto.SerializeToString())
    # SentencePiece numbers its types as GGUF does: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. Converters
    # write user-defined pieces with plain spaces.
    out = dict(note="ids are without BOS; control tokens spelled in the text are plain text here",
               tokens=[p.piece.replace("\u2581", " ") if p.type == 4 else p.piece for p in proto.pieces],
               scores=[p.score for p in proto.pieces], types=[p.type for p in proto.pieces],
               bos=sp.bos_id(), eos=sp.eos_id(), unk=sp.unk_id(), vectors=[dict(text=x, ids=sp.encode(x), decoded=sp.decode(sp.encode(x))) for x in texts])
    with open(f"{a.out}/{name}.json", "w", encoding="ascii") as f:
        f.write("{\n" + ",\n".join(json.dumps(k) + ": " + ("[\n" + ",\n".join(json.dumps(v) for v in x) + "\n]" if k == "vectors" else json.dumps(x)) for k, x in out.items()) + "\n}\n")
    print(name, len(texts), "vectors;", sum(v["decoded"] == v["text"] for v in out["vectors"]), "round trips")


write("sentencepiece", LLAMA, {"he", "\u2581the", "ed", "\u2581to"}, TEXTS)
# A spelled-out U+2581 is a space to SentencePiece, so that two make a run; no GGUF file tells that. None is beside another here.
write("gemma", GEMMA, set(), [x for x in TEXTS if x != "\u2581a \u2581"] + MORE)
