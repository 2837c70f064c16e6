fn weight(row: u32, col: u32) -> f32 {
    let code = unpack4xI8(table[row * params.row_words + col / 4u])[col % 4u];
    return f32(code) * scales[row * params.row_scales + col / params.group];
}
