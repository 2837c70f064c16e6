// The gate of a gated linear unit: squared ReLU, or SiLU.
fn activated(gate: f32) -> f32 {
    if SILU {
        return gate / (1.0 + exp(-gate));
    }
    let positive = max(gate, 0.0);
    return positive * positive;
}
