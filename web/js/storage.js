// Files of models, to be read piece by piece in a worker. What is downloaded is kept in the browser's own storage (OPFS), goes on
// where it was broken off, and is there without a network the next time.

const FOLDER = "sterna-models";
/** What is read of a file at once, so that a large tensor is not held twice. */
const PIECE = 8 << 20;

/** The source of a model: its size, where it is kept, and a way to read it. */
export async function open({ url, blob, bytes }, onProgress) {
  if (bytes) {
    const read = (offset, into) => into.set(bytes.subarray(offset, offset + into.length));
    return { size: bytes.length, storage: "memory", read };
  }
  if (blob) return ofFile(blob, "file");
  const folder = await storage();
  return folder ? ofHandle(await download(folder, url, onProgress)) : inMemory(url, onProgress);
}

/** Removes what was downloaded from an address, or all. */
export async function forget(url) {
  const folder = await storage();
  if (!folder) return;
  const names = [];
  if (url) {
    const name = await nameOf(url);
    names.push(name, `${name}.json`);
  } else {
    for await (const name of folder.keys()) names.push(name);
  }
  for (const name of names) await folder.removeEntry(name).catch(() => {});
}

/** The folder in the browser's storage; none where it has no such storage, as in some private windows. */
async function storage() {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle(FOLDER, { create: true });
  } catch {
    return null;
  }
}

/** A file of the browser's storage, read straight to where its bytes belong; as others, where another tab holds it. */
async function ofHandle(handle) {
  let access;
  try {
    access = await handle.createSyncAccessHandle({ mode: "read-only" });
  } catch {
    return ofFile(await handle.getFile(), "browser");
  }
  const read = (offset, into) => {
    if (access.read(into, { at: offset }) < into.length) throw new Error("the file is shorter than it was; load it again");
  };
  return { size: access.getSize(), storage: "browser", read };
}

function ofFile(file, storage) {
  const reader = new FileReaderSync();
  const read = (offset, into) => {
    for (let first = 0; first < into.length; first += PIECE) {
      const end = Math.min(first + PIECE, into.length);
      const piece = new Uint8Array(reader.readAsArrayBuffer(file.slice(offset + first, offset + end)));
      if (piece.length < end - first) throw new Error("the file is shorter than it was; load it again");
      into.set(piece, first);
    }
  };
  return { size: file.size, storage, read };
}

async function nameOf(url) {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The place of an address: as it was kept, or downloaded from where an earlier download ended. */
async function download(folder, url, onProgress) {
  const name = await nameOf(url);
  const handle = await folder.getFileHandle(name, { create: true });
  const known = await readJson(folder, `${name}.json`);
  if (known?.isWhole && (await handle.getFile()).size === known.size) return handle;
  let access;
  try {
    access = await handle.createSyncAccessHandle();
  } catch {
    throw new Error("another tab is downloading this model; wait until it is done");
  }
  try {
    await fill(access, folder, name, url, known, onProgress);
  } finally {
    access.close();
  }
  return handle;
}

async function fill(access, folder, name, url, known, onProgress) {
  // Only what has the same tag is the same file.
  let have = known?.tag ? access.getSize() : 0;
  const headers = have > 0 ? { Range: `bytes=${have}-`, "If-Range": known.tag } : {};
  const response = await ask(url, headers);
  if (response.status === 416) throw new Error(`${url}: the server's file is shorter than what was downloaded; forget it and load again`);
  if (response.status !== 206) have = 0;
  access.truncate(have);
  const length = Number(response.headers.get("content-length") ?? 0);
  const size = length > 0 && !response.headers.get("content-encoding") ? have + length : 0;
  const tag = response.headers.get("etag");
  await writeJson(folder, `${name}.json`, { url, tag: tag?.startsWith("W/") ? null : tag, size, isWhole: false });
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read().catch((cause) => {
      throw new Error(`the download broke off (${cause.message}); load again, and it goes on from there`);
    });
    if (done) break;
    if (access.write(value, { at: have }) < value.length) {
      throw new Error("the browser's storage is full; free some, or give the model as a file");
    }
    have += value.length;
    onProgress(have, size);
  }
  access.flush();
  if (size > 0 && have !== size) throw new Error(`only ${have} of ${size} bytes came; load again, and it goes on from there`);
  await writeJson(folder, `${name}.json`, { url, tag, size: have, isWhole: true });
}

async function ask(url, headers) {
  let response;
  try {
    response = await fetch(url, { headers });
  } catch (cause) {
    throw new Error(`${url} cannot be fetched (${cause.message}); is it there, and does its server allow other pages (CORS)?`);
  }
  if (!response.ok && response.status !== 416) throw new Error(`${url}: the server says ${response.status} ${response.statusText}`);
  return response;
}

async function inMemory(url, onProgress) {
  const response = await ask(url, {});
  const size = Number(response.headers.get("content-length") ?? 0);
  const pieces = [];
  let have = 0;
  for await (const piece of response.body) {
    pieces.push(piece);
    have += piece.length;
    onProgress(have, size);
  }
  return ofFile(new Blob(pieces), "memory");
}

async function readJson(folder, name) {
  try {
    const file = await (await folder.getFileHandle(name)).getFile();
    return JSON.parse(await file.text());
  } catch {
    return null;
  }
}

async function writeJson(folder, name, value) {
  const handle = await folder.getFileHandle(name, { create: true });
  const access = await handle.createSyncAccessHandle();
  try {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    access.truncate(0);
    access.write(bytes, { at: 0 });
    access.flush();
  } finally {
    access.close();
  }
}
