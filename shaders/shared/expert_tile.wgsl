// Places of one expert that are multiplied together: some of those that are sorted.
struct ExpertTile {
    expert: u32, // NO_EXPERT of a tile without places
    first: u32,
    end: u32,
}

const NO_EXPERT: u32 = 0xffffffffu;
