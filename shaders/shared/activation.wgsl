// The gate of a gated linear unit: squared ReLU, SiLU, or GELU by a tanh.
fn activated(gate: f32) -> f32 {
    if SILU {
        return gate / (1.0 + exp(-gate));
    }
    if GELU {
        // x/2 (1 + tanh u) = x / (1 + e^-2u), which needs no tanh: some devices have one that large values break.
        let u = 0.7978845608 * (gate + 0.044715 * gate * gate * gate);
        return gate / (1.0 + exp(-2.0 * u));
    }
    let positive = max(gate, 0.0);
    return positive * positive;
}
