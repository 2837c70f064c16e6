// The worker in a browser that keeps no files, as in some private windows, and cannot iterate over a body, as Safari cannot.

import "./worker.js";

Object.defineProperty(navigator.storage, "getDirectory", { value: undefined });
delete ReadableStream.prototype[Symbol.asyncIterator];
