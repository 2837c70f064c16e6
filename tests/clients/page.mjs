// Drives the chat page in headless Chromium, as a person would: with keys, a mouse, in the dark and on a phone. Pictures of it lie
// in target/clients/page afterwards, to be looked at.
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import test, { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { atRest, base, guarded, key, metric, model, waitFor } from './common.mjs';

const pictures = dirname(fileURLToPath(import.meta.url));
const DESK = { viewport: { width: 1280, height: 860 } }, PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };
// What a model might write, all of it text but for what Markdown means.
const WRITTEN = ['# A heading', '', 'Some **bold**, *slanted*, `code`, 5 * 3 * 2, snake_case_name, [the docs](https://example.com/docs) and [a trap](javascript:alert(1)).', '',
  '1. **First** with <img src=x onerror=alert(1)>', '   - nested', '2. Second', '', '```rust', 'fn main() {', `    println!("${'a long line '.repeat(12)}");`, '}', '```', '',
  '| Model | Size |', '|---|---:|', '| tales | 2 MB |', '', '> said by someone', '', '<script>alert(1)</script> & <b>not bold</b>', '', 'w'.repeat(300)].join('\n');
let browser;
before(async () => {
  // Chromium's sandbox cannot be had by root, as whom continuous integration runs.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] });
});
after(() => browser?.close());

/** A test on a fresh page, which fails too where the page asks anybody but its server, or has other complaints than those expected. */
function onPage(claim, options, body, { url = base, expected = [] } = {}) {
  test(claim, async () => {
    const context = await browser.newContext({ permissions: ['clipboard-read', 'clipboard-write'], ...options }), page = await context.newPage(), complaints = [], strangers = [];
    page.on('console', message => { if (['error', 'warning'].includes(message.type())) complaints.push(message.text()); });
    page.on('pageerror', error => complaints.push(error.stack));
    page.on('request', request => { if (!request.url().startsWith(url) && !request.url().startsWith('data:')) strangers.push(request.url()); });
    page.setDefaultTimeout(20_000);
    try {
      await page.goto(url);
      await body(page, picture => page.screenshot({ path: join(pictures, `${picture}.png`) }));
      assert.equal(complaints.length, expected.length, complaints.join('\n'));
      complaints.forEach((complaint, at) => assert.match(complaint, expected[at]));
      assert.deepEqual(strangers, []);
    } finally { await context.close(); }
  });
}
const ready = page => page.waitForFunction(id => document.querySelector('#server').textContent === id, model);
const idle = page => page.waitForFunction(() => document.querySelector('#send').textContent === 'Send');
const answers = page => page.locator('article.assistant .said');
async function say(page, text) {
  await page.getByLabel('Message').fill(text);
  await page.keyboard.press('Enter');
}
async function set(page, fields) {
  await page.getByRole('button', { name: 'Settings' }).click();
  for (const [label, value] of Object.entries(fields)) await page.getByLabel(label, { exact: true }).fill(value);
  await page.keyboard.press('Escape');
}
/** Has the page press something as soon as an answer has its first word: a person would be too late, with a model this small. */
const atFirstWord = (page, deed) => page.evaluate(deed => {
  const watch = new MutationObserver(() => {
    if (!document.querySelector('article.assistant:last-child .said')?.textContent) return;
    watch.disconnect();
    if (deed === 'click') document.querySelector('#send').click(); else document.querySelector('#input').dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }));
  });
  watch.observe(document.querySelector('#turns'), { childList: true, subtree: true, characterData: true });
}, deed);

onPage('an answer grows and tells its figures; a second turn is cached', DESK, async (page, picture) => {
  await ready(page);
  await picture('empty');
  await set(page, { Temperature: '0.7', Seed: '5', 'Max tokens': '900' });
  await page.evaluate(() => {
    window.lengths = new Set();
    new MutationObserver(() => lengths.add(document.querySelector('article.assistant .said')?.textContent.length)).observe(document.querySelector('#turns'), { childList: true, subtree: true, characterData: true });
  });
  await say(page, 'Tell me of the bird that flew over the sea.');
  await idle(page);
  assert((await page.evaluate(() => [...lengths].filter(Boolean).length)) >= 3, 'the answer came in fewer than three steps');
  assert.match(await page.locator('.figures').textContent(), /^\d+ tokens · [\d.]+ tokens\/s/);
  await say(page, 'And then?');
  await idle(page);
  assert.match(await page.locator('.figures').last().textContent(), /cached [1-9]/);
  assert.match(await page.locator('#room').textContent(), /^\d+ of \d+ tokens of context$/);
  await picture('conversation');
  const cut = await page.evaluate(() => turns.at(-1).content);
  await page.getByRole('button', { name: 'Continue' }).click();
  await idle(page);
  assert((await page.evaluate(() => turns.at(-1).content)).startsWith(cut) && await page.evaluate(() => turns.at(-1).content.length) > cut.length);
  const said = await answers(page).last().innerText();
  await page.reload();
  assert.equal(await answers(page).last().innerText(), said);
  await page.getByRole('button', { name: 'Regenerate' }).click();
  await idle(page);
  assert.equal(await page.evaluate(() => turns.at(-1).content), cut, 'the same seed gives the same answer');
  await page.locator('article.assistant').last().getByRole('button', { name: 'Copy' }).click();
  await page.getByText('Copied').waitFor();
  assert.equal((await page.evaluate(() => navigator.clipboard.readText())).trim(), (await page.evaluate(() => turns.at(-1).content)).trim());
  await page.getByRole('button', { name: 'New chat' }).click();
  assert.equal(await page.locator('article').count(), 0);
  assert(await page.locator('#welcome').isVisible());
});

for (const deed of ['click', 'Escape']) onPage(`an answer is stopped midway, and the server stops too (${deed})`, DESK, async page => {
  await ready(page);
  await waitFor('at rest', atRest);
  const cancelled = await metric('requests_cancelled_total');
  await set(page, { Temperature: '1', 'Max tokens': '3500' });
  await page.evaluate(() => { const plain = requestOf; window.requestOf = (...all) => ({ ...plain(...all), ignore_eos: true }); });
  await atFirstWord(page, deed);
  await say(page, 'Tell me everything.');
  await idle(page);
  assert.equal(await page.locator('.note').last().textContent(), 'Stopped.');
  assert((await answers(page).last().innerText()).length > 0);
  await waitFor('one more cancelled, none running', async () => await metric('requests_cancelled_total') === cancelled + 1 && await atRest());
  await page.getByRole('button', { name: 'Continue' }).waitFor();
});

onPage('everything can be done with keys, and it is seen where they go', DESK, async (page, picture) => {
  await ready(page);
  await page.keyboard.type('A line,');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('and another.');
  assert.equal(await page.getByLabel('Message').inputValue(), 'A line,\nand another.');
  await page.keyboard.press('Enter');
  await idle(page);
  assert.equal(await answers(page).count(), 1);
  const reached = new Set();
  for (let presses = 0; presses < 40; presses++) {
    await page.keyboard.press('Tab');
    const [name, seen] = await page.evaluate(() => {
      const element = document.activeElement, style = getComputedStyle(element), composer = getComputedStyle(document.querySelector('#composer'));
      return [element.ariaLabel ?? element.textContent.trim(), style.outlineStyle !== 'none' || element.id === 'input' && composer.boxShadow !== 'none' || element === document.body];
    });
    assert(seen, `focus on "${name}" is not seen`);
    if (name === 'Settings' && !reached.has(name)) {
      await page.keyboard.press('Enter');
      await page.keyboard.type('You are a bird.');
      await picture('settings');
      await page.keyboard.press('Escape');
      assert.equal(await page.evaluate(() => document.activeElement.id), 'open');
    }
    reached.add(name);
  }
  for (const name of ['New chat', 'Settings', 'Switch to dark colours', 'Copy', 'Edit', 'Regenerate', 'Message']) assert(reached.has(name), `"${name}" is not reached: ${[...reached]}`);
  assert.equal(await page.evaluate(() => requestOf(turns.at(-1)).messages[0].content), 'You are a bird.');
});

onPage('what a model writes becomes text and plain elements, nothing that runs', DESK, async (page, picture) => {
  await ready(page);
  await page.evaluate(text => {
    turns.push({ role: 'user', content: text.slice(0, 60) }, { role: 'assistant', content: text, reasoning: text, seconds: 3.2, figures: '42 tokens' });
    paintAll();
  }, WRITTEN);
  const said = answers(page).last();
  assert.equal(await said.locator('img, script, b, iframe, style').count(), 0);
  assert.equal(await said.locator('[onerror], [onclick]').count(), 0);
  assert.deepEqual(await said.locator('a').evaluateAll(all => all.map(one => [one.href, one.rel])), [['https://example.com/docs', 'noopener noreferrer nofollow']]);
  for (const [selector, text] of [['h2', 'A heading'], ['p strong', 'bold'], ['em', 'slanted'], ['p code', 'code'], ['ol > li > strong', 'First'], ['ol ul li', 'nested'], ['th >> nth=1', 'Size'], ['blockquote', 'said by someone']]) assert.equal(await said.locator(selector).textContent(), text);
  assert.match(await said.locator('pre').textContent(), /^fn main\(\) \{\n.*\n\}$/);
  assert.match(await said.innerText(), /<script>alert\(1\)<\/script> & <b>not bold<\/b>/);
  assert.match(await said.innerText(), /5 \* 3 \* 2, snake_case_name/);
  assert(!await page.locator('.thought div').isVisible(), 'reasoning is folded');
  await page.getByText('Thought for 3.2 s').click();
  assert(await page.locator('.thought div').isVisible());
  await picture('written');
  // However its marks are nested or left open, a text is shown at once.
  const slow = await page.evaluate(() => {
    const begun = performance.now();
    for (const piece of ['*', '**', '_', '`', '[', '[a](', '**a *b ', '> - ', '| a ', '~~', '\\', 'https://', '```\n', ' - x\n  ']) show(document.createElement('div'), piece.repeat(20000 / piece.length));
    return performance.now() - begun;
  });
  assert(slow < 2000, `${slow} ms`);
  await assert.rejects(page.evaluate(() => { document.body.innerHTML = '<p>'; }), /TrustedHTML/);
}, { expected: [/TrustedHTML/] });

onPage('colours follow the system and can be switched', { ...DESK, colorScheme: 'dark' }, async (page, picture) => {
  await ready(page);
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await paper(), 'rgb(22, 24, 27)');
  await page.evaluate(text => { turns.push({ role: 'user', content: 'Show me.' }, { role: 'assistant', content: text }); paintAll(); }, WRITTEN);
  await picture('dark');
  await page.getByRole('button', { name: 'Switch to light colours' }).click();
  assert.equal(await paper(), 'rgb(251, 251, 249)');
  await page.reload();
  assert.equal(await paper(), 'rgb(251, 251, 249)', 'the choice is kept');
});

onPage('a phone shows all of it without scrolling sideways', PHONE, async (page, picture) => {
  await ready(page);
  await picture('phone-empty');
  const fits = async () => assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector('main').scrollWidth <= innerWidth));
  await fits();
  await page.evaluate(text => { turns.push({ role: 'user', content: 'w'.repeat(90) }, { role: 'assistant', content: text, figures: '142 tokens · 93 tokens/s · prompt 1279, cached 1139' }); paintAll(); }, WRITTEN);
  await fits();
  await picture('phone-written');
  await page.getByRole('button', { name: 'Settings' }).tap();
  assert(await page.locator('#settings').evaluate(dialog => dialog.scrollWidth <= innerWidth));
  await picture('phone-settings');
  for (const target of await page.locator('button:visible, input:visible, select:visible').all()) assert((await target.boundingBox()).height >= 30);
});

onPage('a bad setting and a prompt that is too long are told in words, and nothing said is lost', DESK, async (page, picture) => {
  await ready(page);
  await set(page, { Temperature: '-1' });
  await say(page, 'Hello.');
  await page.getByText('Temperature: ').waitFor();
  assert.equal(await page.getByLabel('Message').inputValue(), 'Hello.');
  await page.keyboard.press('Escape');
  await set(page, { Temperature: '' });
  const long = 'sea '.repeat(20000).trim();
  await say(page, long);
  await page.getByText('maximum context length').waitFor();
  assert.equal(await page.getByLabel('Message').inputValue(), long);
  assert.equal(await page.locator('article').count(), 0);
  await picture('too-long');
}, { expected: [/status of 400/] });

onPage('a server with a key is told it, and it is forgotten with the tab', DESK, async page => {
  await page.getByText('This server wants an API key').waitFor();
  await say(page, 'Hello.');
  await page.locator('#settings[open]').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'key');
  await page.keyboard.type(key);
  await page.keyboard.press('Enter');
  await ready(page);
  await page.keyboard.press('Enter');
  await page.locator('.figures').waitFor();
  assert.equal(await page.evaluate(key => Object.values(localStorage).join().includes(key), key), false);
}, { url: guarded, expected: [/status of 401/, /status of 401/, /status of 401/] });
