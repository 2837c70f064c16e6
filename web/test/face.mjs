// The JavaScript face: kernels, models, errors, memory.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { writeModel } from "./synthetic.mjs";

const WAYS = [
  { device: "cpu", kernels: "relaxed-simd" },
  { device: "cpu", kernels: "simd128" },
  { device: "cpu", kernels: "portable" },
  { device: "webgpu" },
];
const way = ({ device, kernels }) => kernels ?? device;

export function tests({ fresh, generated, root, scratch }) {
  const json = (path) => JSON.parse(readFileSync(join(root, "tests/data", path)));
  return {
    async "the kernels of WebAssembly do what the reference does, verb by verb"() {
      for (const kernels of ["portable", "simd128", "relaxed-simd"]) {
        const { page, context } = await fresh();
        const count = await page.evaluate(async (kernels) => {
          const verbs = await import("./sterna_verbs.js");
          await verbs.default({ module_or_path: "./sterna_verbs_bg.wasm" });
          const names = verbs.names();
          names.forEach((name, place) => {
            try {
              verbs.run(place, kernels);
            } catch (error) {
              throw new Error(`${name} on ${kernels}: ${error.message}; the console has more`);
            }
          });
          return names.length;
        }, kernels);
        assert.ok(count > 20, `${count} claims`);
        console.log(`    ${kernels}: ${count} claims`);
        await context.close();
      }
    },

    async "the shipped model tells what the reference tells"() {
      const { page, context } = await fresh();
      for (const options of WAYS) {
        for (const { prompt, greedy, safe_tokens: safe } of json("tales/golden.json").prompts) {
          const count = options.device === "webgpu" ? Math.min(safe, 24) : safe; // software takes long for a token
          const made = await generated(page, "tales-4m-i2_s.gguf", options, prompt, { temperature: 0, maxTokens: count });
          assert.deepEqual(made.ids, greedy.slice(0, count), `${way(options)}: ${prompt}`);
          assert.equal(made.info.device, options.device);
          if (options.kernels) assert.match(made.info.deviceName, new RegExp(`\\b${options.kernels}\\b`));
          if (options.device === "webgpu") break; // software: one is enough
        }
        console.log(`    ${way(options)}`);
      }
      await context.close();
    },

    async "golden models make the ids of the reference"() {
      const { page, context } = await fresh();
      const models = [["bitnet-256", "i2_s"], ["bitnet-256", "tq1_0"], ["llama-256", "i2_s"], ["qwen3-256", "ptq1_0", true]];
      for (const [name, file, precise] of models) {
        const { input_ids: prompt, greedy } = json(`golden/${name}/golden.json`);
        for (const options of WAYS) {
          // Software takes long for a token.
          const count = options.device === "webgpu" ? 12 : greedy.length;
          const request = { temperature: 0, maxTokens: count, ignoreEnd: true };
          const made = await generated(page, `golden/${name}/${file}.gguf`, { ...options, precise, cache: "f32" }, prompt, request);
          assert.deepEqual(made.ids, greedy.slice(0, count), `${name}/${file} on ${way(options)}`);
        }
        console.log(`    ${name}/${file}`);
      }
      await context.close();
    },

    async "sampling repeats with its seed, and text ends where it is asked to"() {
      const { page, context } = await fresh();
      const draw = (seed) => generated(page, "tales-4m-i2_s.gguf", { device: "cpu" }, "Once", { seed, temperature: 1, maxTokens: 30 });
      const [first, again, other] = [await draw(7), await draw(7), await draw(8)];
      assert.deepEqual(first.ids, again.ids);
      assert.notDeepEqual(first.ids, other.ids);
      const stopped = await generated(page, "tales-4m-i2_s.gguf", { device: "cpu" }, "Once upon a time", { temperature: 0, stop: [" boys"] });
      assert.ok(!stopped.text.includes(" boys") && stopped.finish === "end", JSON.stringify(stopped));
      await context.close();
    },

    async "software WebGPU is not taken unasked, and the reason is told"() {
      const { page, context } = await fresh();
      const made = await generated(page, "tales-4m-i2_s.gguf", {}, "Once", { temperature: 0, maxTokens: 2 });
      assert.equal(made.info.device, "cpu");
      assert.match(made.info.reason, /software/);
      await context.close();
    },

    async "without WebGPU the CPU is taken, and asking for the GPU is an error"() {
      const { page, context } = await fresh("blank.html");
      const outcome = await page.evaluate(async () => {
        const { load } = await import("./sterna.js");
        const workerUrl = "no-gpu-worker.js";
        const model = await load("tales-4m-i2_s.gguf", { workerUrl });
        const info = model.info;
        model.close();
        const error = await load("tales-4m-i2_s.gguf", { workerUrl, device: "webgpu" }).catch((error) => error.message);
        return { info, error };
      });
      assert.equal(outcome.info.device, "cpu");
      for (const text of [outcome.info.reason, outcome.error]) assert.match(text, /no WebGPU.*use the CPU/);
      await context.close();
    },

    async "an abort ends a generation, and the model goes on with the next"() {
      const { page, context } = await fresh();
      for (const device of ["cpu", "webgpu"]) {
        const outcome = await page.evaluate(async (device) => {
          const { load } = await import("./sterna.js");
          const model = await load("tales-4m-i2_s.gguf", { device });
          const run = async (stop, limits) => {
            let [count, finish] = [0, null];
            for await (const piece of model.generate("Once upon a time", { temperature: 0, maxTokens: 400, ignoreEnd: true, ...limits })) {
              count += 1;
              finish = piece.finish;
              if (count === 5 && stop(piece)) break;
            }
            return { count, finish };
          };
          const controller = new AbortController();
          const outcome = device === "webgpu" ? { called: await run(() => (model.abort(), false)) } : {
            called: await run(() => (model.abort(), false)),
            signalled: await run(() => (controller.abort(), false), { signal: controller.signal }),
            left: await run(() => true),
            after: await run(() => false, { maxTokens: 8 }),
          };
          model.close();
          return outcome;
        }, device);
        for (const kind of ["called", "signalled"].filter((kind) => outcome[kind])) {
          assert.equal(outcome[kind].finish, "aborted", `${device}, ${kind}: ${JSON.stringify(outcome[kind])}`);
          assert.ok(outcome[kind].count < 300, JSON.stringify(outcome[kind]));
        }
        if (outcome.after) assert.deepEqual(outcome.after, { count: 8, finish: "max-tokens" }, device);
      }
      await context.close();
    },

    async "memory is told while a step is computed, on the GPU too"() {
      const { page, context } = await fresh();
      const outcome = await page.evaluate(async () => {
        const { load } = await import("./sterna.js");
        const model = await load("tales-4m-i2_s.gguf", { device: "webgpu" });
        const told = [];
        for await (const piece of model.generate("Once upon a time", { temperature: 0, maxTokens: 6, ignoreEnd: true })) {
          told.push(model.memory().catch((error) => error.message));
        }
        const all = await Promise.all(told);
        model.close();
        return all;
      });
      assert.equal(outcome.length, 6);
      for (const bytes of outcome) assert.ok(bytes > 1e6, `${bytes}`);
      await context.close();
    },

    async "wrong files and wrong requests are errors that name what is wrong"() {
      const { page, context } = await fresh();
      const errors = await page.evaluate(async () => {
        const { load } = await import("./sterna.js");
        const told = (promise) => promise.then(() => "no error", (error) => `${error.name}: ${error.message}`);
        const whole = new Uint8Array(await (await fetch("tales-4m-i2_s.gguf")).arrayBuffer());
        const model = await load(whole.slice(), { device: "cpu" });
        const ask = async (prompt, options) => {
          for await (const _ of model.generate(prompt, options)) break;
        };
        return {
          page: await told(load("index.html", { device: "cpu" })),
          absent: await told(load("nothing.gguf", { device: "cpu" })),
          cut: await told(load(whole.slice(0, 1000000), { device: "cpu" })),
          empty: await told(load(new Blob([]), { device: "cpu" })),
          kind: await told(load(42)),
          device: await told(load(whole.slice(), { device: "tpu" })),
          context: await told(load(whole.slice(), { device: "cpu", context: 100000 })),
          messages: await told(ask([{ role: "user", content: "hello" }])),
          prompt: await told(ask({})),
          temperature: await told(ask("Once", { temperature: -1 })),
          unknown: await told(ask("Once", { temprature: 1 })),
          ids: await told(ask([5, 999999])),
          after: await told(ask("Once", { maxTokens: 1 })),
        };
      });
      const expected = {
        page: /HTML page, not a model/, absent: /server says 404/, cut: /cut off|past the end/, empty: /empty/, kind: /an address, a File/,
        device: /"auto", "webgpu" or "cpu"/, context: /context of 100000/, messages: /no chat template/, prompt: /a prompt is/,
        temperature: /temperature/, unknown: /temprature/, ids: /999999 is outside/, after: /^no error$/,
      };
      for (const [name, pattern] of Object.entries(expected)) assert.match(errors[name], pattern, `${name}: ${errors[name]}`);
      await context.close();
    },

    async "a lost GPU is an error that says to load again, and a new load works"() {
      const { page, context } = await fresh();
      const outcome = await page.evaluate(async () => {
        const { load } = await import("./sterna.js");
        // The worker that loads is the one that can lose its GPU.
        let worker;
        const Real = globalThis.Worker;
        globalThis.Worker = class extends Real {
          constructor(...rest) {
            super(...rest);
            worker = this;
          }
        };
        const model = await load("tales-4m-i2_s.gguf", { device: "webgpu", workerUrl: "lost-worker.js" });
        let error = "no error";
        try {
          for await (const piece of model.generate("Once upon a time", { maxTokens: 400, ignoreEnd: true })) {
            if (piece.usage.made === 3) worker.postMessage({ what: "lose" });
          }
        } catch (thrown) {
          error = thrown.message;
        }
        model.close();
        const again = await load("tales-4m-i2_s.gguf", { device: "webgpu" });
        let made = 0;
        for await (const piece of again.generate("Once", { maxTokens: 3, temperature: 0 })) made = piece.usage.made;
        again.close();
        return { error, made };
      });
      assert.match(outcome.error, /load the model again/);
      assert.equal(outcome.made, 3);
      await context.close();
    },

    async "a file of 300 MB takes at most 1.3 times its size"() {
      const size = writeModel(join(scratch, "large.gguf"), { layers: 28, width: 1536, ffnWidth: 4096, heads: 16, vocabulary: 32002 });
      assert.ok(size > 290e6, `${size}`);
      const { page, context } = await fresh();
      const before = ownMemoryOfRenderers();
      const outcome = await page.evaluate(async () => {
        const { load } = await import("./sterna.js");
        const model = await load("large.gguf", { device: "cpu", context: 64 });
        let made = 0;
        for await (const piece of model.generate([1, 2, 3], { temperature: 0, maxTokens: 4, ignoreEnd: true })) made = piece.usage.made;
        return { made, memory: await model.memory() };
      });
      const taken = Math.max(...[...ownMemoryOfRenderers()].map(([pid, most]) => most - (before.get(pid) ?? 0)));
      console.log(`    the file ${mega(size)}, the module ${mega(outcome.memory)}, the renderer ${mega(taken)} more than before`);
      assert.equal(outcome.made, 4);
      assert.ok(outcome.memory <= 1.3 * size, `${outcome.memory} of ${size}`);
      assert.ok(taken > size && taken <= 1.3 * size, `${taken} of ${size}`);
      await context.close();
      rmSync(join(scratch, "large.gguf"));
    },
  };
}

const mega = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;

/**
 * The most memory that each renderer of this browser had so far, in bytes by its process, as Linux tells: without the pages of the
 * browser's own program, which come as its code first runs and are no memory that a model takes.
 */
function ownMemoryOfRenderers() {
  const told = (pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("--type=renderer")) return [];
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      const bytes = (name) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)[1]) * 1024;
      return [[pid, bytes("VmHWM") - bytes("RssFile")]];
    } catch {
      return []; // it has ended
    }
  };
  return new Map(readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap(told));
}
