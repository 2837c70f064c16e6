// Downloads: what is kept, gone on with, and begun anew.

import assert from "node:assert/strict";
import { utimesSync } from "node:fs";
import { join } from "node:path";

import { writeModel } from "./synthetic.mjs";

export function tests({ fresh, server, elsewhere, scratch }) {
  const path = join(scratch, "broken.gguf");
  const shape = { layers: 4, width: 512, ffnWidth: 1024, heads: 8, vocabulary: 4096 };
  const write = (seed) => writeModel(path, { ...shape, seed });

  /** Loads the file, and tells what was seen of the download, or the error. A download that is to break off does so when it has `cutAt` bytes. */
  const loaded = (page, from = server, options = {}, cutAt = Infinity) =>
    page.evaluate(async ([url, options, cutAt]) => {
      const { load } = await import("./sterna.js");
      const seen = [];
      try {
        const onProgress = ({ phase, done, all }) => {
          if (phase !== "download") return;
          seen.push([done, all]);
          if (done >= cutAt) fetch(new URL("/cut", url), { mode: "no-cors" });
        };
        const model = await load(url, { device: "cpu", onProgress, ...options });
        model.close();
        return { seen, storage: model.info.storage };
      } catch (error) {
        return { seen, error: error.message };
      }
    }, [`${from.address}/broken.gguf`, options, cutAt]);

  /** What came of a load that broke off in the middle. */
  const brokenOff = async (page, size, from = server) => {
    from.state.breakAt = size / 2;
    const broken = await loaded(page, from, {}, size / 2);
    from.state.breakAt = Infinity;
    assert.match(broken.error ?? "no error", /broke off.*goes on from there/);
    from.state.requests.length = 0;
  };
  const requests = (from = server) => from.state.requests.filter(({ path }) => path === "/broken.gguf");

  /** Changes the note that is kept with the file. */
  const note = (page, change) =>
    page.evaluate(async (change) => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("sterna-models");
      for await (const [name, handle] of folder.entries()) {
        if (!name.endsWith(".json")) continue;
        const known = JSON.parse(await (await handle.getFile()).text());
        const writable = await handle.createWritable();
        await writable.write(JSON.stringify({ ...known, ...change }));
        await writable.close();
      }
    }, change);

  return {
    async "a download that broke off goes on from there, and the second load needs no network"() {
      const size = write(1);
      const { page, context } = await fresh();
      await brokenOff(page, size);
      const whole = await loaded(page);
      assert.deepEqual(whole.error, undefined);
      assert.match(requests()[0].range, /^bytes=[1-9]\d*-$/);
      assert.equal(requests().length, 1);
      assert.deepEqual(whole.seen.at(-1), [size, size]);
      assert.ok(whole.seen[0][0] > size / 4, `${whole.seen[0]} begins where it broke off`);
      assert.equal(whole.storage, "browser");
      server.state.requests.length = 0;
      const second = await loaded(page);
      assert.ok(!second.error && second.seen.length === 0, JSON.stringify(second));
      assert.equal(requests().length, 0);
      await context.close();
    },

    async "a file of another origin that shows no tag goes on too, without asking for leave"() {
      const size = write(1);
      const { page, context } = await fresh();
      await brokenOff(page, size, elsewhere);
      const whole = await loaded(page, elsewhere);
      assert.deepEqual(whole.error, undefined);
      assert.deepEqual(requests(elsewhere).map(({ method, range }) => [method, range !== null]), [["GET", true]]);
      assert.deepEqual(whole.seen.at(-1), [size, size]);
      await context.close();
    },

    async "a rest whose length nobody says is taken, to the end that was known or that its range tells"() {
      const size = write(1);
      // One shows its range, the other nothing; and what was known may be nothing either.
      for (const [from, wasKnown, told] of [[server, true, size], [server, false, size], [elsewhere, true, size], [elsewhere, false, 0]]) {
        const { page, context } = await fresh();
        from.state.isChunked = !wasKnown;
        await brokenOff(page, size, from);
        from.state.isChunked = true;
        // It breaks off again: what was known is known still.
        from.state.breakAt = size / 4;
        assert.match((await loaded(page, from, {}, (size * 3) / 4)).error ?? "no error", /broke off.*goes on from there/);
        from.state.breakAt = Infinity;
        const whole = await loaded(page, from);
        from.state.isChunked = false;
        assert.deepEqual(whole.error, undefined);
        assert.deepEqual(requests(from).map(({ range }) => range !== null), [true, true]);
        assert.deepEqual(whole.seen.at(-1), [size, told]);
        assert.ok(whole.seen[0][0] > (size * 3) / 4, `${whole.seen[0]} begins where it broke off`);
        await context.close();
      }
    },

    async "more than was known of is begun anew, not gone on with"() {
      const size = write(1);
      const { page, context } = await fresh();
      await brokenOff(page, size, elsewhere);
      await note(page, { size: 1000 });
      elsewhere.state.isChunked = true;
      const whole = await loaded(page, elsewhere);
      elsewhere.state.isChunked = false;
      assert.deepEqual(whole.error, undefined);
      assert.deepEqual(requests(elsewhere).map(({ range }) => range !== null), [true, false]);
      await context.close();
    },

    async "who asks for all of a file is content with no part of it, nor with less"() {
      write(1);
      const { page, context } = await fresh();
      for (const workerUrl of ["worker.js", "no-storage-worker.js"]) {
        for (const status of [206, 203, 416, 404]) {
          server.state.status = status;
          const { error } = await loaded(page, server, { workerUrl });
          server.state.status = null;
          assert.match(error ?? "no error", new RegExp(`the server says ${status}`), workerUrl);
        }
      }
      await context.close();
    },

    async "another file, or another part of it than was asked for, is loaded from its beginning"() {
      for (const kind of ["another file", "another part"]) {
        const size = write(1);
        const { page, context } = await fresh();
        await brokenOff(page, size);
        if (kind === "another file") {
          write(2);
          utimesSync(path, new Date(), new Date(Date.now() + 5000));
        } else {
          server.state.shift = 1000;
        }
        const whole = await loaded(page);
        server.state.shift = 0;
        assert.deepEqual(whole.error, undefined, kind);
        assert.deepEqual(requests().map(({ range }) => range !== null), [true, false], kind);
        await context.close();
      }
    },

    async "a file that is whole is not asked for again, though nothing says that it is"() {
      const size = write(1);
      const { page, context } = await fresh();
      assert.deepEqual((await loaded(page)).error, undefined);
      for (const [known, asked] of [[{ isWhole: false, tag: '"a"' }, []], [{ isWhole: false, tag: '"a"', size: 0 }, [`bytes=${size}-`, null]]]) {
        await note(page, known);
        server.state.requests.length = 0;
        assert.deepEqual((await loaded(page)).error, undefined, JSON.stringify(known));
        assert.deepEqual(requests().map(({ range }) => range), asked);
      }
      await context.close();
    },

    async "a browser that keeps no files has the model in memory, and an error where that is cut off"() {
      const size = write(1);
      const { page, context } = await fresh();
      const options = { workerUrl: "no-storage-worker.js" };
      const whole = await loaded(page, server, options);
      assert.equal(whole.storage, "memory", whole.error);
      assert.deepEqual(whole.seen.at(-1), [size, size]);
      server.state.breakAt = size / 2;
      const broken = await loaded(page, server, options, size / 2);
      server.state.breakAt = Infinity;
      assert.match(broken.error ?? "no error", /broke off.*load again$/);
      await context.close();
    },

    async "what was downloaded is forgotten, also while its model is in use, and what cannot be is told"() {
      write(1);
      const { page, context } = await fresh();
      const outcome = await page.evaluate(async () => {
        const { forget, load } = await import("./sterna.js");
        const told = (promise) => promise.then(() => "no error", (error) => error.message);
        const model = await load("broken.gguf", { device: "cpu" });
        const ofModel = await told(forget("broken.gguf"));
        const again = await told(forget("broken.gguf"));
        let made = 0;
        for await (const piece of model.generate([1, 2, 3], { maxTokens: 2, ignoreEnd: true })) made = piece.usage.made;
        model.close();
        const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("sterna-models");
        const left = (await Array.fromAsync(folder.keys())).length;
        // A download that does not end holds its file.
        const begun = Promise.withResolvers();
        const controller = new AbortController();
        const loading = told(load("broken.gguf?slow", { device: "cpu", signal: controller.signal, onProgress: begun.resolve }));
        await begun.promise;
        const ofDownload = await told(forget());
        const kept = await Array.fromAsync(folder.keys());
        controller.abort();
        await loading;
        return { ofModel, again, made, left, ofDownload, kept };
      });
      assert.deepEqual([outcome.ofModel, outcome.again, outcome.made, outcome.left], ["no error", "no error", 2, 0], JSON.stringify(outcome));
      assert.match(outcome.ofDownload, /in use/);
      // What stays can be gone on with.
      const [file] = outcome.kept.sort();
      assert.deepEqual(outcome.kept, [file, `${file}.json`]);
      await context.close();
    },
  };
}
