fn weight(row: u32, col: u32) -> f32 {
    return unpack2x16float(table[row * params.row_words + col / 2u])[col % 2u];
}
