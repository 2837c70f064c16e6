// The `count` largest logits of a row, best first, of equals the smaller token first; no token where one is not finite. One workgroup a row: a radix search
// finds the key of the last one to keep, the keys above it are gathered, then as many of its equals as are missing, and
// all are sorted.

struct Params {
    cols: u32,  // logits of a row
    count: u32, // to keep, at most MOST
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;          // [selected, cols]
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;    // [selected, MOST]
@group(0) @binding(3) var<storage, read_write> values: array<u32>;    // [selected, MOST], the bits of floats

const THREADS: u32 = 256u;
const NO_TOKEN: u32 = 0xffffffffu;
const NAN_BITS: u32 = 0x7fc00000u;
const_assert MOST == THREADS; // a thread sorts one candidate

var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> digit: u32;                       // of the searched key
var<workgroup> above: u32;                       // keys that are larger in the digits so far
var<workgroup> gathered: atomic<u32>;
var<workgroup> magnitude: atomic<u32>;           // the largest bits of a logit without its sign
var<workgroup> equals: array<u32, THREADS>;      // that each thread has in its stretch
var<workgroup> kept: array<vec2<u32>, MOST>;     // key, token; key 0 where there is none

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * params.cols;
    if thread == 0u {
        above = 0u;
        atomicStore(&gathered, 0u);
        atomicStore(&magnitude, 0u);
    }
    kept[thread] = vec2<u32>(0u, 0u);
    var largest = 0u;

    // Digit by digit: the key that exactly `count` keys are equal to or above, or more if it has equals.
    var prefix = 0u;
    for (var shift = 24i; shift >= 0i; shift -= 8i) {
        let bits = u32(shift);
        atomicStore(&histogram[thread], 0u);
        workgroupBarrier();
        for (var col = thread; col < params.cols; col += THREADS) {
            let key = rank_key(logits[first + col]);
            largest = max(largest, magnitude_bits(logits[first + col]));
            if key != 0u && (bits == 24u || (key >> (bits + 8u)) == prefix) {
                atomicAdd(&histogram[(key >> bits) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if thread == 0u {
            var sum = above;
            var found = 0u;
            for (var d = 255i; d >= 0i; d--) {
                let here = atomicLoad(&histogram[d]);
                if sum + here >= params.count {
                    found = u32(d);
                    break;
                }
                sum += here;
            }
            digit = found;
            above = sum;
        }
        workgroupBarrier();
        prefix = (prefix << 8u) | workgroupUniformLoad(&digit);
    }

    atomicMax(&magnitude, largest);

    // With fewer than `count` candidates the search ends at digit 0 each time: at key 0, which no logit has.
    let last = prefix;
    let stretch = (params.cols + THREADS - 1u) / THREADS;
    let begin = min(thread * stretch, params.cols);
    let end = min(begin + stretch, params.cols);
    var mine = 0u;
    for (var col = begin; col < end; col++) {
        let key = rank_key(logits[first + col]);
        if key > last {
            kept[atomicAdd(&gathered, 1u)] = vec2<u32>(key, col);
        }
        mine += u32(key == last && key != 0u);
    }
    equals[thread] = mine;
    workgroupBarrier();
    var place = atomicLoad(&gathered);
    for (var before = 0u; before < thread; before++) {
        place += equals[before];
    }
    for (var col = begin; col < end && place < params.count && mine > 0u; col++) {
        if rank_key(logits[first + col]) == last {
            kept[place] = vec2<u32>(last, col);
            place++;
            mine--;
        }
    }
    workgroupBarrier();

    // Bitonic sort, best first.
    for (var size = 2u; size <= MOST; size *= 2u) {
        for (var stride = size / 2u; stride > 0u; stride /= 2u) {
            let other = thread ^ stride;
            let a = kept[thread];
            let b = kept[other];
            let b_first = b.x > a.x || (b.x == a.x && b.y < a.y);
            let forward = ((thread & size) == 0u) == (thread < other);
            workgroupBarrier();
            if b_first == forward && (a.x != b.x || a.y != b.y) {
                kept[thread] = b;
            }
            workgroupBarrier();
        }
    }
    if thread < params.count {
        let best = kept[thread];
        var token = select(0u, best.y, best.x != 0u);
        var value = select(NEGATIVE_INFINITY_BITS, rank_bits(best.x), best.x != 0u);
        if atomicLoad(&magnitude) >= INFINITY_BITS {
            token = NO_TOKEN;
            value = NAN_BITS;
        }
        tokens[group.x * MOST + thread] = token;
        values[group.x * MOST + thread] = value;
    }
}
