// Files of models, to be read piece by piece in a worker. What is downloaded is kept in the browser's own storage (OPFS), goes on
// where it was broken off, and is there without a network the next time.

const FOLDER = "sterna-models";
/** What is read of a file at once, so that a large tensor is not held twice. */
const PIECE = 8 << 20;

/** The source of a model: its size, where it is kept, a way to read it, and one to let go of it. */
export async function open({ url, blob, bytes }, onProgress) {
  if (bytes) {
    const read = (offset, into) => into.set(bytes.subarray(offset, offset + into.length));
    return { size: bytes.length, storage: "memory", read, close() {} };
  }
  if (blob) return ofFile(blob, "file");
  const folder = await storage();
  return folder ? ofHandle(await download(folder, url, onProgress)) : inMemory(url, onProgress);
}

/** Removes what was downloaded from an address, or all; an error where something stays. */
export async function forget(url) {
  const folder = await storage();
  if (!folder) return;
  const names = new Set();
  if (url) {
    names.add(await nameOf(url));
  } else {
    for await (const name of folder.keys()) names.add(name.replace(/\.json$/, ""));
  }
  let failure = null;
  for (const name of names) {
    try {
      await remove(folder, name);
      await remove(folder, `${name}.json`); // a file that stays keeps its note
    } catch (cause) {
      failure ??= cause;
    }
  }
  if (failure) {
    const inUse = failure.name === "NoModificationAllowedError";
    throw new Error(inUse ? "a file is in use: another tab loads or downloads it; forget it when that is done" : `a file stays: ${failure.message}`);
  }
}

async function remove(folder, name) {
  try {
    await folder.removeEntry(name);
  } catch (cause) {
    if (cause.name !== "NotFoundError") throw cause;
  }
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
  return { size: access.getSize(), storage: "browser", read, close: () => access.close() };
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
  return { size: file.size, storage, read, close() {} };
}

async function nameOf(url) {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The place of an address: as it was kept, or downloaded from where an earlier download ended. */
async function download(folder, url, onProgress) {
  const name = await nameOf(url);
  const handle = await folder.getFileHandle(name, { create: true });
  const note = `${name}.json`;
  const known = await readJson(folder, note);
  if (known?.isWhole && (await handle.getFile()).size === known.size) return handle;
  let access;
  try {
    access = await handle.createSyncAccessHandle();
  } catch {
    throw new Error("another tab is downloading this model; wait until it is done");
  }
  try {
    const size = await fill(access, url, known, (facts) => writeJson(folder, note, { url, ...facts, isWhole: false }), onProgress);
    access.flush();
    await writeJson(folder, note, { url, size, isWhole: true });
  } finally {
    access.close();
  }
  return handle;
}

/** Brings what lacks of a file, and gives its size. `begin` is told what will be known of it if the download breaks off. */
async function fill(access, url, known, begin, onProgress) {
  let have = access.getSize();
  // All of it came, and only the note of that is missing.
  if (have > 0 && have === known?.size) return have;
  let response = have > 0 && known?.tag ? await ask(url, { range: `bytes=${have}-` }) : null;
  let size = response && endOf(response, have, known);
  if (size === null) {
    await response?.body?.cancel();
    have = 0;
    response = await ask(url);
    size = lengthOf(response);
  }
  access.truncate(have);
  await begin({ tag: tagOf(response), size });
  const again = tagOf(response) ? "load again, and it goes on from there" : "load again";
  for await (const piece of piecesOf(response, again)) {
    if (access.write(piece, { at: have }) < piece.length) {
      throw new Error("the browser's storage is full; free some, or give the model as a file");
    }
    have += piece.length;
    onProgress(have, size);
  }
  if (size > 0 && have !== size) throw new Error(`only ${have} of ${size} bytes came; ${again}`);
  return have;
}

/**
 * Where the file ends, 0 if nothing says so, where a response is the rest of what is there: the same file by its tag, from that byte on,
 * to the same end. Else none. (The request says nothing of the tag, since a header for that would need more of a server on another origin
 * than most of them allow.)
 */
function endOf(response, have, known) {
  if (response.status !== 206 || tagOf(response) !== known.tag) return null;
  // Of another origin, a page may not be shown the range, but the length; and what is sent in chunks has none.
  const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  const length = lengthOf(response);
  const [from, end] = range ? [Number(range[1]), Number(range[2]) + 1] : [have, length > 0 ? have + length : known.size];
  const isWhole = !range || range[3] === "*" || Number(range[3]) === end;
  return from === have && end === (known.size || end) && (end > have || end === 0) && isWhole ? end : null;
}

/** What tells a file from another at the same address; none if nothing does. */
function tagOf(response) {
  if (response.headers.get("content-encoding")) return null; // places count in what was packed
  const tag = response.headers.get("etag");
  return tag && !tag.startsWith("W/") ? tag : response.headers.get("last-modified");
}

/** Bytes that follow; 0 if that is not known. */
function lengthOf(response) {
  return response.headers.get("content-encoding") ? 0 : Number(response.headers.get("content-length") ?? 0);
}

/** The server's answer, which the browser keeps nowhere else. */
async function ask(url, headers = {}) {
  let response;
  try {
    response = await fetch(url, { headers, cache: "no-store" });
  } catch (cause) {
    throw new Error(`${url} cannot be fetched (${cause.message}); is it there, and does its server allow other pages (CORS)?`);
  }
  // A range that is not there is no failure: all of the file is asked for then. Who asked for all of it has no use for a part.
  const isFine = headers.range ? response.ok || response.status === 416 : response.status === 200;
  if (!isFine) throw new Error(`${url}: the server says ${response.status} ${response.statusText}`);
  return response;
}

/** The bytes of a response as they come; `again` says what to do if they end too soon. (Not every browser can iterate over a body.) */
async function* piecesOf(response, again) {
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause) => {
        throw new Error(`the download broke off (${cause.message}); ${again}`);
      });
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function inMemory(url, onProgress) {
  const response = await ask(url);
  const size = lengthOf(response);
  const pieces = [];
  let have = 0;
  for await (const piece of piecesOf(response, "load again")) {
    pieces.push(piece);
    have += piece.length;
    onProgress(have, size);
  }
  if (size > 0 && have !== size) throw new Error(`only ${have} of ${size} bytes came; load again`);
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
