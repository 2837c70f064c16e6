// The worker in a browser without WebGPU.

import "./worker.js";

Object.defineProperty(navigator, "gpu", { value: undefined });
