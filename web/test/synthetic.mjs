// A GGUF file with random trits, of the shape of a BitNet model in I2_S or of a Llama in TQ2_0, which llama.cpp reads too: the real amount
// of work, and output that means nothing. The same seed makes the same bytes.

import { closeSync, openSync, writeSync } from "node:fs";

const [F32, F16, TQ2_0, I2_S] = [0, 1, 35, 36];
const [U32, FLOAT, BOOL, STRING, ARRAY, I32] = [4, 6, 7, 8, 9, 5];

/** Writes the file, and gives its size. */
export function writeModel(path, { layers, width, ffnWidth, heads, vocabulary, context = 2048, seed = 1, isLlama = false }) {
  const random = generator(seed);
  const [prefix, trits] = isLlama ? ["llama", TQ2_0] : ["bitnet-b1.58", I2_S];
  const names = Array.from({ length: vocabulary }, (_, i) => (i < 256 ? byteName(i) : `t${i}`));
  const keys = [
    ["general.architecture", STRING, prefix],
    ["general.name", STRING, `synthetic-${layers}x${width}`],
    [`${prefix}.vocab_size`, U32, vocabulary],
    [`${prefix}.context_length`, U32, context],
    [`${prefix}.embedding_length`, U32, width],
    [`${prefix}.block_count`, U32, layers],
    [`${prefix}.feed_forward_length`, U32, ffnWidth],
    [`${prefix}.rope.dimension_count`, U32, width / heads],
    [`${prefix}.attention.head_count`, U32, heads],
    [`${prefix}.attention.head_count_kv`, U32, heads],
    [`${prefix}.attention.layer_norm_rms_epsilon`, FLOAT, 1e-5],
    [`${prefix}.rope.freq_base`, FLOAT, 10000],
    ["tokenizer.ggml.model", STRING, "gpt2"],
    ["tokenizer.ggml.pre", STRING, "llama-bpe"],
    ["tokenizer.ggml.tokens", ARRAY, [STRING, names]],
    ["tokenizer.ggml.token_type", ARRAY, [I32, names.map(() => 1)]],
    ["tokenizer.ggml.merges", ARRAY, [STRING, []]],
    ["tokenizer.ggml.bos_token_id", U32, vocabulary - 1],
    ["tokenizer.ggml.eos_token_id", U32, vocabulary - 2],
    ["tokenizer.ggml.add_bos_token", BOOL, true],
  ];
  const tensors = [["token_embd.weight", [width, vocabulary], F16], ["output_norm.weight", [width], F32]];
  for (let layer = 0; layer < layers; layer++) {
    const add = (name, shape, type) => tensors.push([`blk.${layer}.${name}.weight`, shape, type]);
    for (const name of ["attn_q", "attn_k", "attn_v", "attn_output"]) add(name, [width, width], trits);
    for (const name of ["ffn_gate", "ffn_up"]) add(name, [width, ffnWidth], trits);
    add("ffn_down", [ffnWidth, width], trits);
    for (const name of ["attn_norm", "ffn_norm"]) add(name, [width], F32);
    if (isLlama) continue;
    add("attn_sub_norm", [width], F32);
    add("ffn_sub_norm", [ffnWidth], F32);
  }
  const head = new Head();
  head.text("GGUF", false).u32(3).u64(tensors.length).u64(keys.length);
  for (const [key, type, value] of keys) head.text(key).u32(type).value(type, value);
  let offset = 0;
  for (const [name, shape, type] of tensors) {
    head.text(name).u32(shape.length);
    shape.forEach((length) => head.u64(length));
    head.u32(type).u64(offset);
    offset += padded(bytesOf(shape, type));
  }
  const file = openSync(path, "w");
  let size = writeSync(file, head.padded());
  const noise = random.bytes(1 << 20);
  for (const [, shape, type] of tensors) size += writeSync(file, tensor(shape, type, noise, random, width));
  closeSync(file);
  return size;
}

/** The file with a text key before all others, filled up by `filler` (whose one blank may be more) so that tensors stay where they can. */
export function withKey(file, key, text, filler) {
  const padding = 32 - ((4 + 8 + key.length + 8 + text.length + filler.length - 1) % 32);
  const pair = new Head().text(key).u32(STRING).text(text + filler.replace(" ", " ".repeat(padding)));
  const counted = Buffer.from(file.subarray(0, 24));
  counted.writeBigUInt64LE(counted.readBigUInt64LE(16) + 1n, 16);
  return Buffer.concat([counted, pair.bytes(), file.subarray(24)]);
}

function bytesOf(shape, type) {
  const count = shape.reduce((a, b) => a * b, 1);
  return { [F32]: 4 * count, [F16]: 2 * count, [TQ2_0]: (count / 256) * 66, [I2_S]: count / 4 + 32 }[type];
}

/** Codes 0 to 2 with a scale, halves around zero, or ones. */
function tensor(shape, type, noise, random, width) {
  const bytes = Buffer.alloc(padded(bytesOf(shape, type)));
  if (type === F32) new Float32Array(bytes.buffer, bytes.byteOffset, shape[0]).fill(1);
  if (type === I2_S || type === TQ2_0) {
    const codes = type === I2_S ? bytesOf(shape, type) - 32 : bytesOf(shape, type);
    const first = random.below(noise.length / 2);
    // Two bits are a code; where both are set, they are none, and the lower one is cleared.
    for (let i = 0; i < codes; i++) {
      const byte = noise[(first + i) % noise.length];
      bytes[i] = byte & ~((byte >> 1) & 0x55);
    }
    if (type === I2_S) bytes.writeFloatLE(1 / Math.sqrt(width), codes);
    // A block of 256 ends with its scale, an f16: 2^-5.
    else for (let i = 64; i < codes; i += 66) bytes.writeUInt16LE(10 << 10, i);
  }
  if (type === F16) {
    const first = random.below(noise.length / 2);
    for (let i = 0; i < bytes.length; i += 2) {
      // A sign, an exponent of 2^-6 to 2^-3, and any fraction.
      const [low, high] = [noise[(first + i) % noise.length], noise[(first + i + 1) % noise.length]];
      bytes.writeUInt16LE(((high & 0x80) << 8) | ((9 + ((high >> 2) & 3)) << 10) | ((high & 3) << 8) | low, i);
    }
  }
  return bytes;
}

const padded = (bytes) => Math.ceil(bytes / 32) * 32;

/** What GPT-2 calls a byte. */
function byteName(byte) {
  const isShown = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  if (isShown(byte)) return String.fromCharCode(byte);
  const before = Array.from({ length: byte }, (_, b) => b).filter((b) => !isShown(b)).length;
  return String.fromCharCode(256 + before);
}

/** xorshift32. */
function generator(seed) {
  let state = seed * 2654435761 || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  return { below: (most) => next() % most, bytes: (count) => Uint8Array.from({ length: count }, () => next() & 0xff) };
}

class Head {
  #parts = [];

  #push(size, write) {
    const part = Buffer.alloc(size);
    write(part);
    this.#parts.push(part);
    return this;
  }

  u32(value) {
    return this.#push(4, (part) => part.writeUInt32LE(value));
  }

  u64(value) {
    return this.#push(8, (part) => part.writeBigUInt64LE(BigInt(value)));
  }

  text(text, withLength = true) {
    const bytes = Buffer.from(text);
    if (withLength) this.u64(bytes.length);
    this.#parts.push(bytes);
    return this;
  }

  value(type, value) {
    if (type === STRING) return this.text(value);
    if (type === FLOAT) return this.#push(4, (part) => part.writeFloatLE(value));
    if (type === BOOL) return this.#push(1, (part) => part.writeUInt8(value ? 1 : 0));
    if (type === ARRAY) {
      const [of, items] = value;
      this.u32(of).u64(items.length);
      items.forEach((item) => this.value(of, item));
      return this;
    }
    return this.u32(value);
  }

  bytes() {
    return Buffer.concat(this.#parts);
  }

  padded() {
    const bytes = this.bytes();
    return Buffer.concat([bytes, Buffer.alloc(padded(bytes.length) - bytes.length)]);
  }
}
