fn weight(row: u32, col: u32) -> f32 {
    return bitcast<f32>(table[row * params.row_words + col]);
}
