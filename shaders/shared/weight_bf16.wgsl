fn weight(row: u32, col: u32) -> f32 {
    let pair = table[row * params.row_words + col / 2u];
    return bitcast<f32>((pair >> (16u * (col % 2u))) << 16u);
}
