// A server of files with ranges and tags, as a model's server is, which can break a download off on purpose.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm", ".json": "application/json", ".ts": "text/plain",
};

/** Serves the folders, the first that has a file. `breakAt` is how many bytes of a response pass before the connection is cut. */
export async function serve(folders) {
  const state = { breakAt: Infinity, requests: [] };
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname)).replace(/\/$/, "/index.html");
    state.requests.push({ path, range: request.headers.range ?? null });
    const found = folders.map((folder) => join(folder, path)).find((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
    if (!found) return response.writeHead(404).end();
    const { size, mtimeMs } = statSync(found);
    const tag = `"${size}-${mtimeMs}"`;
    const headers = { "content-type": TYPES[extname(found)] ?? "application/octet-stream", etag: tag, "accept-ranges": "bytes" };
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const first = range && request.headers["if-range"] === tag ? Number(range[1]) : 0;
    headers["content-length"] = size - first;
    if (first > 0) headers["content-range"] = `bytes ${first}-${size - 1}/${size}`;
    response.writeHead(first > 0 ? 206 : 200, headers);
    const file = createReadStream(found, { start: first });
    let passed = 0;
    file.on("data", (piece) => {
      passed += piece.length;
      if (path.endsWith(".gguf") && passed > state.breakAt) {
        file.destroy();
        response.destroy();
      }
    });
    file.pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { state, address: `http://localhost:${server.address().port}`, close: () => server.close() };
}
