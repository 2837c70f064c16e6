// Compiles every shader of a folder with Tint, through Dawn's backend that needs no GPU, on a device with nothing but what
// core WebGPU has. Prints what Tint finds, and fails if it finds anything.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { create } from "webgpu";

// A barrier that only some threads reach: if this is accepted, nothing is being checked.
const DIVERGENT = `
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32) {
    if thread < 3u {
        workgroupBarrier();
    }
}`;

const folder = process.argv[2] ?? "../../target/shaders";
const files = readdirSync(folder).filter((file) => file.endsWith(".wgsl")).sort();
if (files.length === 0) throw new Error(`${folder} holds no shaders`);

const gpu = create(["backend=null"]);
const adapter = await gpu.requestAdapter();
const device = await adapter.requestDevice();

// What there is to say against a source: Tint's errors and warnings, then what the limits of workgroups and bindings
// refuse, which are looked at when a pipeline is made.
async function faults(code) {
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ code });
    const { messages } = await module.getCompilationInfo();
    const refused = await device.popErrorScope();
    const found = messages.map(({ type, lineNum, linePos, message }) => `${lineNum}:${linePos}: ${type}: ${message}`);
    if (refused) return found;
    const pipeline = device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "main" } });
    return pipeline.then(() => found, (error) => [...found, error.message]);
}

if ((await faults(DIVERGENT)).length === 0) {
    throw new Error("a barrier in divergent control flow was accepted: nothing is being checked");
}
let refused = 0;
for (const file of files) {
    const found = await faults(readFileSync(join(folder, file), "utf8"));
    for (const fault of found) console.log(`${file}:${fault}`);
    refused += found.length > 0;
}
console.log(`${files.length} shaders compiled, ${refused} refused`);
process.exit(refused ? 1 : 0);
