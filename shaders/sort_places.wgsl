// The places of a mixture of experts by expert, and cut into tiles of at most GROUP_ROWS places of one. One workgroup. Places of an expert
// lie in any order: what is computed of one does not depend on the others.

struct Params {
    places: u32,
    count: u32, // experts
    tiles: u32, // as many as there may be
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> experts: array<u32>;          // [places]
@group(0) @binding(2) var<storage, read_write> tiles: array<ExpertTile>;
@group(0) @binding(3) var<storage, read_write> sorted: array<u32>;     // [places + GROUP_ROWS]: the place

const SHARE: u32 = (MOST + THREADS - 1u) / THREADS; // experts of a thread, one beside the other

var<workgroup> counts: array<atomic<u32>, MOST>;       // places of each expert; then where the next one goes
var<workgroup> totals: array<vec2<u32>, THREADS>;      // places and tiles of the experts of all threads up to each

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
    for (var expert = thread; expert < MOST; expert += THREADS) {
        atomicStore(&counts[expert], 0u);
    }
    workgroupBarrier();
    for (var place = thread; place < params.places; place += THREADS) {
        atomicAdd(&counts[experts[place]], 1u);
    }
    workgroupBarrier();

    var mine = vec2<u32>();
    for (var i = 0u; i < SHARE; i++) {
        mine += places_and_tiles(thread * SHARE + i);
    }
    totals[thread] = mine;
    workgroupBarrier();
    for (var apart = 1u; apart < THREADS; apart *= 2u) {
        var before = vec2<u32>();
        if thread >= apart {
            before = totals[thread - apart];
        }
        workgroupBarrier();
        totals[thread] += before;
        workgroupBarrier();
    }

    var at = totals[thread] - mine;
    for (var i = 0u; i < SHARE; i++) {
        let expert = thread * SHARE + i;
        let own = places_and_tiles(expert);
        for (var tile = 0u; tile < own.y; tile++) {
            let first = at.x + tile * GROUP_ROWS;
            tiles[at.y + tile] = ExpertTile(expert, first, min(first + GROUP_ROWS, at.x + own.x));
        }
        if own.x > 0u {
            atomicStore(&counts[expert], at.x);
        }
        at += own;
    }
    for (var tile = totals[THREADS - 1u].y + thread; tile < params.tiles; tile += THREADS) {
        tiles[tile] = ExpertTile(NO_EXPERT, 0u, 0u);
    }
    workgroupBarrier();

    for (var place = thread; place < params.places; place += THREADS) {
        sorted[atomicAdd(&counts[experts[place]], 1u)] = place;
    }
    // What tiles that are not full find behind the last place.
    for (var i = thread; i < GROUP_ROWS; i += THREADS) {
        sorted[params.places + i] = 0u;
    }
}

fn places_and_tiles(expert: u32) -> vec2<u32> {
    if expert >= MOST {
        return vec2<u32>();
    }
    let places = atomicLoad(&counts[expert]);
    return vec2<u32>(places, (places + GROUP_ROWS - 1u) / GROUP_ROWS);
}
