// Merges the partial sums of a row's chunks that attend wrote, in their order. One workgroup a head.

struct Params {
    heads: u32,
    chunks: u32, // that `partials` has room for
    window: u32, // positions that a row sees, its own the last of them
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> partials: array<f32>;  // [rows, heads, chunks, 2 + HEAD_DIM]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, heads, HEAD_DIM]

const AHEAD: u32 = 8u; // chunks

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.y * params.heads + group.x;
    let length = step.entries[group.y].position + 1u;
    let first_chunk = (length - min(length, params.window)) / CHUNK;
    let last_chunk = (length - 1u) / CHUNK;
    for (var i = thread; i < HEAD_DIM; i += 64u) {
        var before = NO_PARTIAL;
        var sum = 0.0;
        for (var chunk = first_chunk; chunk <= last_chunk; chunk += AHEAD) {
            // All of them are asked for before the first is used; those beyond the last repeat it, and are not merged.
            var partial: array<Partial, AHEAD>;
            var sums: array<f32, AHEAD>;
            for (var next = 0u; next < AHEAD; next++) {
                let at = (head * params.chunks + min(chunk + next, last_chunk)) * (2u + HEAD_DIM);
                partial[next] = Partial(partials[at], partials[at + 1u]);
                sums[next] = partials[at + 2u + i];
            }
            for (var next = 0u; next < AHEAD; next++) {
                if chunk + next <= last_chunk {
                    let factors = merge_factors(before, partial[next]);
                    sum = sum * factors.x + sums[next] * factors.y;
                    before = merge(before, partial[next]);
                }
            }
        }
        out[head * HEAD_DIM + i] = sum / before.total;
    }
}
