// Sums that LANES threads, a team, share: each lays what it has into workgroup memory, and after a barrier those of a team are
// added, in the order of its lanes. `Sum` is a number of the shader's choice.
const TEAMS: u32 = THREADS / LANES; // weight rows that are worked on at once
const SUMS: u32 = OUTPUTS * ROWS;   // of a thread

var<workgroup> lane_sums: array<array<Sum, THREADS>, SUMS>;

fn lanes_sum(team: u32, output: u32, row: u32) -> Sum {
    var sum = lane_sums[output * ROWS + row][team * LANES];
    for (var other = 1u; other < LANES; other++) {
        sum += lane_sums[output * ROWS + row][team * LANES + other];
    }
    return sum;
}
