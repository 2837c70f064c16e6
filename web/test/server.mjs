// A server of files with ranges and tags, as a model's server is, which can break a download off on purpose, and answer wrongly.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json", ".ts": "text/plain",
};

/**
 * Serves the folders, the first that has a file. `isOpen` lets pages of other origins have them, but shows those no tag and no range. Of
 * `state`, `breakAt` is how many bytes of a model's response pass before nothing more does, until a request for "/cut" cuts the connection (were
 * it cut at once, a slow browser would lose what it has not read yet), `shift` what a range is off by, `status` what the response of a
 * model says instead, `isChunked` whether none says its length, and `headers` what each has besides.
 */
export async function serve(folders, { isOpen = false } = {}) {
  const state = { breakAt: Infinity, shift: 0, status: null, isChunked: false, headers: {}, requests: [] };
  let cut = () => {};
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname)).replace(/\/$/, "/index.html");
    const { range } = request.headers;
    if (path === "/cut") {
      cut();
      return response.writeHead(204).end();
    }
    state.requests.push({ path, method: request.method, range: range ?? null });
    const found = folders.map((folder) => join(folder, path)).find((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
    if (!found || request.method !== "GET") return response.writeHead(404).end();
    const isModel = path.endsWith(".gguf");
    const { size, mtimeMs, mtime } = statSync(found);
    const headers = {
      "content-type": TYPES[extname(found)] ?? "application/octet-stream", "accept-ranges": "bytes",
      etag: `"${size}-${mtimeMs}"`, "last-modified": mtime.toUTCString(),
      ...(isOpen && { "access-control-allow-origin": "*" }), ...state.headers,
    };
    let first = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    if (first >= size && size > 0) return response.writeHead(416, { ...headers, "content-range": `bytes */${size}` }).end();
    if (first > 0) first -= state.shift;
    if (!state.isChunked) headers["content-length"] = size - first;
    if (range) headers["content-range"] = `bytes ${first}-${size - 1}/${size}`;
    response.writeHead((isModel && state.status) || (range ? 206 : 200), headers);
    const file = createReadStream(found, { start: first });
    let passed = 0;
    file.on("data", (piece) => {
      passed += piece.length;
      if (isModel && passed >= state.breakAt) {
        file.destroy(); // and this piece is the last
        cut = () => response.destroy();
      }
    });
    response.on("close", () => file.destroy()); // whoever asked may have had enough
    // A response that is asked to be slow stops after its first piece.
    if (request.url.endsWith("?slow")) return file.once("data", (piece) => (file.pause(), response.write(piece)));
    file.pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { state, address: `http://localhost:${server.address().port}`, close };
}
