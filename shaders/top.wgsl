// The `count` largest logits of a row, best first, of equals the smaller token first; no token where one is not finite. In two
// stages, as argmax: of each stretch of a row, then of what the stretches found. A radix search finds the key of the last one to
// keep, the keys above it are gathered, then as many of its equals as are missing, and all are sorted.

struct Params {
    cols: u32,      // logits of a row, or what its stretches found
    count: u32,     // to keep, at most MOST
    per_group: u32, // that one workgroup looks at
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<Candidate>;  // [selected, cols]

const THREADS: u32 = 256u;
const NO_TOKEN: u32 = 0xffffffffu;
const NO_NUMBER: u32 = 0xffffffffu;         // the key of what is not finite, above all others
const SIDE: u32 = 16u;                      // sums over threads are made in two steps of as many
const BATCH: u32 = 16u;                     // keys that a thread asks for before it uses the first
const_assert MOST == THREADS;               // a thread sorts one candidate
const_assert SIDE * SIDE == THREADS;

var<workgroup> counts: array<atomic<u32>, THREADS>;   // of each digit; of each thread's equals
var<workgroup> side_sums: array<u32, SIDE>;
var<workgroup> digit: u32;                            // of the searched key
var<workgroup> above: u32;                            // keys that are larger in the digits so far
var<workgroup> gathered: atomic<u32>;
var<workgroup> largest: atomic<u32>;                  // key
var<workgroup> kept: array<vec2<u32>, MOST>;          // key, token; key 0 where there is none

alias Keys = array<u32, BATCH>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // A thread's own stretch, so that equals are found in the order of their columns.
    let group_end = min(params.cols, (group.x + 1u) * params.per_group);
    let stretch = (params.per_group + THREADS - 1u) / THREADS;
    let begin = min(group.x * params.per_group + thread * stretch, group_end);
    let end = min(begin + stretch, group_end);
    let row = group.y * params.cols;
    if thread == 0u {
        above = 0u;
        digit = 0u;
        atomicStore(&gathered, 0u);
        atomicStore(&largest, 0u);
    }
    kept[thread] = vec2<u32>(0u, 0u);

    // Digit by digit: the key that exactly `count` keys are equal to or above, or more if it has equals.
    var most = 0u;
    var prefix = 0u;
    for (var shift = 24i; shift >= 0i; shift -= 8i) {
        let bits = u32(shift);
        atomicStore(&counts[thread], 0u);
        workgroupBarrier();
        for (var first = begin; first < end; first += BATCH) {
            let keys = load_keys(row, first, end);
            for (var i = 0u; i < BATCH; i++) {
                most = max(most, keys[i]);
                if keys[i] != 0u && (bits == 24u || (keys[i] >> (bits + 8u)) == prefix) {
                    atomicAdd(&counts[(keys[i] >> bits) & 255u], 1u);
                }
            }
        }
        workgroupBarrier();
        let here = atomicLoad(&counts[thread]);
        let over = workgroupUniformLoad(&above) + sum_beside(thread, true);
        // With fewer than `count` candidates it is digit 0 each time: key 0, which no logit has.
        if over < params.count && (over + here >= params.count || thread == 0u) {
            digit = thread;
            above = over;
        }
        workgroupBarrier();
        prefix = (prefix << 8u) | workgroupUniformLoad(&digit);
    }
    atomicMax(&largest, most);

    let last = prefix;
    var mine = 0u;
    for (var first = begin; first < end; first += BATCH) {
        let keys = load_keys(row, first, end);
        for (var i = 0u; i < BATCH; i++) {
            if keys[i] > last {
                kept[atomicAdd(&gathered, 1u)] = vec2<u32>(keys[i], token_of(row, first + i));
            }
            mine += u32(keys[i] == last && last != 0u);
        }
    }
    atomicStore(&counts[thread], mine);
    workgroupBarrier();
    var place = atomicLoad(&gathered) + sum_beside(thread, false);
    for (var col = begin; col < end && place < params.count && mine > 0u; col++) {
        if key_of(row, col) == last {
            kept[place] = vec2<u32>(last, token_of(row, col));
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
        let is_lost = atomicLoad(&largest) == NO_NUMBER;
        keep(group.y, group.x, groups.x, thread, select(kept[thread], vec2<u32>(NO_NUMBER, NO_TOKEN), is_lost));
    }
}

// Keys of columns that follow each other; 0 from `end` on.
fn load_keys(row: u32, first: u32, end: u32) -> Keys {
    var keys: Keys;
    for (var i = 0u; i < BATCH; i++) {
        keys[i] = key_of(row, min(first + i, end - 1u));
    }
    for (var i = 0u; i < BATCH; i++) {
        keys[i] = select(0u, keys[i], first + i < end);
    }
    return keys;
}

// The sum of the counts of all threads after this one, or of all before it. Two barriers.
fn sum_beside(thread: u32, after: bool) -> u32 {
    if thread < SIDE {
        var sum = 0u;
        for (var i = 0u; i < SIDE; i++) {
            sum += atomicLoad(&counts[thread * SIDE + i]);
        }
        side_sums[thread] = sum;
    }
    workgroupBarrier();
    var sum = 0u;
    for (var i = 0u; i < SIDE; i++) {
        let side = thread / SIDE;
        let other = side * SIDE + i;
        sum += select(0u, side_sums[i], select((i < side), (i > side), after));
        sum += select(0u, atomicLoad(&counts[other]), select((other < thread), (other > thread), after));
    }
    workgroupBarrier();
    return sum;
}
