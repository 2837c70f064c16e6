// The client `openai` from npm.
import assert from 'node:assert/strict';
import test from 'node:test';
import OpenAI from 'openai';
import { assertFitsSchema, base, cancels, guarded, key, metric, model, prompt, schema, tools, waitFor } from './common.mjs';

const at = (url, apiKey = 'unused') => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const client = at(base);
const messages = [{ role: 'user', content: prompt }];
const greedy = { model, messages, temperature: 0, seed: 7, max_tokens: 40 };
const long = { ...greedy, max_tokens: 3500, ignore_eos: true };
const tool = { type: 'function', function: { name: 'look_at_bird', parameters: schema } };

test('models are listed and found by name', async () => {
  assert((await client.models.list()).data.some(({ id }) => id === model));
  assert.equal((await client.models.retrieve(model)).id, model);
});

test('streamed and whole are the same text, and usage adds up', async () => {
  for (const sampling of [{ temperature: 0 }, { temperature: 0.8, top_p: 0.9 }]) {
    const whole = await client.chat.completions.create({ ...greedy, ...sampling });
    assert(whole.choices[0].message.content.trim());
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
    let text = '', usage, finish;
    for await (const chunk of await client.chat.completions.create({ ...greedy, ...sampling, stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  }
});

test('a second turn computes only what is new', async () => {
  const first = await client.chat.completions.create(greedy);
  const turns = [...messages, first.choices[0].message, { role: 'user', content: 'And then?' }];
  const second = await client.chat.completions.create({ ...greedy, messages: turns });
  assert(second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens);
});

test('completions continue a text', async () => {
  const asked = { model, prompt: 'Once upon a time', temperature: 0, max_tokens: 20 };
  const whole = (await client.completions.create(asked)).choices[0].text;
  let text = '';
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) text += chunk.choices[0]?.text ?? '';
  assert(whole);
  assert.equal(text, whole);
});

test('an answer of a schema fits it', async () => {
  const response_format = { type: 'json_schema', json_schema: { name: 'bird', strict: true, schema } };
  for (let seed = 0; seed < 5; seed++) {
    const answer = await client.chat.completions.create({ ...greedy, temperature: 1, seed, max_tokens: 100, response_format });
    assertFitsSchema(JSON.parse(answer.choices[0].message.content));
  }
});

test('a template without tools refuses them', async () => {
  await assert.rejects(client.chat.completions.create({ ...greedy, tools: [tool] }), error => error instanceof OpenAI.BadRequestError && /tools/.test(error.message));
});

test("the client's own loop runs a tool that is called", async () => {
  let seen;
  const runner = at(tools).chat.completions.runTools({
    ...greedy, max_tokens: 200, tool_choice: { type: 'function', function: { name: 'look_at_bird' } },
    tools: [{ type: 'function', function: { ...tool.function, parse: JSON.parse, function: bird => { seen = bird; return 'It flies.'; } } }],
  });
  await runner.done();
  assertFitsSchema(seen);
});

test('a streamed call is a whole call', async () => {
  const asked = { ...greedy, max_tokens: 200, tools: [tool], tool_choice: 'required' };
  const answer = await at(tools).chat.completions.stream(asked).finalChatCompletion();
  assert.equal(answer.choices[0].finish_reason, 'tool_calls');
  assertFitsSchema(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments));
});

test('errors are of their classes', async () => {
  await assert.rejects(at(guarded, 'wrong').models.list(), OpenAI.AuthenticationError);
  await assert.rejects(client.chat.completions.create({ ...greedy, model: 'gpt-4o' }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...greedy, temperature: -1 }), error => error instanceof OpenAI.BadRequestError && error.param === 'temperature');
  await assert.rejects(client.chat.completions.create({ ...greedy, stream: true, temperature: -1 }), OpenAI.BadRequestError);
  await assert.rejects(client.embeddings.create({ model, input: 'a bird' }), OpenAI.BadRequestError);
});

test('a full queue is a rate limit, and the others are served', async () => {
  const many = await Promise.allSettled(Array.from({ length: 24 }, () => at(guarded, key).chat.completions.create(long)));
  const refused = many.filter(({ status }) => status === 'rejected');
  assert(refused.length > 0 && refused.length < many.length);
  for (const { reason } of refused) assert(reason instanceof OpenAI.RateLimitError && Number(reason.headers.get('retry-after')) >= 1, String(reason));
});

test('a stream that is broken off ends its work', () => cancels(async () => {
  for await (const chunk of await client.chat.completions.create({ ...long, stream: true })) if (chunk) break;
}));

test('a call that is aborted ends its work', () => cancels(async () => {
  const stop = new AbortController();
  const call = client.chat.completions.create(long, { signal: stop.signal });
  call.catch(() => {});
  await waitFor('it runs', async () => await metric('num_requests_running') > 0);
  stop.abort();
  await assert.rejects(call, OpenAI.APIUserAbortError);
}));
