// Tokens a second and the time to the first token, of the shipped model and of a synthetic one of 0.7B parameters: in headless Chromium by
// each kernel set, by wllama (llama.cpp's module) where it reads the file, and by a native build, all on one thread, by turns:
// `node web/test/figures.mjs [NATIVE [ROUNDS]]`, with the example `generate` of a release build. Medians of the rounds are told.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { serve } from "./server.mjs";
import { writeModel } from "./synthetic.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");
const { chromium } = createRequire(join(root, "target/web/"))("playwright-core");
const scratch = join(root, "target/web/scratch");
// `npm install --no-save --prefix target/web @wllama/wllama`
const peer = join(root, "target/web/node_modules/@wllama/wllama/esm");
const native = process.argv[2];
const rounds = Number(process.argv[3] ?? 3);

mkdirSync(scratch, { recursive: true });
const large = join(scratch, "0.7b.gguf");
writeModel(large, { layers: 24, width: 1536, ffnWidth: 4096, heads: 16, vocabulary: 32002, isLlama: true });
const models = [
  { name: "shipped", path: join(root, "models/tales-4m-i2_s.gguf"), url: "tales-4m-i2_s.gguf", prompt: 128, tokens: 200 },
  { name: "0.7B", path: large, url: "0.7b.gguf", prompt: 32, tokens: 16, isLarge: true },
];
const server = await serve([join(root, "target/web/dist"), scratch, here, peer]);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

async function blank() {
  const page = await browser.newPage();
  await page.goto(`${server.address}/blank.html`);
  return page;
}

/** A side that loads a model in a page, and then measures as often as it is asked. A round has a prompt of its own, which is in no cache. */
async function ours({ url, prompt, tokens }, kernels, screening = false) {
  const page = await blank();
  await page.evaluate(
    async ([url, kernels, screening]) => {
      const { load } = await import("./sterna.js");
      globalThis.model = await load(url, { device: "cpu", kernels, screening, context: 512 });
      // The first run warms the compiler of the engine up.
      for await (const _ of model.generate([1, 2, 3, 4], { temperature: 0, maxTokens: 4, ignoreEnd: true }));
    },
    [url, kernels, screening],
  );
  const measure = (round) =>
    page.evaluate(
      async ([ids, tokens]) => {
        const begin = performance.now();
        let [first, last, count] = [0, 0, 0];
        for await (const piece of model.generate(ids, { temperature: 0, maxTokens: tokens, ignoreEnd: true })) {
          last = performance.now() - begin;
          first ||= last;
          count = piece.usage.made;
        }
        return { first, speed: (1000 * (count - 1)) / (last - first) };
      },
      [Array.from({ length: prompt }, (_, i) => 40 + ((i + 7 * round) % 60)), tokens],
    );
  return { name: `Chromium, ${kernels}${screening ? ", screened" : ""}`, measure, close: () => page.close() };
}

/** The same of llama.cpp. */
async function theirs({ url, prompt, tokens }) {
  const page = await blank();
  await page.evaluate(async (url) => {
    const { Wllama } = await import("./index.js");
    globalThis.wllama = new Wllama({ default: new URL("wasm/wllama.wasm", location.href).href }, { suppressNativeLog: true });
    const file = await (await fetch(url)).blob();
    await wllama.loadModel([file], { n_ctx: 512, n_threads: 1, n_gpu_layers: 0, warmup: true });
  }, url);
  const measure = (round) =>
    page.evaluate(
      async ([prompt, tokens]) => {
        const options = { max_tokens: tokens, temperature: 0, ignore_eos: true, cache_prompt: false };
        const { timings } = await wllama.createCompletion({ prompt, ...options });
        return { first: timings.prompt_ms, speed: timings.predicted_per_second };
      },
      [text(prompt, round), tokens],
    );
  return { name: "Chromium, wllama", measure, close: () => page.close() };
}

/** And of a native build. */
function natively({ path, prompt, tokens }, kernels) {
  const report = join(scratch, "native.json");
  const flags = ["--model", path, "--threads", "1", "--kernels", kernels, "--greedy", "--no-lookup", "--json", report];
  const measure = async (round) => {
    const more = ["--max-tokens", String(tokens), "--ignore-end", "--prompt", text(prompt, round)];
    execFileSync(native, [...flags, ...more], { stdio: ["ignore", "ignore", "pipe"] });
    const told = JSON.parse(readFileSync(report, "utf8"));
    return { first: 1000 * told.prefill_seconds, speed: told.decode_tokens_per_second };
  };
  return { name: `native, ${kernels}`, measure, close() {} };
}

/** A token for each letter, and one that begins the sequence. */
function text(prompt, round) {
  return String.fromCharCode(97 + round).repeat(prompt - 1);
}

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

for (const model of models) {
  const sides = [];
  for (const kernels of ["portable", "simd128", "relaxed-simd"]) sides.push(await ours(model, kernels));
  if (model.isLarge) sides.push(await ours(model, "relaxed-simd", true));
  if (model.isLarge && existsSync(peer)) sides.push(await theirs(model));
  for (const kernels of native ? ["portable", "avx2", "avx512-vnni"] : []) sides.push(natively(model, kernels));
  const found = new Map(sides.map((side) => [side, []]));
  for (let round = 0; round < rounds; round++) {
    for (const side of [...sides]) {
      try {
        found.get(side).push(await side.measure(round));
      } catch (error) {
        console.log(`${model.name.padEnd(8)} ${side.name}: ${String(error.stderr ?? error).trim().split("\n").at(-1)}`);
        sides.splice(sides.indexOf(side), 1);
      }
    }
  }
  for (const side of sides) {
    const [speed, first] = ["speed", "first"].map((what) => found.get(side).map((one) => one[what]));
    const spread = `${Math.min(...speed).toFixed(1)} to ${Math.max(...speed).toFixed(1)}`;
    console.log(
      `${model.name.padEnd(8)} ${side.name.padEnd(32)} ${median(speed).toFixed(1).padStart(8)} tokens/s (${spread})   ` +
        `first after ${median(first).toFixed(0).padStart(6)} ms`,
    );
    await side.close();
  }
}
rmSync(large);
await browser.close();
server.close();
process.exit();
