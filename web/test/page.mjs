// The page: a model in the tab, by keyboard, on a phone, in the dark, without a network, and beside a server.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

import { withKey } from "./synthetic.mjs";

const LOOKS = {
  desk: { viewport: { width: 1000, height: 760 } },
  phone: { viewport: { width: 360, height: 740 } },
  dark: { viewport: { width: 1000, height: 760 }, colorScheme: "dark" },
};
const TEMPLATE = "{% for message in messages %}{{ message.content }}{% if not loop.last %} {% endif %}{% endfor %}";

export function tests({ fresh, root, scratch, server }) {
  const shipped = join(root, "models/tales-4m-i2_s.gguf");
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
      await context.close();
    },

    async "the page and the shipped model work without a network from the first visit on"() {
      const { page, context } = await fresh("index.html");
      await page.evaluate(() => navigator.serviceWorker.ready);
      await context.setOffline(true);
      await page.reload();
      await page.locator(".tab button").first().click();
      await ready(page);
      await set(page, { max_tokens: "8" });
      await page.locator("#send").click();
      await figures(page).waitFor();
      await context.close();
    },

    async "the page that works without a network keeps all files of the package"() {
      const dist = join(root, "target/web/dist");
      const files = readdirSync(dist, { recursive: true }).filter((file) => statSync(join(dist, file)).isFile());
      const { page, context } = await fresh("index.html");
      await page.evaluate(() => navigator.serviceWorker.ready);
      const kept = await page.evaluate(async () => (await (await caches.open("sterna-page")).keys()).map(({ url }) => url));
      const needed = files.map((file) => relative(".", file)).filter((file) => !/\.d\.ts$|^service-worker\.js$/.test(file));
      const expected = needed.map((file) => `${server.address}/${file}`.replace(/index\.html$/, ""));
      assert.deepEqual(kept.sort(), expected.sort());
      await context.close();
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
