fn weight(row: u32, col: u32) -> f32 {
    // Byte b of a block of 32 holds columns b, b+32, b+64, b+96, from the top bits down.
    let place = col % 128u;
    let word = table[row * params.row_words + col / 128u * 8u + place % 32u / 4u];
    let code = (word >> (8u * (place % 4u) + 6u - 2u * (place / 32u))) & 3u;
    return f32(i32(code) - 1) * scales[row * params.row_scales + col / params.group];
}
