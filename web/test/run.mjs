// The page and the JavaScript face in a real browser: headless Chromium with its software WebGPU, driven by Playwright's core.
// `web/test/run` installs that and says where things are. A test's name is a claim; what fails ends with its message and status 1.

import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import * as downloads from "./downloads.mjs";
import * as face from "./face.mjs";
import * as page from "./page.mjs";
import { serve } from "./server.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");
const { chromium } = createRequire(join(root, "target/web/"))("playwright-core"); // where `web/test/run` installs it
const dist = join(root, "target/web/dist");
const verbs = join(root, "target/web/verbs");
const scratch = join(root, "target/web/scratch");
const wanted = process.argv.slice(2);

mkdirSync(scratch, { recursive: true });
const server = await serve([dist, scratch, verbs, join(root, "tests/data"), here]);
const elsewhere = await serve([scratch], { isOpen: true }); // another origin, whose files any page may have
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--enable-unsafe-webgpu"],
});

/** An empty page with the face, or another, in a browser profile of its own. */
async function fresh(path = "blank.html", options = {}) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 760 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("console", (message) => message.type() === "error" && console.log(`    the page says: ${message.text()}`));
  await page.goto(`${server.address}/${path}`);
  return { page, context };
}

/** Loads a model, generates, and gives what came of it, with times in milliseconds. */
function generated(page, source, options, prompt, request) {
  return page.evaluate(
    async ([source, options, prompt, request]) => {
      const { load } = await import("./sterna.js");
      const model = await load(source, options);
      const begin = performance.now();
      const made = { info: model.info, ids: [], text: "", finish: null, first: 0, last: 0 };
      for await (const piece of model.generate(prompt, request)) {
        made.first ||= performance.now() - begin;
        made.last = performance.now() - begin;
        if (piece.id !== null) made.ids.push(piece.id);
        made.text += piece.text;
        made.finish = piece.finish;
      }
      made.memory = await model.memory();
      model.close();
      return made;
    },
    [source, options, prompt, request],
  );
}

const tools = { fresh, generated, server, elsewhere, root, scratch };
const tests = { ...face.tests(tools), ...downloads.tests(tools), ...page.tests(tools) };
let failures = 0;
for (const [name, test] of Object.entries(tests)) {
  if (wanted.length > 0 && !wanted.some((part) => name.includes(part))) continue;
  const begin = performance.now();
  try {
    await test();
    console.log(`ok    ${name} (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL  ${name}\n${error.stack}`);
  }
}
await browser.close();
server.close();
elsewhere.close();
process.exit(failures > 0 ? 1 : 0);
