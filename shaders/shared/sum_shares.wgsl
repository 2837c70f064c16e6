// The sum of what each thread of a workgroup has, in one order wherever sums of a row are made: halves are added to halves. Once in a
// shader, as nothing waits for those who still read the sum.
var<workgroup> shares: array<f32, THREADS>;

fn sum_shares(share: f32, thread: u32) -> f32 {
    shares[thread] = share;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            shares[thread] += shares[thread + half];
        }
        workgroupBarrier();
    }
    return shares[0];
}
