// What the scripts for Node share: the addresses of the three servers that run.sh starts, and what they say of themselves.
import assert from 'node:assert/strict';

export const { BASE_URL: base, GUARDED_URL: guarded, TOOLS_URL: tools } = process.env;
export const key = 'the-key'; // of the guarded one
export const prompt = 'Tell me of the bird that flew over the sea.';
export const schema = {
  type: 'object',
  properties: { mood: { type: 'string', enum: ['glad', 'sad', 'afraid'] }, wings: { type: 'integer', enum: [0, 1, 2] }, flies: { type: 'boolean' } },
  required: ['mood', 'wings', 'flies'],
  additionalProperties: false,
};
export const model = (await (await fetch(`${base}/v1/models`)).json()).data[0].id;

export function assertFitsSchema(value) {
  assert.deepEqual(Object.keys(value).sort(), ['flies', 'mood', 'wings']);
  assert(schema.properties.mood.enum.includes(value.mood) && schema.properties.wings.enum.includes(value.wings) && typeof value.flies === 'boolean');
}

/** The sum of a metric over its labels; one that is not there is an error, so that a changed name is noticed. */
export async function metric(name) {
  const text = await (await fetch(`${base}/metrics`)).text();
  const values = [...text.matchAll(new RegExp(`^sterna_${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].map(match => Number(match[1]));
  assert(values.length, `no metric sterna_${name}`);
  return values.reduce((sum, value) => sum + value, 0);
}
export const atRest = async () => await metric('num_requests_running') === 0 && await metric('num_requests_waiting') === 0;

/** Asks until it holds. Each question is a request to the server, which paces the loop. */
export async function waitFor(what, holds) {
  const end = performance.now() + 10_000;
  while (!await holds()) assert(performance.now() < end, `after 10 s still not: ${what}`);
}

/** Does something that is broken off midway, and demands that the server stops its work. */
export async function cancels(start) {
  await waitFor('at rest before', atRest);
  const before = await metric('requests_cancelled_total');
  await start();
  await waitFor('one more cancelled, none running', async () => await metric('requests_cancelled_total') === before + 1 && await atRest());
}
