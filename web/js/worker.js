// One model in a worker: the page stays smooth while it computes, and here files can be read without waiting, as the module wants.

import { forget, open } from "./storage.js";

// The smallest module with an instruction of SIMD128: an engine that lacks it does not take it.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

/**
 * Whether there are the dot products of relaxed SIMD, and right: sixteen times -128 with sixteen times 3. (V8 11.3 had them behind a
 * flag, and took the wrong operand for the one without a sign.)
 */
function hasRelaxedDots() {
  const constant = (byte) => [253, 12, ...Array(16).fill(byte)];
  const body = [0, ...constant(0x80), ...constant(3), ...constant(0), 253, 0x93, 2, 253, 27, 0, 11];
  const head = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0];
  const module = new Uint8Array([...head, 10, body.length + 2, 1, body.length, ...body]);
  if (!WebAssembly.validate(module)) return false;
  return new WebAssembly.Instance(new WebAssembly.Module(module)).exports.f() === -1536;
}

const sources = new Map(); // of the load in progress
let module = null;
let tab = null;
let aborted = false;

// What the module calls for pieces of a file.
globalThis.sternaRead = (source, offset, bytes) => sources.get(source).read(offset, bytes);
let lastSource = 0;

self.onmessage = async ({ data: { call, what, ...rest } }) => {
  if (what === "abort") {
    aborted = true;
    return;
  }
  const tell = (progress) => self.postMessage({ call, progress });
  try {
    self.postMessage({ call, result: (await actions[what](rest, tell)) ?? null });
  } catch (error) {
    self.postMessage({ call, error: words(error) });
  }
};

const actions = {
  async load({ source, options }, tell) {
    module = await instantiate(options.kernels);
    const file = await open(source, (done, all) => tell({ phase: "download", done, all }));
    const number = (lastSource += 1);
    sources.set(number, file);
    try {
      const progress = (done, all) => tell({ phase: "load", done, all });
      tab = await module.Tab.load(number, file.size, JSON.stringify(options), progress);
      return { ...JSON.parse(tab.describe()), storage: file.storage };
    } finally {
      // All was read, or will not be: bytes are held no longer than that, and a file may be forgotten.
      sources.delete(number);
      file.close();
    }
  },

  async generate({ request }, tell) {
    aborted = false;
    tab.begin(JSON.stringify(request));
    for (;;) {
      for (const piece of JSON.parse(await tab.step())) {
        if (piece.error) throw new Error(piece.error);
        delete piece.error;
        tell(piece);
        if (piece.finish) return;
      }
      await news();
      if (aborted) tab.cancel();
    }
  },

  memory: async () => module.held_bytes(),

  forget: ({ url }) => forget(url),
};

/** The module with the fastest kernels that this browser takes; a second one only where those are asked for. */
async function instantiate(kernels) {
  if (!WebAssembly.validate(new Uint8Array(SIMD))) throw new Error("this browser runs no SIMD in WebAssembly; take a newer one");
  const isRelaxed = hasRelaxedDots() && (kernels === undefined || kernels === "relaxed-simd");
  const folder = isRelaxed ? "relaxed" : "simd128";
  const module = await import(`./${folder}/sterna_web.js`);
  await module.default({ module_or_path: new URL(`./${folder}/sterna_web_bg.wasm`, import.meta.url) });
  return module;
}

/** Lets messages in. (A timer would wait for four milliseconds.) */
const channel = new MessageChannel();
function news() {
  return new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
}

function words(error) {
  if (error instanceof WebAssembly.RuntimeError) {
    return `the module broke (${error.message}); load the model again. It may have run out of memory`;
  }
  return error?.message ?? String(error);
}
