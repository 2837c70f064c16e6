#!/usr/bin/env python3
"""Golden reference models of further families: tiny random networks, run by Hugging Face transformers.

As gen_golden.py, whose conventions these share: transformers in float32 with eager attention gives the numbers, and
`Net` below, numpy in float64 and written from the formulas, must agree with them.  What is new: YaRN and LongRoPE, ternary
heads, several scales in a matrix, MiniCPM's three factors, QK-norm after RoPE, a norm before each projection, embeddings
by the last token, Gemma's sandwich norms and sliding windows.

Language models are accepted if their greedy continuation has no near tie.  The embedding models have int8 activations:
their layers are drawn one after another, each again and again until no activation of any text lies within `margin` of a
rounding tie.

usage: gen_families.py --out DIR [--only NAME]
"""
import argparse, json, os, sys
os.environ["TORCHDYNAMO_DISABLE"] = "1"
from pathlib import Path
import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from tokenizers import Tokenizer
sys.path.insert(0, str(Path(__file__).parent))
import gguf_write as G
import packers as P
from gen_golden import LIN, NGEN, PROMPT, act_quant, bf16, exact16, permute, make_params as golden_params, SEEDS as GOLDEN_SEEDS, SPECS as GOLDEN_SPECS

SHORT = dict(zip(LIN, ["q", "k", "v", "o", "gate", "up", "down"]))
GGUF_LIN = dict(zip(LIN, ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]))
TEXTS = ["Once upon a time there was a little girl. She had a dog.", "The cat sat.", "a"]

BASE = dict(vocab=512, layers=2, head_dim=64, heads=4, kv=2, eps=1e-6, theta=1000000.0, act="silu", tied=True, max_pos=256, qk_norm=None,
            embed_std=0.25, embed_scale=1.0, residual_scale=1.0, logit_divisor=1.0, norm_in=False, sandwich=False, window=None, gap=2e-3)
SPECS = {
    # Ternary Bonsai 8B: Qwen3 with YaRN at every length, its own ternary head
    "qwen3-yarn": dict(BASE, arch="qwen3", dim=256, ffn=384, qk_norm="before", scales="groups", group=128, tied=False,
                       yarn=dict(factor=4.0, original=64), gguf=["q2_0_g64", "pq2_0"]),
    # TriLM: a dense file whose matrices are ternary with a magnitude for each of two model-parallel shards
    "trilm-128": dict(BASE, arch="llama", dim=128, ffn=256, layers=1, eps=1e-5, theta=10000.0, scales="shards", tied=False, gguf=["f16"]),
    # the same as a ternary file: wide enough for blocks of 256, two blocks in a row of o and down
    "trilm-256": dict(BASE, arch="llama", dim=256, heads=8, ffn=512, eps=1e-5, theta=10000.0, scales="shards", tied=False, gguf=["tq2_0"]),
    # BitCPM4: MiniCPM's three factors, LongRoPE by two tables
    "minicpm-256": dict(BASE, arch="minicpm", dim=256, ffn=512, eps=1e-5, theta=10000.0, scales="groups", group=256, embed_std=0.01, embed_scale=12.0,
                        residual_scale=1.4 / np.sqrt(2), logit_divisor=2.0, longrope=64, gguf=["tq2_0"]),
    # Hunyuan: RoPE before QK-norm, the NTK factor alpha folded into theta, three of four weights not zero
    "hunyuan-256": dict(BASE, arch="hunyuan-dense", dim=256, ffn=512, eps=1e-5, theta=10000.0 * 1000 ** (64 / 62), qk_norm="after", scales="stq", group=256,
                        gguf=["stq1_0_id42", "stq1_0_id43"]),
    # BitNet embeddings: an RMSNorm before each projection, int8 activations, the last token's state
    "embedding-qwen3": dict(BASE, arch="qwen3", dim=128, ffn=384, qk_norm="before", scales="tensor", norm_in=True, margin=5e-5, gguf=["i2_s"]),
    "embedding-gemma3": dict(BASE, arch="gemma3", dim=128, kv=1, ffn=256, layers=6, act="gelu", qk_norm="before", scales="tensor", norm_in=True,
                             sandwich=True, window=16, pattern=6, local_theta=10000.0, embed_scale=float(np.float32(np.sqrt(128))), margin=6e-5,
                             gguf=["i2_s"]),
}
# The seeds that the search ended with: for embeddings, one number a layer besides.
SEEDS = {"qwen3-yarn": [2], "trilm-128": [1], "trilm-256": [2], "minicpm-256": [3], "hunyuan-256": [7],
         "embedding-qwen3": [11, 66], "embedding-gemma3": [43, 231, 62, 15, 11, 169]}


def dims(s):
    d, q, kv, f = s["dim"], s["heads"] * s["head_dim"], s["kv"] * s["head_dim"], s["ffn"]
    return dict(zip(LIN, [(q, d), (kv, d), (kv, d), (d, q), (f, d), (f, d), (d, f)]))


def make_linear(s, r, n, o, i):
    """codes int8, `w` what they stand for (float32, exact in f16 unless there is one scale), and the scales as packed."""
    if s["scales"] == "stq":
        c = r.choice(np.array([-1, 1], np.int8), size=(o, i))
        zero = r.integers(0, 4, (o, i // 64, 16))                        # a lane of each four elements 16 apart
        c = np.where(np.arange(4)[None, None, :, None] == zero[:, :, None], 0, c.reshape(o, i // 64, 4, 16)).reshape(o, i).astype(np.int8)
    else:
        c = r.choice(np.array([-1, 0, 1], np.int8), p=[.3, .4, .3], size=(o, i))
    if s["scales"] == "tensor":
        scale = np.float32(bf16(r.uniform(0.8, 1.6) / np.sqrt(i)))
        return dict(codes=c, scale=scale, w=c * scale)
    if s["scales"] == "shards":                                          # o and down are cut along their input
        shape = (1, 2) if n in (LIN[3], LIN[6]) else (2, 1)
        scale = (r.uniform(0.5, 1.5, shape) * (1.3 / np.sqrt(i))).astype(np.float16)
        full = np.repeat(np.repeat(scale, o // shape[0], 0), i // shape[1], 1)
    else:
        scale = (r.uniform(0.5, 1.5, (o, i // s["group"])) * (1.3 / np.sqrt(i))).astype(np.float16)
        full = np.repeat(scale, s["group"], 1)
    return dict(codes=c, full=full, w=c * full.astype(np.float32))


def make_layer(s, r):
    return make_gains(s, {n: make_linear(s, r, n, o, i) for n, (o, i) in dims(s).items()}, r)


def make_gains(s, L, r):
    gain = lambda n: exact16(r.uniform(0.5, 1.5, n))
    for n in ["attn_norm", "ffn_norm"] + ["post_attention_norm", "post_ffw_norm"] * s["sandwich"]:
        L[n] = gain(s["dim"])
    if s["qk_norm"]:
        L["attn_q_norm"], L["attn_k_norm"] = gain(s["head_dim"]), gain(s["head_dim"])
    if s["norm_in"]:
        for n, (_, i) in dims(s).items():
            L[n]["norm"] = gain(i)
    return L


def make_ends(s, r):
    p = dict(norm=exact16(r.uniform(0.5, 1.5, s["dim"])))
    for n in ["embed"] + ["head"] * (not s["tied"]):
        if s["scales"] == "groups" and s["group"] == 128:                # in Bonsai all matrices are ternary
            e = make_linear(s, r, n, s["vocab"], s["dim"])
            e["full"] = (e["full"] * np.float16(3)).astype(np.float16)
            p[n + "_ternary"], p[n] = e, e["codes"] * e["full"].astype(np.float32)
        else:
            p[n] = exact16(r.normal(0, s["embed_std"], (s["vocab"], s["dim"])))
    if s.get("longrope"):
        h = s["head_dim"] // 2
        p["short"] = np.float32(np.round(1 + 0.5 * np.arange(h) / h + r.uniform(0, 0.1, h), 4))
        p["long"] = np.float32(np.round(1 + 7 * np.arange(h) / h + r.uniform(0, 0.5, h), 4))
    return p


class NearTie(Exception):
    pass


class Net:
    """The network in numpy, float64, integer products exact."""

    def __init__(self, s, p, long=False, margin=0.0):
        self.s, self.p, self.long, self.margin, self.tie = s, p, long, margin, 1.0

    def norm(self, x, w):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.s["eps"]) * w

    def linear(self, x, e, trace=None, name=None):
        if "norm" in e:
            x = self.norm(x, e["norm"])
        if self.s["scales"] != "tensor":
            return x @ e["w"].T.astype(np.float64)
        m = 127.0 / np.maximum(np.abs(x).max(-1, keepdims=True), 1e-5)
        v = x * m
        tie = float(np.abs(np.abs(v - np.floor(v)) - 0.5).min())
        if tie < self.margin:
            raise NearTie
        self.tie = min(self.tie, tie)
        q = np.clip(np.rint(v), -128, 127)
        i = q @ e["codes"].T.astype(np.float64)
        if trace is not None:
            trace[f"l0.{name}_in.int8"], trace[f"l0.{name}_in.scale"], trace[f"l0.{name}.i32"] = q.astype(np.int8), m[:, 0], i.astype(np.int32)
        return i * np.float64(e["scale"]) / m

    def is_local(self, layer):
        return self.s["window"] is not None and (layer + 1) % self.s["pattern"] != 0

    def frequencies(self, layer):
        """Turns of each pair in a position, and the factor of cos and sin."""
        s = self.s; r = s["head_dim"]; i = np.arange(r // 2)
        theta = s["local_theta"] if self.is_local(layer) else s["theta"]
        f = theta ** (-2.0 * i / r)
        if "longrope" in s:
            return f / self.p["long" if self.long else "short"], 1.0
        if "yarn" in s:
            y = s["yarn"]
            c = lambda beta: r * np.log(y["original"] / (2 * np.pi * beta)) / (2 * np.log(theta))
            lo, hi = max(0, np.floor(c(32))), min(r - 1, np.ceil(c(1)))
            ramp = 1 - np.clip((i - lo) / max(0.001, hi - lo), 0, 1)
            return f * (ramp + (1 - ramp) / y["factor"]), 0.1 * np.log(y["factor"]) + 1
        return f, 1.0

    def rope(self, x, layer):
        f, m = self.frequencies(layer)
        a = np.arange(x.shape[0])[:, None] * f
        c, n = (np.cos(a) * m)[:, None], (np.sin(a) * m)[:, None]
        h = x.shape[-1] // 2; a, b = x[..., :h], x[..., h:]
        return np.concatenate([a * c - b * n, b * c + a * n], -1)

    def layer(self, x, L, n, trace=None):
        s = self.s; T = len(x); H, K, D = s["heads"], s["kv"], s["head_dim"]
        h = self.norm(x, L["attn_norm"])
        q, k, v = [self.linear(h, L[LIN[i]], trace, SHORT[LIN[i]]).reshape(T, -1, D) for i in range(3)]
        if s["qk_norm"] == "before":
            q, k = self.norm(q, L["attn_q_norm"]), self.norm(k, L["attn_k_norm"])
        q, k = self.rope(q, n), self.rope(k, n)
        if s["qk_norm"] == "after":
            q, k = self.norm(q, L["attn_q_norm"]), self.norm(k, L["attn_k_norm"])
        if trace is not None:
            trace["l0.attn_norm"], trace["l0.q_rope"], trace["l0.k_rope"] = h, q.reshape(T, -1), k.reshape(T, -1)
        k, v = np.repeat(k, H // K, 1), np.repeat(v, H // K, 1)
        a = np.einsum("thd,uhd->htu", q, k) / np.sqrt(D)
        back = np.arange(T)[:, None] - np.arange(T)
        seen = (back >= 0) & (back < s["window"] if self.is_local(n) else True)
        a = np.where(seen, a, -np.inf)
        a = np.exp(a - a.max(-1, keepdims=True)); a /= a.sum(-1, keepdims=True)
        o = np.einsum("htu,uhd->thd", a, v).reshape(T, H * D)
        y = self.linear(o, L[LIN[3]], trace, "o")
        x = x + (self.norm(y, L["post_attention_norm"]) if s["sandwich"] else y) * s["residual_scale"]
        h = self.norm(x, L["ffn_norm"])
        g, u = self.linear(h, L[LIN[4]], trace, "gate"), self.linear(h, L[LIN[5]], trace, "up")
        g = 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g ** 3))) if s["act"] == "gelu" else g / (1 + np.exp(-g))
        if trace is not None:
            trace["l0.attn_out"], trace["l0.after_attn"], trace["l0.ffn_norm"], trace["l0.ffn_act"] = o, x, h, g * u
        y = self.linear(g * u, L[LIN[6]], trace, "down")
        return x + (self.norm(y, L["post_ffw_norm"]) if s["sandwich"] else y) * s["residual_scale"]

    def embed(self, ids):
        return self.p["embed"][ids].astype(np.float64) * self.s["embed_scale"]

    def states(self, ids, trace=None):
        x = [self.embed(ids)]
        for n, L in enumerate(self.p["layers"]):
            x.append(self.layer(x[-1], L, n, trace if n == 0 else None))
        return x, self.norm(x[-1], self.p["norm"])

    def logits(self, ids):
        return self.states(ids)[1] / self.s["logit_divisor"] @ self.p.get("head", self.p["embed"]).astype(np.float64).T

    def embedding(self, ids):
        e = self.states(ids)[1][-1]
        return e / np.sqrt((e * e).sum())

    def greedy(self, ids, n, least=0.0):
        """The continuation and the smallest gap between the two best logits, relative to the largest; ends early below `least`."""
        ids, gap = list(ids), 1e9
        for _ in range(n):
            l = self.logits(ids)[-1]
            t = np.sort(l)[-2:]; gap = min(gap, (t[1] - t[0]) / np.abs(l).max())
            ids.append(int(l.argmax()))
            if gap < least:
                break
        return ids[-n:], gap


def hf_config(s, tok):
    bos, eos = tok.token_to_id("<|begin_of_text|>"), tok.token_to_id("<|end_of_text|>")
    cls, kind = {"qwen3": ("Qwen3ForCausalLM", "qwen3"), "llama": ("LlamaForCausalLM", "llama"), "minicpm": ("MiniCPMForCausalLM", "minicpm"),
                 "hunyuan-dense": ("HunYuanDenseV1ForCausalLM", "hunyuan_v1_dense"), "gemma3": ("Gemma3TextModel", "gemma3_text")}[s["arch"]]
    c = dict(architectures=["Qwen3Model" if s["norm_in"] and s["arch"] == "qwen3" else cls], model_type=kind, vocab_size=s["vocab"], hidden_size=s["dim"],
             intermediate_size=s["ffn"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"], num_key_value_heads=s["kv"],
             head_dim=s["head_dim"], hidden_act=s["act"], max_position_embeddings=s["max_pos"], rms_norm_eps=s["eps"], rope_theta=s["theta"],
             tie_word_embeddings=s["tied"], bos_token_id=bos, eos_token_id=eos, pad_token_id=eos, attention_bias=False, torch_dtype="float16")
    if "yarn" in s:
        c["rope_scaling"] = dict(rope_type="yarn", factor=s["yarn"]["factor"], original_max_position_embeddings=s["yarn"]["original"])
    if s["arch"] == "hunyuan-dense":
        c["rope_theta"], c["rope_scaling"] = 10000.0, dict(type="dynamic", alpha=1000.0, factor=1.0)
    if s["arch"] == "gemma3":
        del c["hidden_act"]
        c |= dict(hidden_activation="gelu_pytorch_tanh", sliding_window=s["window"], sliding_window_pattern=s["pattern"],
                  rope_local_base_freq=s["local_theta"], query_pre_attn_scalar=s["head_dim"])
    if s["norm_in"]:
        c["torch_dtype"] = "bfloat16"
        c["quantization_config"] = dict(quant_method="bitnet", linear_class="autobitlinear", quantization_mode="offline", use_rms_norm=True,
                                        rms_norm_eps=s["eps"])
    return c


def hf_tensors(s, p, packed=False):
    """The checkpoint under transformers' names.  Gemma keeps its gains less one, but not those before projections."""
    t = lambda x: torch.tensor(np.ascontiguousarray(x, np.float32)).to(torch.bfloat16 if s["norm_in"] else torch.float16)
    less = 1.0 if s["arch"] == "gemma3" else 0.0
    names = dict(attn_norm="input_layernorm", ffn_norm="pre_feedforward_layernorm" if s["sandwich"] else "post_attention_layernorm",
                 post_attention_norm="post_attention_layernorm", post_ffw_norm="post_feedforward_layernorm",
                 attn_q_norm="self_attn.q_norm", attn_k_norm="self_attn.k_norm")
    if s["arch"] == "hunyuan-dense":
        names |= dict(attn_q_norm="self_attn.query_layernorm", attn_k_norm="self_attn.key_layernorm")
    T = {"model.embed_tokens.weight": t(p["embed"]), "model.norm.weight": t(p["norm"] - less)}
    if not s["tied"]:
        T["lm_head.weight"] = t(p["head"])
    for i, L in enumerate(p["layers"]):
        for n, e in L.items():
            k = f"model.layers.{i}.{n if n in LIN else names[n]}"
            if n not in LIN:
                T[k + ".weight"] = t(e - less)
            elif s["norm_in"]:
                T[k + ".weight"], T[k + ".weight_scale"] = torch.tensor(P.pack_hf(e["codes"])), t([e["scale"]])
                T[k + ".rms_norm.weight"] = t(e["norm"])
            else:
                T[k + ".weight"] = t(e["w"])
    return T


def hf_model(s, p, d, tok):
    """transformers' model.  It has no MiniCPM: that is Llama with the three factors put in by hooks."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    if s["norm_in"]:
        m = AutoModel.from_pretrained(str(d), dtype=torch.float32, attn_implementation="eager").eval()
        torch.nn.Module.float(m)
        return m, m
    c = hf_config(s, tok)
    if s["arch"] == "minicpm":
        c |= dict(model_type="llama", architectures=["LlamaForCausalLM"])
    (d / "transformers").mkdir(exist_ok=True)
    (d / "transformers/config.json").write_text(json.dumps(c))
    m = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(d / "transformers")), attn_implementation="eager").float().eval()
    (d / "transformers/config.json").unlink(); (d / "transformers").rmdir()
    missing = m.load_state_dict({k: v.float() for k, v in hf_tensors(s, p).items()}, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
    m.tie_weights()
    if s["arch"] == "minicpm":
        scaled = lambda mod, i, o: (o[0] * s["residual_scale"], *o[1:]) if isinstance(o, tuple) else o * s["residual_scale"]
        m.model.embed_tokens.register_forward_hook(lambda mod, i, o: o * s["embed_scale"])
        m.lm_head.register_forward_pre_hook(lambda mod, i: (i[0] / s["logit_divisor"],))
        for layer in m.model.layers:
            layer.self_attn.register_forward_hook(scaled); layer.mlp.register_forward_hook(scaled)
        use_factors(m, p["short"])
    return m, m.model


def use_factors(m, factors):
    r = m.model.rotary_emb
    h = len(factors)
    r.inv_freq = 1.0 / (torch.tensor(factors) * m.config.rope_parameters["rope_theta"] ** (torch.arange(h).float() / h))


@torch.no_grad()
def run_hf(s, m, base, ids):
    """One pass with the state before each layer and the values inside layer 0."""
    got, hooks = {}, []
    def keep(mod, name):
        hooks.append(mod.register_forward_pre_hook(lambda mod, a, k: got.__setitem__(name, (a[0] if a else k["hidden_states"])[0].clone()), with_kwargs=True))
    for i, layer in enumerate(base.layers):
        keep(layer, f"hidden.{i}")
    keep(base.norm, f"hidden.{s['layers']}")
    L = base.layers[0]
    keep(L.self_attn.q_proj, "l0.attn_norm"); keep(L.self_attn.o_proj, "l0.attn_out"); keep(L.mlp.gate_proj, "l0.ffn_norm"); keep(L.mlp.down_proj, "l0.ffn_act")
    keep(L.pre_feedforward_layernorm if s["sandwich"] else L.post_attention_layernorm, "l0.after_attn")
    out = []
    hooks.append(base.norm.register_forward_hook(lambda mod, i, o: out.append(o[0].clone())))
    y = m(torch.tensor([ids]), use_cache=False)
    for h in hooks:
        h.remove()
    g = {k: v.numpy() for k, v in got.items()}
    g["final_norm"] = out[0].numpy()
    if s["norm_in"]:
        for n, k in SHORT.items():
            mod = L.get_submodule(n)
            x = got[{"q": "l0.attn_norm", "k": "l0.attn_norm", "v": "l0.attn_norm", "o": "l0.attn_out", "down": "l0.ffn_act"}.get(k, "l0.ffn_norm")]
            g[f"l0.{k}_in.int8"], g[f"l0.{k}_in.scale"] = act_quant(mod.rms_norm(x[None])[0])
    else:
        g["logits"] = y.logits[0].numpy()
    return g


def last_logits(m, ids):
    with torch.no_grad():
        return m(torch.tensor([ids]), use_cache=False).logits[0, -1].numpy()


def hf_greedy(m, ids):
    cur = list(ids)
    for _ in range(NGEN):
        cur.append(int(last_logits(m, cur).argmax()))
    return np.array(cur[len(ids):], np.int32)


def gguf_matrix(form, e):
    c = e["codes"]
    blocks = lambda n: e["full"][:, ::n].reshape(-1)
    if form == "f16":
        return G.F16, e["w"].astype("<f2").tobytes()
    if form == "i2_s":
        return G.I2_S, P.pack_i2_s(c, e["scale"])
    if form == "tq2_0":
        return G.TQ2_0, P.pack_tq2_0(c, blocks(256))
    if form == "q2_0_g64":
        return G.Q2_0, P.pack_q2_0(c, blocks(64), 64)
    if form == "pq2_0":
        return G.PQ2_0, P.pack_q2_0(c, blocks(128), 128)
    return (G.Q2_0 if form.endswith("42") else G.STQ1_0), P.pack_stq1_0(c, blocks(256))


FILE_TYPE = {"f16": 1, "tq2_0": 37, "i2_s": 40, "q2_0_g64": 41, "pq2_0": 141, "stq1_0_id42": 41, "stq1_0_id43": 42}


def write_gguf(s, p, path, form, tok, name):
    a, f32 = s["arch"], lambda x: np.ascontiguousarray(x, "<f4").tobytes()
    kv = [("general.architecture", "str", a), ("general.name", "str", name), (f"{a}.vocab_size", "u32", s["vocab"]),
          (f"{a}.context_length", "u32", s["max_pos"]), (f"{a}.embedding_length", "u32", s["dim"]), (f"{a}.block_count", "u32", s["layers"]),
          (f"{a}.feed_forward_length", "u32", s["ffn"]), (f"{a}.attention.head_count", "u32", s["heads"]),
          (f"{a}.attention.head_count_kv", "u32", s["kv"]), (f"{a}.attention.layer_norm_rms_epsilon", "f32", s["eps"]),
          (f"{a}.attention.key_length", "u32", s["head_dim"]), (f"{a}.attention.value_length", "u32", s["head_dim"]),
          (f"{a}.rope.freq_base", "f32", s["theta"])]
    if a in ("llama", "minicpm"):
        kv.append((f"{a}.rope.dimension_count", "u32", s["head_dim"]))
    if "yarn" in s:
        kv += [(f"{a}.rope.scaling.type", "str", "yarn"), (f"{a}.rope.scaling.factor", "f32", s["yarn"]["factor"]),
               (f"{a}.rope.scaling.original_context_length", "u32", s["yarn"]["original"])]
    if "longrope" in s:
        kv += [(f"{a}.rope.scaling.type", "str", "longrope"), (f"{a}.rope.scaling.original_context_length", "u32", s["longrope"])]
    if a == "minicpm":
        kv += [(f"{a}.embedding_scale", "f32", s["embed_scale"]), (f"{a}.residual_scale", "f32", s["residual_scale"]),
               (f"{a}.logit_scale", "f32", s["logit_divisor"])]
    if s["window"]:
        kv.append((f"{a}.attention.sliding_window", "u32", s["window"]))
    kv.append(("general.file_type", "u32", FILE_TYPE[form]))
    if s["norm_in"]:
        kv += [(f"{a}.pooling_type", "u32", 3)] + G.tokenizer_kv(tok, add_bos=False, add_eos=True)         # 3: the last token
    else:
        kv += G.tokenizer_kv(tok)
    kv.append(("general.quantization_version", "u32", 2))
    def end(n):
        if n + "_ternary" in p:
            return p[n].shape, *gguf_matrix(form, p[n + "_ternary"])
        return p[n].shape, G.F16, p[n].astype("<f2").tobytes()
    T = [("token_embd.weight", *end("embed"))]
    if "longrope" in s:
        T += [(f"rope_factors_{k}.weight", p[k].shape, G.F32, f32(p[k])) for k in ("long", "short")]
    for i, L in enumerate(p["layers"]):
        for n, e in L.items():
            if n not in LIN:
                T.append((f"blk.{i}.{n}.weight", e.shape, G.F32, f32(e)))
                continue
            if a in ("llama", "minicpm") and n in LIN[:2]:
                heads = s["heads"] if n == LIN[0] else s["kv"]
                e = {k: permute(v, heads) for k, v in e.items()}
            T.append((f"blk.{i}.{GGUF_LIN[n]}.weight", e["codes"].shape, *gguf_matrix(form, e)))
            if "norm" in e:
                T.append((f"blk.{i}.{GGUF_LIN[n]}_norm_in.weight", e["norm"].shape, G.F32, f32(e["norm"])))
    T.append(("output_norm.weight", p["norm"].shape, G.F32, f32(p["norm"])))
    if not s["tied"]:
        T.append(("output.weight", *end("head")))
    G.write_gguf(path, kv, T)


def write_shards(T, d):
    """Two files and their index, as checkpoints of more than a few GB come."""
    names, files = sorted(T), {}
    for i, part in enumerate([names[: len(names) // 2], names[len(names) // 2 :]]):
        f = f"model-{i + 1:05}-of-00002.safetensors"
        save_torch({n: T[n] for n in part}, str(d / f), metadata={"format": "pt"})
        files |= {n: f for n in part}
    total = sum(t.numel() * t.element_size() for t in T.values())
    (d / "model.safetensors.index.json").write_text(json.dumps(dict(metadata=dict(total_size=total), weight_map=files), indent=1) + "\n")


def write_mlx(T, ternary, d, config):
    """Apple MLX's 2-bit checkpoint: `ternary` maps a tensor's name without .weight to codes and f16 scales [rows, cols/128]."""
    out = {k: v.numpy() for k, v in T.items() if k.removesuffix(".weight") not in ternary}
    for n, (codes, scale) in ternary.items():
        out |= {n + ".weight": P.pack_mlx(codes), n + ".scales": np.ascontiguousarray(scale), n + ".biases": np.ascontiguousarray(-scale)}
    d.mkdir(parents=True, exist_ok=True)
    save_file(out, str(d / "model.safetensors"), metadata={"format": "mlx"})
    q = dict(group_size=128, bits=2)
    (d / "config.json").write_text(json.dumps(config | dict(quantization=q, quantization_config=q), indent=2) + "\n")


def difference(x, y):
    return float(np.abs(np.asarray(x, np.float64) - y).max() / np.abs(y).max())


def language_model(name, s, d, tok):
    ids = tok.encode(PROMPT).ids[:12]
    ids += np.random.default_rng(3).integers(0, 500, 12 - len(ids)).tolist()
    for seed in SEEDS.get(name, range(1, 20000)):
        r = np.random.default_rng(seed)
        p = make_ends(s, r) | dict(layers=[make_layer(s, r) for _ in range(s["layers"])])
        net = Net(s, p)
        greedy, gap = net.greedy(ids, NGEN, s["gap"])
        if gap < s["gap"] or len(set(greedy)) < 6:
            continue
        if "longrope" not in s or Net(s, p, long=True).greedy(ids, NGEN, s["gap"])[1] >= s["gap"]:
            break
    else:
        raise SystemExit("no seed for " + name)
    T = hf_tensors(s, p)
    config = hf_config(s, tok)
    if "longrope" in s:
        config |= dict(scale_emb=s["embed_scale"], scale_depth=1.4, dim_model_base=int(s["dim"] / s["logit_divisor"]),
                       rope_scaling=dict(rope_type="longrope", short_factor=[float(str(x)) for x in p["short"]],
                                         long_factor=[float(str(x)) for x in p["long"]], original_max_position_embeddings=s["longrope"]))
    (d / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if name == "trilm-128":
        write_shards(T, d)
    if name == "qwen3-yarn":
        ternary = {f"model.layers.{i}.{n}": (L[n]["codes"], L[n]["full"][:, ::128]) for i, L in enumerate(p["layers"]) for n in LIN}
        ternary |= {k: (p[n]["codes"], p[n]["full"][:, ::128]) for k, n in [("model.embed_tokens", "embed_ternary"), ("lm_head", "head_ternary")]}
        write_mlx(T, ternary, d, config)
    m, base = hf_model(s, p, d, tok)
    g = run_hf(s, m, base, ids)
    trace = {}
    hidden, final = net.states(ids, trace)
    checks = {f"hidden.{i}": h for i, h in enumerate(hidden)} | {"final_norm": final, "logits": net.logits(ids)}
    checks |= {k: v for k, v in trace.items() if k in g}
    errors = {k: difference(g[k], v) for k, v in checks.items()}
    assert max(errors.values()) < 5e-6, errors
    g |= {k: trace[k].astype(np.float32) for k in ("l0.q_rope", "l0.k_rope")}
    f, scale = net.frequencies(0)
    a = np.arange(len(ids))[:, None] * f
    g["rope.cos"], g["rope.sin"] = np.float32(np.cos(a) * scale), np.float32(np.sin(a) * scale)
    g["input_ids"], g["greedy"] = np.array(ids, np.int32), hf_greedy(m, ids)
    assert g["greedy"].tolist() == greedy
    long = [ids[0]] + np.random.default_rng(5).integers(0, 500, 95).tolist()
    extra = {}
    if "longrope" in s:
        net = Net(s, p, long=True)
        use_factors(m, p["long"])
        g["logits.long_factors"] = run_hf(s, m, base, ids)["logits"]
        greedy_long, gap_long = net.greedy(ids, NGEN)
        g["greedy.long_factors"] = hf_greedy(m, ids)
        assert g["greedy.long_factors"].tolist() == greedy_long
        assert difference(g["logits.long_factors"], net.logits(ids)) < 5e-6
        extra = dict(factors_differ=difference(g["logits.long_factors"], g["logits"]), greedy_min_gap_long_factors=gap_long)
    if "yarn" in s:
        extra = dict(without_yarn_differs=difference(Net({k: v for k, v in s.items() if k != "yarn"}, p).logits(ids), g["logits"]))
    g["long.input_ids"], g["long.logits_last"] = np.array(long, np.int32), last_logits(m, long)
    err_long = difference(g["long.logits_last"], net.logits(long)[-1])
    assert err_long < 5e-6, err_long
    save_file({k: np.ascontiguousarray(v) for k, v in g.items()}, str(d / "golden.safetensors"))
    return p, dict(seed=int(seed), spec=s, prompt=PROMPT, input_ids=ids, greedy=greedy, greedy_text=tok.decode(greedy), greedy_min_relative_gap=gap,
                   hf_vs_float64_max_rel=errors["logits"], long_hf_vs_float64_max_rel=err_long, **extra)


def embedding_model(name, s, d, tok):
    eos = tok.token_to_id("<|end_of_text|>")
    texts = [tok.encode(t, add_special_tokens=False).ids + [eos] for t in TEXTS]
    p = make_ends(s, np.random.default_rng(1)) | dict(layers=[])
    net = Net(s, p, margin=s["margin"])
    xs, draws = [net.embed(ids) for ids in texts], []
    for n in range(s["layers"]):
        L = make_layer(s, np.random.default_rng(n + 2))
        for draw in ([SEEDS[name][n]] if name in SEEDS else range(1, 200000)):
            make_gains(s, L, np.random.default_rng([n, draw]))          # other gains give other activations
            try:
                xs = [net.layer(x, L, n) for x in xs]
                break
            except NearTie:
                pass
        p["layers"].append(L); draws.append(draw)
        print(f"{name}: layer {n} is draw {draw}", flush=True)
    (d / "config.json").write_text(json.dumps(hf_config(s, tok), indent=2) + "\n")
    save_torch(hf_tensors(s, p), str(d / "model.safetensors"), metadata={"format": "pt"})
    m, base = hf_model(s, p, d, tok)
    out, errors, windows = {}, {}, []
    for t, ids in enumerate(texts):
        g = run_hf(s, m, base, ids)
        trace = {}
        hidden, final = net.states(ids, trace)
        checks = {f"hidden.{i}": h for i, h in enumerate(hidden)} | {"final_norm": final}
        for k, v in (checks | trace).items():
            if k in g and k.endswith(".int8"):
                assert (g[k] == v).all(), k
            elif k in g:
                errors[f"{t}.{k}"] = difference(g[k], v)
        e = g["final_norm"][-1].astype(np.float64)
        out |= {f"text.{t}.input_ids": np.array(ids, np.int32), f"text.{t}.embedding": np.float32(e / np.sqrt((e * e).sum())), f"text.{t}.final_norm": g["final_norm"]}
        out |= {f"text.{t}.{k}": g[k] for k in g if k.startswith("hidden.") and (t == 0 or k == f"hidden.{s['layers']}")}
        if t == 0:
            out |= {k: np.asarray(g.get(k, v), v.dtype if v.dtype != np.float64 else np.float32) for k, v in trace.items()}
        if s["window"]:
            windows.append(difference(Net(s | dict(window=10 ** 6), p).embedding(ids), net.embedding(ids)))
    assert max(errors.values()) < 5e-6, errors
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, str(d / "golden.safetensors"))
    extra = dict(without_window_differs=windows) if windows else {}
    return p, dict(draws=draws, spec=s, texts=TEXTS, input_ids=texts, tie_margin=net.tie, hf_vs_float64_max_rel=max(errors.values()), **extra)


def qwen3_256_mlx(out, tok):
    """The weights of qwen3-256 as an MLX checkpoint; its golden values are qwen3-256's."""
    from gen_golden import config
    from safetensors.torch import load_file
    s = GOLDEN_SPECS["qwen3-256"]
    p = golden_params(s, GOLDEN_SEEDS["qwen3-256"])
    T = load_file(str(out / "qwen3-256/model.safetensors"))
    ternary = {"model.embed_tokens": (p["embed_codes"], p["embed_scale"])}
    ternary |= {f"model.layers.{i}.{n}": (L[n]["codes"], L[n]["scale"]) for i, L in enumerate(p["layers"]) for n in LIN}
    for n, (codes, scale) in ternary.items():
        assert (codes * np.repeat(scale, 128, 1) == T[n + ".weight"].numpy()).all(), n
    write_mlx(T, ternary, out / "qwen3-256-mlx", config(s, tok))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=Path, required=True); ap.add_argument("--only")
    a = ap.parse_args()
    torch.set_num_threads(1)
    tok = Tokenizer.from_file(str(a.out / "tokenizer.json"))
    for name, s in SPECS.items():
        if a.only not in (None, name):
            continue
        d = a.out / name
        d.mkdir(parents=True, exist_ok=True)
        p, meta = (embedding_model if s["norm_in"] else language_model)(name, s, d, tok)
        for form in s["gguf"]:
            write_gguf(s, p, d / f"{form}.gguf", form, tok, name)
        (d / "golden.json").write_text(json.dumps(meta, indent=1) + "\n")
        print(name, {k: v for k, v in meta.items() if k not in ("spec", "input_ids", "greedy", "texts", "prompt")},
              f"{sum(f.stat().st_size for f in d.iterdir()) / 1e6:.2f} MB", flush=True)
    if a.only in (None, "qwen3-256-mlx"):
        qwen3_256_mlx(a.out, tok)


if __name__ == "__main__":
    main()
