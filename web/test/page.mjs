// The page: a model in the tab, by keyboard, on a phone, in the dark, without a network, and beside a server.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

import { serve } from "./server.mjs";
import { withKey } from "./synthetic.mjs";

const LOOKS = {
  desk: { viewport: { width: 1000, height: 760 } },
  phone: { viewport: { width: 360, height: 740 } },
  dark: { viewport: { width: 1000, height: 760 }, colorScheme: "dark" },
};
const TEMPLATE = "{% for message in messages %}{{ message.content }}{% if not loop.last %} {% endif %}{% endfor %}";

export function tests({ fresh, root, scratch, server }) {
  const shipped = join(root, "models/tales-4m-i2_s.gguf");
  const dist = join(root, "target/web/dist");
  const installed = (page) => page.evaluate(async () => { await navigator.serviceWorker.ready; });
  /** What the page keeps, by the names of its caches. */
  const kept = (page) =>
    page.evaluate(async () => {
      const urls = async (name) => (await (await caches.open(name)).keys()).map(({ url }) => url);
      return Promise.all((await caches.keys()).map(async (name) => [name, await urls(name)]));
    });
  const picture = (page, name) => page.screenshot({ path: join(scratch, `${name}.png`) });
  const set = async (page, fields) => {
    await page.getByRole("button", { name: "Settings" }).click();
    for (const [id, value] of Object.entries(fields)) await page.locator(`#${id}`).fill(value);
    await page.keyboard.press("Escape");
  };
  const state = (page, text) => page.waitForFunction((text) => document.querySelector(".tab .state")?.textContent.includes(text), text);
  const ready = (page) => state(page, "in this tab");
  const figures = (page) => page.locator(".figures").last();

  return {
    async "the page takes the shipped model by keyboard, tells a story and stops"() {
      for (const [name, options] of Object.entries(LOOKS)) {
        const { page, context } = await fresh("index.html", options);
        await state(page, "No model is loaded");
        await picture(page, `${name}-empty`);
        await page.keyboard.press("Enter"); // what is reached first takes the shipped model
        await ready(page);
        assert.match(await page.locator(".tab .state").textContent(), /tales-4m in this tab: bitnet-b1\.58, 4 layers.*cpu/);
        assert.equal(await page.evaluate(() => document.activeElement.id), "input");
        assert.equal(await page.locator("#input").inputValue(), "Once upon a time");
        await set(page, { temperature: "0", max_tokens: "120" });
        await page.locator("#input").focus();
        await page.keyboard.press("Enter");
        await figures(page).waitFor();
        assert.match(await page.locator("article.assistant .said").textContent(), /^, the Pequod's public/);
        assert.match(await figures(page).textContent(), /^120 tokens · [\d.]+ tokens\/s · first after \d+ ms/);
        await picture(page, `${name}-story`);
        await set(page, { max_tokens: "300" });
        // Pressed by the page as soon as there is more of the text: a person would be too late, with a model this small.
        await page.evaluate(() => {
          const escape = () => document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
          new MutationObserver((_, watch) => (watch.disconnect(), escape())).observe(document.querySelector("article.assistant .said"), { childList: true, subtree: true });
        });
        await page.getByRole("button", { name: "Continue" }).click();
        await page.locator(".note", { hasText: "Stopped." }).waitFor();
        await page.getByRole("button", { name: "Settings" }).click();
        await page.getByText("What loading decided").click();
        await picture(page, `${name}-settings`);
        const isWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        assert.ok(!isWide, `${name}: the page is wider than the screen`);
        await context.close();
      }
    },

    async "a model with a chat template talks on the page, turn by turn, and what fails leaves no turn"() {
      writeFileSync(join(scratch, "chat.gguf"), withKey(readFileSync(shipped), "tokenizer.chat_template", TEMPLATE, "{# #}"));
      const { page, context } = await fresh("index.html");
      await page.locator("input[type=file]").setInputFiles(join(scratch, "chat.gguf"));
      await ready(page);
      assert.equal(await page.locator("#input").getAttribute("placeholder"), "Message");
      await set(page, { temperature: "0", max_tokens: "24" });
      const say = async (text) => {
        await page.locator("#input").fill(text);
        await page.keyboard.press("Enter");
      };
      await say("Once upon a time");
      await figures(page).waitFor();
      const first = await page.locator("article.assistant .said").textContent();
      await say("And then");
      await page.locator("article.assistant").nth(1).locator(".figures").waitFor();
      assert.match(await figures(page).textContent(), /prompt \d+, cached [1-9]/);
      await picture(page, "chat");
      await page.getByRole("button", { name: "Continue" }).click();
      await page.waitForFunction(() => !busy);
      assert.equal(await page.locator("article").count(), 4);
      assert.equal(await page.locator("article.assistant .said").first().textContent(), first);
      // More than fits: the text is in the composer again, and no turn is left of it.
      await say("sea ".repeat(3000).trim());
      await page.locator("#alarm").waitFor();
      assert.equal(await page.locator("article").count(), 4);
      assert.match(await page.locator("#input").inputValue(), /^sea sea/);
      await context.close();
    },

    async "a file that is dropped is loaded, and a wrong one is told"() {
      const { page, context } = await fresh("index.html");
      await page.locator("input[type=file]").setInputFiles(join(root, "README.md"));
      await page.locator("#alarm", { hasText: "malformed" }).waitFor();
      const transfer = await page.evaluateHandle(async () => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([await (await fetch("tales-4m-i2_s.gguf")).arrayBuffer()], "dropped.gguf"));
        return transfer;
      });
      await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
      await ready(page);
      assert.ok(!(await page.locator("#alarm").isVisible()));
      // A text that is dragged is none of the page's business.
      const taken = await page.evaluate(() => {
        const of = (kind, fill) => {
          const dataTransfer = new DataTransfer();
          fill(dataTransfer);
          return !document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer }));
        };
        const kinds = ["dragenter", "dragover", "drop"];
        const file = new File(["no model"], "a.gguf");
        return [kinds.map((kind) => of(kind, (data) => data.setData("text/plain", "text"))), kinds.map((kind) => of(kind, (data) => data.items.add(file)))];
      });
      assert.deepEqual(taken, [[false, false, false], [true, true, true]]);
      await context.close();
    },

    async "downloaded models are forgotten by keyboard"() {
      const { page, context } = await fresh("index.html");
      const files = () =>
        page.evaluate(async () => Array.fromAsync((await (await navigator.storage.getDirectory()).getDirectoryHandle("sterna-models")).keys()));
      const first = page.locator(".tab button").first();
      await first.press("Enter");
      await ready(page);
      assert.equal((await files()).length, 2, "the model and its note");
      await first.focus();
      const focused = () => page.evaluate(() => document.activeElement.textContent);
      for (let presses = 0; presses < 10 && (await focused()) !== "Forget downloaded models"; presses += 1) await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      await page.locator(".tab", { hasText: "No downloaded model is kept" }).waitFor();
      assert.equal((await files()).length, 0);
      assert.match(await page.locator(".tab .state").textContent(), /in this tab/, "what is loaded stays");
      await picture(page, "forgotten");
      await context.close();
    },

    async "the page and the shipped model work without a network once they are installed"() {
      const own = await serve([dist]);
      const { page, context } = await fresh();
      await page.goto(`${own.address}/index.html`);
      await installed(page);
      own.close();
      await assert.rejects(fetch(own.address));
      await page.reload();
      await page.locator(".tab button").first().click();
      await ready(page);
      await set(page, { max_tokens: "8" });
      await page.locator("#send").click();
      await figures(page).waitFor();
      await context.close();
    },

    async "the page that works without a network keeps all files of the package"() {
      const files = readdirSync(dist, { recursive: true }).filter((file) => statSync(join(dist, file)).isFile());
      const { page, context } = await fresh("index.html");
      await installed(page);
      const [[, urls], ...others] = await kept(page);
      assert.deepEqual(others, []);
      const needed = files.map((file) => relative(".", file)).filter((file) => !/\.d\.ts$|^service-worker\.js$/.test(file));
      const version = createHash("sha256").update(readFileSync(shipped)).digest("hex").slice(0, 16);
      const address = (file) => `${server.address}/${file}`.replace(/index\.html$/, "").replace(/\.gguf$/, `$&?${version}`);
      assert.deepEqual(urls.sort(), needed.map(address).sort());
      await context.close();
    },

    async "a new package takes the place of the one that was kept, as a whole, and of no other"() {
      const folder = join(scratch, "package");
      rmSync(folder, { recursive: true, force: true });
      cpSync(dist, folder, { recursive: true });
      const change = (file, edit) => writeFileSync(join(folder, file), edit(readFileSync(join(folder, file), "utf8")));
      const own = await serve([folder]);
      own.state.headers["cache-control"] = "max-age=3600";
      const { page, context } = await fresh();
      await page.goto(`${own.address}/index.html`);
      await installed(page);
      const [[before]] = await kept(page);
      const others = ["somebody else's", "sterna-page http://localhost/beside/ 1"];
      await page.evaluate((names) => Promise.all(names.map((name) => caches.open(name))), others);
      const text = (name) => page.evaluate(async (name) => (await (await caches.open(name)).match("tab.js")).text(), name);
      // What is fetched meanwhile is not mixed with what is kept.
      change("tab.js", (text) => `${text}// another`);
      await page.evaluate(async () => (await fetch("tab.js", { cache: "reload" })).text());
      assert.ok(!(await text(before)).endsWith("// another"));
      change("tab.js", (text) => `${text} package`);
      change("service-worker.js", (text) => text.replace(/const PACKAGE = "\w+"/, 'const PACKAGE = "another"'));
      await page.evaluate(async () => (await navigator.serviceWorker.getRegistration()).update());
      const after = `sterna-page ${own.address}/ another`;
      const names = async () => (await kept(page)).map(([name]) => name).sort();
      const end = Date.now() + 60_000;
      while ((await names()).includes(before)) assert.ok(Date.now() < end, "the package that was kept is still there");
      assert.deepEqual(await names(), [...others, after].sort());
      assert.ok((await text(after)).endsWith("// another package"), "of the server, not of the browser's cache");
      await context.close();
      own.close();
    },

    async "a page that cannot be kept says so, and one without its engine has the server's"() {
      const folder = join(scratch, "part");
      rmSync(folder, { recursive: true, force: true });
      cpSync(dist, folder, { recursive: true });
      rmSync(join(folder, "service-worker.js"));
      const own = await serve([folder]);
      const { page, context } = await fresh();
      const warned = page.waitForEvent("console", (message) => message.type() === "warning" && /Without a network/.test(message.text()));
      await page.goto(`${own.address}/index.html`);
      await warned;
      rmSync(join(folder, "tab.js"));
      const json = (body) => ({ contentType: "application/json", body: JSON.stringify(body) });
      await page.route("**/health", (route) => route.fulfill(json({ status: "ok" })));
      await page.route("**/v1/models", (route) => route.fulfill(json({ data: [{ id: "served" }] })));
      await page.route("**/props", (route) => route.fulfill(json({})));
      await page.reload();
      await page.locator("#server", { hasText: "served" }).waitFor();
      assert.match(await page.locator("#alarm").textContent(), /tab\.js|module/);
      await context.close();
      own.close();
    },

    async "where a server answers beside the page, people choose who does"() {
      const asked = [];
      const { page, context } = await fresh("blank.html");
      // What a server says, in the place of one.
      const json = (body) => ({ contentType: "application/json", body: JSON.stringify(body) });
      await page.route("**/health", (route) => route.fulfill(json({ status: "ok" })));
      await page.route("**/v1/models", (route) => route.fulfill(json({ data: [{ id: "served", max_model_len: 512 }] })));
      await page.route("**/props", (route) => route.fulfill(json({ default_generation_settings: { n_ctx: 512 } })));
      await page.route("**/v1/chat/completions", (route) => {
        asked.push(route.request().postDataJSON());
        const chunk = { choices: [{ delta: { content: "from the server" }, finish_reason: "stop" }], usage: { prompt_tokens: 3, completion_tokens: 3 } };
        return route.fulfill({ contentType: "text/event-stream", body: `data: ${JSON.stringify(chunk)}\n\ndata: [DONE]\n\n` });
      });
      await page.goto(`${server.address}/index.html`);
      await page.locator("#server", { hasText: "served" }).waitFor();
      assert.ok(!(await page.locator(".tab").isVisible()));
      await page.locator("#input").fill("Hello");
      await page.keyboard.press("Enter");
      await page.locator("article.assistant", { hasText: "from the server" }).waitFor();
      await page.getByRole("button", { name: "New chat" }).click();
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("Answers come from").selectOption("tab");
      await page.keyboard.press("Escape");
      await page.locator(".tab button").first().click();
      await ready(page);
      await set(page, { max_tokens: "8" });
      await page.locator("#send").click();
      await figures(page).waitFor();
      assert.equal(asked.length, 1, "the second answer came from the tab");
      await page.reload();
      await state(page, "No model is loaded"); // the choice is kept
      assert.ok(await page.locator(".tab").isVisible(), "beside what was said");
      await context.close();
    },
  };
}
