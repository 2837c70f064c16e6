// The worker with a GPU that can be taken away: "lose" destroys it.

import "./worker.js";

let opened = null;
const request = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (...rest) {
  opened = await request.apply(this, rest);
  return opened;
};
const hear = self.onmessage;
self.onmessage = (event) => (event.data.what === "lose" ? opened.destroy() : hear(event));
