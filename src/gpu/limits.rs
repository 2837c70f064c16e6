//! Numbers that the list of shaders, the cut of verbs into workgroups and the device all hold to: what core WebGPU allows
//! everywhere, and the sizes that shaders are compiled for.

/// Workgroups along one dimension of a dispatch, in core WebGPU.
pub(crate) const MOST_GROUPS: u32 = 65535;
/// Threads of a workgroup, in core WebGPU.
pub(crate) const MOST_THREADS: u32 = 256;
/// Workgroup memory, in core WebGPU.
pub(crate) const WORKGROUP_BYTES: usize = 16384;

/// Threads of a workgroup where each makes one element.
pub(crate) const ELEMENTWISE_THREADS: usize = 64;
/// Threads that normalise and quantise a row together, wherever that is done: the order of their sums.
pub(crate) const QUANTIZE_THREADS: u32 = 256;
/// Rows, and outputs, of the tile that a workgroup makes of a product of many rows.
pub(crate) const TILE: usize = 64;
/// Places of one expert that a workgroup multiplies together: a tile of a product has as many outputs as any, and fewer rows, as experts
/// share them.
pub(crate) const EXPERT_ROWS: usize = 16;
/// Positions whose attention is computed apart, and threads that do it.
pub(crate) const CHUNK: usize = 128;
/// Rounds of positions that attention asks for before it uses the first.
pub(crate) const ROUNDS_AHEAD: usize = 4;
/// Rows of one sequence, and queries of a workgroup, where attention takes several rows together.
pub(crate) const TILE_ROWS: usize = 16;
/// Subgroups that share a workgroup of attention by cooperative matrices, as many queries each as a tile has.
pub(crate) const ATTENTION_TEAMS: u32 = 4;
/// Rows of one sequence that it takes together, those of one head, and queries of a workgroup.
pub(crate) const LARGE_TILE_ROWS: usize = ATTENTION_TEAMS as usize * TILE_ROWS;
