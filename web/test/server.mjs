// A server of files with ranges and tags, as a model's server is, which can break a download off on purpose, and answer wrongly.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json", ".ts": "text/plain",
};

/**
 * Serves the folders, the first that has a file. `isOpen` lets pages of other origins have them, but shows those no tag and no range. Of
 * `state`, `breakAt` is how many bytes of a response pass before the connection is cut, and `shift` what a range is off by.
 */
export async function serve(folders, { isOpen = false } = {}) {
  const state = { breakAt: Infinity, shift: 0, requests: [] };
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname)).replace(/\/$/, "/index.html");
    const { range } = request.headers;
    state.requests.push({ path, method: request.method, range: range ?? null });
    const found = folders.map((folder) => join(folder, path)).find((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
    if (!found || request.method !== "GET") return response.writeHead(404).end();
    const { size, mtimeMs, mtime } = statSync(found);
    const headers = {
      "content-type": TYPES[extname(found)] ?? "application/octet-stream", "accept-ranges": "bytes",
      etag: `"${size}-${mtimeMs}"`, "last-modified": mtime.toUTCString(),
      ...(isOpen && { "access-control-allow-origin": "*" }),
    };
    let first = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
    if (first >= size && size > 0) return response.writeHead(416, { ...headers, "content-range": `bytes */${size}` }).end();
    if (first > 0) first -= state.shift;
    headers["content-length"] = size - first;
    if (range) headers["content-range"] = `bytes ${first}-${size - 1}/${size}`;
    response.writeHead(range ? 206 : 200, headers);
    const file = createReadStream(found, { start: first });
    let passed = 0;
    file.on("data", (piece) => {
      passed += piece.length;
      if (path.endsWith(".gguf") && passed > state.breakAt) {
        file.destroy();
        response.destroy();
      }
    });
    response.on("close", () => file.destroy()); // whoever asked may have had enough
    // A response that is asked to be slow stops after its first piece.
    if (request.url.endsWith("?slow")) return file.once("data", (piece) => (file.pause(), response.write(piece)));
    file.pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { state, address: `http://localhost:${server.address().port}`, close: () => server.close() };
}
