// Keeps the page, the modules and the shipped model, so that they are there without a network once it is installed. What the server
// has is taken where it can be reached, so that a new version is seen at once. What is kept is one package, as it was when this file was
// installed: a new package comes with a new file, as `web/build` writes its hash here.

const PACKAGE = "0";
const OURS = `sterna-page ${self.registration.scope} `; // beside it may lie another package of the same origin
const CACHE = OURS + PACKAGE;
const FILES = [
  "./", "tab.js", "sterna.js", "worker.js", "storage.js", "tales-4m-i2_s.gguf",
  "simd128/sterna_web.js", "simd128/sterna_web_bg.wasm", "relaxed/sterna_web.js", "relaxed/sterna_web_bg.wasm",
];

self.addEventListener("install", (event) => {
  // Asked of the server, as the browser's own cache may have those of another package.
  const keep = async () => (await caches.open(CACHE)).addAll(FILES.map((file) => new Request(file, { cache: "reload" })));
  event.waitUntil(keep().then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => {
  const begin = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith(OURS) && name !== CACHE);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(begin());
});

const ours = new Set(FILES.map((file) => new URL(file, self.location).href));
const address = (url) => url.replace(/index\.html$/, "");

self.addEventListener("fetch", (event) => {
  const { request } = event;
  // What a server beside the page answers is no file, and models have a place of their own.
  if (request.method === "GET" && ours.has(address(request.url)) && !request.headers.has("range")) event.respondWith(answer(request));
});

async function answer(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = await (await caches.open(CACHE)).match(address(request.url));
    if (kept) return kept;
    throw error;
  }
}
