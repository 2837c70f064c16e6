// Tokens a second and the time to the first token, in headless Chromium by each kernel set, of the shipped model and of a synthetic one
// of 0.7B parameters: `node web/test/figures.mjs [NATIVE]`, with the example `generate` of a release build to stand beside, on one thread.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { serve } from "./server.mjs";
import { writeModel } from "./synthetic.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");
const { chromium } = createRequire(join(root, "target/web/"))("playwright-core");
const scratch = join(root, "target/web/scratch");
const native = process.argv[2];

mkdirSync(scratch, { recursive: true });
const large = join(scratch, "0.7b.gguf");
writeModel(large, { layers: 24, width: 1536, ffnWidth: 4096, heads: 16, vocabulary: 32002 });
const models = [
  ["shipped", join(root, "models/tales-4m-i2_s.gguf"), "tales-4m-i2_s.gguf", 128, 200],
  ["0.7B", large, "0.7b.gguf", 32, 16],
];
const server = await serve([join(root, "target/web/dist"), scratch, here]);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

const show = (model, where, speed, first) =>
  console.log(`${model.padEnd(8)} ${where.padEnd(24)} ${speed.toFixed(1).padStart(8)} tokens/s   first after ${first.toFixed(0).padStart(6)} ms`);

for (const [name, path, url, prompt, tokens] of models) {
  const ids = Array.from({ length: prompt }, (_, i) => 40 + (i % 60));
  for (const kernels of ["portable", "simd128", "relaxed-simd"]) {
    const page = await browser.newPage();
    await page.goto(`${server.address}/blank.html`);
    const made = await page.evaluate(
      async ([url, kernels, ids, tokens]) => {
        const { load } = await import("./sterna.js");
        const model = await load(url, { device: "cpu", kernels, context: 512 });
        // The first run warms the compiler of the engine up.
        for await (const _ of model.generate(ids.slice(0, 4), { temperature: 0, maxTokens: 4, ignoreEnd: true }));
        const begin = performance.now();
        let [first, last, count] = [0, 0, 0];
        for await (const piece of model.generate(ids, { temperature: 0, maxTokens: tokens, ignoreEnd: true })) {
          last = performance.now() - begin;
          first ||= last;
          count = piece.usage.made;
        }
        model.close();
        return { first, speed: (1000 * (count - 1)) / (last - first) };
      },
      [url, kernels, ids, tokens],
    );
    show(name, `Chromium, ${kernels}`, made.speed, made.first);
    await page.close();
  }
  for (const kernels of native ? ["portable", "avx2", "avx512-vnni"] : []) {
    const report = join(scratch, "native.json");
    const flags = ["--model", path, "--threads", "1", "--kernels", kernels, "--greedy", "--no-lookup", "--json", report];
    const text = "a".repeat(prompt - 1); // a token each, and one that begins the sequence
    try {
      execFileSync(native, [...flags, "--max-tokens", String(tokens), "--ignore-end", "--prompt", text], { stdio: ["ignore", "ignore", "pipe"] });
      const told = JSON.parse(readFileSync(report, "utf8"));
      show(name, `native, ${kernels}`, told.decode_tokens_per_second, 1000 * told.prefill_seconds);
    } catch (error) {
      console.log(`${name.padEnd(8)} native, ${kernels}: ${String(error.stderr ?? error).trim().split("\n").at(-1)}`);
    }
  }
}
rmSync(large);
await browser.close();
server.close();
process.exit();
