// The AI SDK of Vercel with its provider for servers that speak OpenAI's interface.
import assert from 'node:assert/strict';
import test from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, generateObject, generateText, jsonSchema, streamText, tool } from 'ai';
import { assertFitsSchema, base, cancels, guarded, model as id, prompt, schema, tools } from './common.mjs';

const at = (url, apiKey = 'unused') => createOpenAICompatible({ name: 'sterna', baseURL: `${url}/v1`, apiKey, includeUsage: true, supportsStructuredOutputs: true })(id);
const greedy = { model: at(base), prompt, temperature: 0, seed: 7, maxOutputTokens: 40, maxRetries: 0 };
const long = { ...greedy, maxOutputTokens: 3500, providerOptions: { sterna: { ignore_eos: true } } };

test('streamed and whole are the same text, and usage adds up', async () => {
  const whole = await generateText(greedy);
  assert(whole.text.trim());
  const stream = streamText(greedy);
  let text = '';
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, whole.text);
  assert.equal(await stream.finishReason, whole.finishReason);
  const { inputTokens, outputTokens } = await stream.usage;
  assert(inputTokens > 0 && outputTokens > 0);
  assert.deepEqual([whole.usage.inputTokens, whole.usage.outputTokens], [inputTokens, outputTokens]);
});

test('an object of a schema fits it', async () => {
  assertFitsSchema((await generateObject({ ...greedy, maxOutputTokens: 100, schema: jsonSchema(schema) })).object);
});

test('a tool that is demanded is called', async () => {
  const look_at_bird = tool({ description: 'Looks at a bird.', inputSchema: jsonSchema(schema) });
  const asked = { ...greedy, model: at(tools), maxOutputTokens: 200, tools: { look_at_bird }, toolChoice: 'required' };
  const [call] = (await generateText(asked)).toolCalls;
  assert.equal(call.toolName, 'look_at_bird');
  assertFitsSchema(call.input);
  const [streamed] = await streamText(asked).toolCalls;
  assert.deepEqual(streamed.input, call.input);
});

test('errors carry their status and the words of the server', async () => {
  const status = code => error => APICallError.isInstance(error) && error.statusCode === code && JSON.parse(error.responseBody).error.message === error.message;
  await assert.rejects(generateText({ ...greedy, model: at(guarded, 'wrong') }), status(401));
  await assert.rejects(generateText({ ...greedy, temperature: -1 }), status(400));
  await assert.rejects(generateText({ ...greedy, prompt: 'sea '.repeat(20000) }), status(400));
});

test('a stream that is aborted ends its work', () => cancels(async () => {
  const stop = new AbortController();
  const stream = streamText({ ...long, abortSignal: stop.signal, onError() {} });
  for await (const piece of stream.textStream) if (piece) { stop.abort(); break; }
}));
