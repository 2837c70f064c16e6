// Keeps the page, the modules and the shipped model, so that they are there without a network from the first visit on. What the server
// has is taken where it can be reached, so that a new version is seen at once.

const CACHE = "sterna-page";
const MODULE = ["sterna_web.js", "sterna_web_bg.wasm"];
const FILES = [
  "./", "tab.js", "sterna.js", "worker.js", "storage.js", "tales-4m-i2_s.gguf",
  ...["simd128", "relaxed"].flatMap((folder) => MODULE.map((name) => `${folder}/${name}`)),
];

self.addEventListener("install", (event) => {
  const keep = async () => (await caches.open(CACHE)).addAll(FILES);
  event.waitUntil(keep().then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

const ours = new Set(FILES.map((file) => new URL(file, self.location).href));
const address = (url) => url.replace(/index\.html$/, "");

self.addEventListener("fetch", (event) => {
  const { request } = event;
  // What a server beside the page answers is no file, and models have a place of their own.
  if (request.method === "GET" && ours.has(address(request.url)) && !request.headers.has("range")) event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(address(request.url), response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(address(request.url));
    if (kept) return kept;
    throw error;
  }
}
