// The causal convolution of each channel by itself, then SiLU. A thread has one channel of one sequence, and goes through the rows
// of the step in their order.

struct Params {
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>;              // [rows, channels]
@group(0) @binding(3) var<storage, read> weights: array<f32>;        // [TAPS, channels]
@group(0) @binding(4) var<storage, read_write> earlier: array<f32>;  // [slots, TAPS - 1, channels]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;      // [rows, channels]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let channel = id.x;
    if channel >= params.channels {
        return;
    }
    let begin = step.entries[id.y].begin;
    let sequence = step.entries[begin].sequence;
    let state = sequence * (TAPS - 1u) * params.channels + channel;
    var seen: array<f32, TAPS>; // the oldest first
    if step.entries[begin].position > 0u {
        for (var tap = 0u; tap < TAPS - 1u; tap++) {
            seen[tap + 1u] = earlier[state + tap * params.channels];
        }
    }
    for (var row = begin; row < step.rows; row++) {
        if step.entries[row].sequence != sequence {
            continue;
        }
        for (var tap = 0u; tap < TAPS - 1u; tap++) {
            seen[tap] = select(seen[tap + 1u], 0.0, step.entries[row].position == 0u);
        }
        seen[TAPS - 1u] = x[row * params.channels + channel];
        var sum = 0.0;
        for (var tap = 0u; tap < TAPS; tap++) {
            sum += weights[tap * params.channels + channel] * seen[tap];
        }
        out[row * params.channels + channel] = sum / (1.0 + exp(-sum));
    }
    for (var tap = 0u; tap < TAPS - 1u; tap++) {
        earlier[state + tap * params.channels] = seen[tap + 1u];
    }
}
