// Ternary language models in this tab. `load` starts a worker with one model; `generate` is an async iterator over what it makes.
// The types, and what each option means, are in sterna.d.ts.

/** A failure that says what to do about it. */
export class SternaError extends Error {
  constructor(message) {
    super(message);
    this.name = "SternaError";
  }
}

/** Loads a model: from an address, a file that the user gave, or bytes. */
export async function load(source, options = {}) {
  const { device = "auto", context, precise, cache, kernels, screening, onProgress, signal, workerUrl } = options;
  if (!["auto", "webgpu", "cpu"].includes(device)) {
    throw new SternaError(`there is no device "${device}"; it is "auto", "webgpu" or "cpu"`);
  }
  signal?.throwIfAborted();
  const worker = begin(workerUrl);
  const link = new Link(worker);
  const stop = () => {
    link.close(new DOMException("the load was aborted", "AbortError"));
  };
  signal?.addEventListener("abort", stop, { once: true });
  try {
    const wanted = { device: device === "auto" ? undefined : device, context, precise, cache, kernels, screening };
    const [sent, moved] = sendable(source);
    const info = await link.call("load", { source: sent, options: wanted }, moved, onProgress);
    return new Model(link, info);
  } catch (error) {
    link.close(error);
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** Forgets the files that were downloaded, or one of them. */
export async function forget(url, { workerUrl } = {}) {
  const link = new Link(begin(workerUrl));
  try {
    await link.call("forget", { url: url && new URL(url, document.baseURI).href });
  } finally {
    link.close();
  }
}

function begin(workerUrl) {
  return new Worker(workerUrl ?? new URL("./worker.js", import.meta.url), { type: "module" });
}

/** What a worker is given: addresses as such, bytes without a copy where they are all of their buffer. */
function sendable(source) {
  if (typeof source === "string" || source instanceof URL) {
    return [{ url: new URL(source, document.baseURI).href }, []];
  }
  if (source instanceof Blob) return [{ blob: source }, []];
  if (source instanceof ArrayBuffer) return [{ bytes: new Uint8Array(source) }, [source]];
  if (ArrayBuffer.isView(source)) {
    const bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength).slice();
    return [{ bytes }, [bytes.buffer]];
  }
  throw new SternaError("a model is an address, a File or Blob, or bytes");
}

/** A model that is loaded in a worker of its own. */
class Model {
  #link;
  #running = false;

  constructor(link, info) {
    this.#link = link;
    /** What was loaded, on which device, and why. */
    this.info = info;
  }

  /** What the model makes of a text, of ids or of the turns of a conversation, piece by piece. */
  async *generate(prompt, options = {}) {
    if (this.#running) {
      throw new SternaError("this model generates already; abort that first, or wait for its end");
    }
    const { signal, ...rest } = options;
    signal?.throwIfAborted();
    const request = { ...rest, ...asked(prompt) };
    const pieces = new Pieces();
    this.#running = true;
    const abort = () => this.abort();
    signal?.addEventListener("abort", abort, { once: true });
    const over = this.#link.call("generate", { request }, [], (piece) => pieces.push(piece));
    over.then(() => pieces.end(), (error) => pieces.end(error));
    try {
      yield* pieces;
    } finally {
      // Whoever leaves the loop early wants no more of it.
      if (!pieces.isOver) this.abort();
      await over.catch(() => {});
      signal?.removeEventListener("abort", abort);
      this.#running = false;
    }
  }

  /** Ends what is generated, after the step that is computed. Its last piece has the finish "aborted". */
  abort() {
    this.#link.post("abort");
  }

  /** Bytes of memory that the worker's module holds. */
  memory() {
    return this.#link.call("memory");
  }

  /** Ends the worker, and frees all that it holds. */
  close() {
    this.#link.close(new SternaError("the model was closed"));
  }
}

/** Which of the three ways to say what is continued a prompt is. */
function asked(prompt) {
  if (typeof prompt === "string") return { prompt };
  if (Array.isArray(prompt) && typeof prompt[0] === "number") return { ids: prompt };
  if (Array.isArray(prompt)) return { messages: prompt };
  throw new SternaError("a prompt is a text, an array of messages or an array of token ids");
}

/** What came and was not taken yet. */
class Pieces {
  #ready = [];
  #wake = null;
  #error = null;
  isOver = false;

  push(piece) {
    this.#ready.push(piece);
    this.#wake?.();
  }

  end(error) {
    this.isOver = true;
    this.#error = error ?? null;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.#ready.length > 0) yield this.#ready.shift();
      if (this.#error) throw this.#error;
      if (this.isOver) return;
      await new Promise((resolve) => (this.#wake = resolve));
      this.#wake = null;
    }
  }
}

/** Calls of the worker, and their answers. */
class Link {
  #worker;
  #calls = new Map();
  #next = 1;
  #closed = null;

  constructor(worker) {
    this.#worker = worker;
    worker.onmessage = ({ data }) => this.#hear(data);
    worker.onerror = (event) => this.close(new SternaError(`the worker failed: ${event.message || "it cannot be loaded"}`));
  }

  call(what, rest = {}, moved = [], onProgress) {
    if (this.#closed) return Promise.reject(this.#closed);
    const call = this.#next++;
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject, onProgress });
      this.#worker.postMessage({ call, what, ...rest }, moved);
    });
  }

  post(what) {
    if (!this.#closed) this.#worker.postMessage({ what });
  }

  close(error = new SternaError("closed")) {
    if (this.#closed) return;
    this.#closed = error;
    this.#worker.terminate();
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }

  #hear({ call, progress, result, error }) {
    const waiting = this.#calls.get(call);
    if (!waiting) return;
    if (progress !== undefined) {
      waiting.onProgress?.(progress);
    } else {
      this.#calls.delete(call);
      if (error !== undefined) waiting.reject(new SternaError(error));
      else waiting.resolve(result);
    }
  }
}
