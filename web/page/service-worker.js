// Keeps the page, the modules and the shipped model, so that they are there without a network. What the server has is taken where it
// can be reached, so that a new version is seen at once.

const CACHE = "sterna-page";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const isOurs = new URL(request.url).origin === self.location.origin;
  if (request.method === "GET" && isOurs && !request.headers.has("range")) event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    // Models have a place of their own.
    if (response.ok && !request.url.endsWith(".gguf")) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
}
