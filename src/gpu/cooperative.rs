//! Cooperative matrices: which of them a GPU offers, and how products and attention by them are cut.
//!
//! wgpu calls them experimental: on Vulkan its compiler writes accesses to workgroup memory that are not ordered by barriers to
//! the letter of the memory model that comes with them (gfx-rs/wgpu#8805). So a device has to show that they are right on it, and
//! worth it (`trial.rs`): that shows whether barriers order them all the same, if not that they do every time.
//!
//! Only square ones are used. Intel's Arc has 8 × 8 with 16 columns between, and naga's WGSL has no name for such. Its inner form
//! could say them, but wgpu cannot ask for the subgroups of 8 threads that they are made for: in those of 32, which Mesa takes
//! then, the shader spills registers by the hundred (`benches/gpu-compilers.md`).

use crate::backend::{CachePrecision, Heads, Row};
use crate::gpu::limits::{ATTENTION_TEAMS, LARGE_TILE_ROWS, MOST_GROUPS, MOST_THREADS, TILE};
use crate::gpu::shader::Cached;
use crate::gpu::step::tiles;

/// How a product by cooperative matrices is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CooperativeCut {
    /// Rows and columns of a matrix.
    pub(crate) side: u32,
    /// Rows, and outputs, of the tile that a workgroup makes.
    pub(crate) tile: u32,
    /// Subgroups that share it.
    pub(crate) teams: u32,
    /// Threads of a workgroup.
    pub(crate) threads: u32,
}

/// How attention of many rows by cooperative matrices is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttentionCut {
    pub(crate) teams: Teams,
    pub(crate) head_dim: u32,
    /// Query heads of a workgroup, which share a key/value head: 1, 2 or 4.
    pub(crate) heads: u32,
}

/// The subgroups that share a workgroup of it, [`ATTENTION_TEAMS`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Teams {
    /// Rows and columns of a matrix.
    pub(crate) side: u32,
    /// Threads of the workgroup.
    pub(crate) threads: u32,
    /// Features of the largest head that workgroup memory has room for: 64 or 128.
    pub(crate) most_features: u32,
}

/// What a device multiplies by: tiles of two sizes, and attention, each where it is offered and worth it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cooperative {
    pub(crate) small: Option<CooperativeCut>,
    pub(crate) large: Option<CooperativeCut>,
    /// How many times as fast the faster of them was, where that was measured.
    pub(crate) speed: Option<f64>,
    pub(crate) attention: Option<Teams>,
    /// How many times as fast attention was.
    pub(crate) attention_speed: Option<f64>,
}

/// Positions that attention takes at once.
const STEP: u32 = 32;

/// Rows, and outputs, of a large tile.
const LARGE_TILE: u32 = 2 * TILE as u32;
/// Subgroups that share a small tile.
const SMALL_TEAMS: u32 = 4;
/// Workgroups that keep a large device busy, one on each of its processors or nearly. Where large tiles would be fewer, small ones are made.
const BUSY_TILES: usize = 96;
/// Values between the beginnings of two rows in workgroup memory: 32 columns in whole 16 bytes, as matrices need, and rows in
/// other banks.
pub(crate) const STRIDE: u32 = 40;
/// Most columns: that many products of a weight of at most 2 (code 3 less one) and an int8 add up to 2^24 at most, and to no
/// more on the way, so that every sum is exact in f32.
const MOST_COLS: usize = 1 << 16;

impl CooperativeCut {
    /// Of `teams` that share a tile, those beside each other along its outputs.
    pub(crate) fn team_outputs(self) -> u32 {
        1 << (self.teams.ilog2() / 2)
    }

    /// Workgroup memory: two tiles of f16, and a matrix of sums for each team.
    pub(crate) fn workgroup_bytes(self) -> u32 {
        2 * self.tile * STRIDE * 2 + self.teams * self.side * self.side * 4
    }
}

impl AttentionCut {
    /// Rows of a workgroup.
    pub(crate) fn rows(self) -> usize {
        LARGE_TILE_ROWS / self.heads as usize
    }

    /// Workgroup memory: keys, values and weights in f16, or half of the queries; scores in f32, sums of weights, two words.
    pub(crate) fn workgroup_bytes(self) -> u32 {
        let Self { teams, head_dim, .. } = self;
        let queries = LARGE_TILE_ROWS as u32;
        let in_turn = STEP * (head_dim + 8) + (head_dim + 2 * queries) * (STEP + 8);
        let halves = in_turn.max(queries * (head_dim + 8));
        2 * halves + 4 * queries * (STEP + 4) + 4 * teams.threads.max(queries) + 2 * 16
    }
}

impl Teams {
    /// How heads are cut of which `together` share a key/value head in such a cache; none where they are not for cooperative matrices.
    pub(crate) fn cut(self, cache: Cached, together: usize) -> Option<AttentionCut> {
        let fits = [64, 128].contains(&cache.head_dim) && cache.head_dim <= self.most_features;
        let heads = 1 << together.trailing_zeros().min(ATTENTION_TEAMS.ilog2());
        let cut = AttentionCut { teams: self, head_dim: cache.head_dim, heads };
        (cache.precision == CachePrecision::F16 && fits).then_some(cut)
    }

    /// The cut that takes most workgroup memory.
    fn largest(self) -> AttentionCut {
        AttentionCut { teams: self, head_dim: self.most_features, heads: ATTENTION_TEAMS }
    }
}

impl Cooperative {
    /// What the shaders cannot be compiled without.
    pub(crate) const FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        .union(wgpu::Features::SHADER_F16)
        .union(wgpu::Features::SHADER_I16)
        .union(wgpu::Features::SUBGROUP);

    /// The best that the adapter offers, if any.
    pub(crate) fn offered(adapter: &wgpu::Adapter) -> Self {
        if !adapter.features().contains(Self::FEATURES) {
            return Self::default();
        }
        let info = adapter.get_info();
        // wgpu does not ask Metal how large subgroups are; those that multiply matrices are of 32 threads.
        let subgroups = match info.backend {
            wgpu::Backend::Metal => (32, 32),
            _ => (info.subgroup_min_size, info.subgroup_max_size),
        };
        let most_bytes = adapter.limits().max_compute_workgroup_storage_size;
        Self::of(&adapter.cooperative_matrix_properties(), subgroups, most_bytes)
    }

    /// The same, of a device's matrices, the smallest and the largest of its subgroups, and its workgroup memory.
    fn of(offered: &[wgpu::CooperativeMatrixProperties], (smallest, largest): (u32, u32), most_bytes: u32) -> Self {
        use wgpu::CooperativeScalarType::{F16, F32};
        let is_square = |matrix: &wgpu::CooperativeMatrixProperties, side| {
            (matrix.m_size, matrix.n_size, matrix.k_size) == (side, side, side)
                && (matrix.ab_type, matrix.cr_type) == (F16, F32)
        };
        let side = [16, 8].into_iter().find(|&side| offered.iter().any(|matrix| is_square(matrix, side)));
        // Whole subgroups of any of the sizes: as many of the largest as there are teams.
        let whole = smallest.is_power_of_two() && largest.is_power_of_two() && smallest <= largest;
        let Some(side) = side.filter(|_| whole) else { return Self::default() };
        let fits = |cut: &CooperativeCut| cut.threads <= MOST_THREADS && cut.workgroup_bytes() <= most_bytes;
        let small = CooperativeCut { side, tile: TILE as u32, teams: SMALL_TEAMS, threads: SMALL_TEAMS * largest };
        // Matrices of 8 × 8 are many in a large tile, and no team has registers for that.
        let teams = MOST_THREADS / largest;
        let large = CooperativeCut { side, tile: LARGE_TILE, teams, threads: MOST_THREADS };
        let small = Some(small).filter(fits);
        let large = Some(large).filter(|cut| small.is_some() && side == 16 && fits(cut));
        let teams = |most_features| Teams { side, threads: ATTENTION_TEAMS * largest, most_features };
        let has_room = |teams: &Teams| teams.threads <= MOST_THREADS && teams.largest().workgroup_bytes() <= most_bytes;
        let attention = [128, 64].map(teams).into_iter().find(has_room);
        Self { small, large, attention, ..Self::default() }
    }

    /// How a product of so many rows and outputs is cut; none where it is not for cooperative matrices.
    pub(crate) fn cut(self, rows: usize, outputs: usize) -> Option<CooperativeCut> {
        let tiles = |cut: &CooperativeCut| rows.div_ceil(cut.tile as usize) * outputs.div_ceil(cut.tile as usize);
        // As much is computed of a tile as of a full one.
        let is_full = |cut: &CooperativeCut| 2 * rows > cut.tile as usize;
        self.large.filter(|cut| is_full(cut) && tiles(cut) >= BUSY_TILES).or(self.small)
    }

    /// How attention of a step's rows is cut, which are so many and make so many tiles of what a workgroup takes; none where they are too
    /// few: these are shared between more workgroups without cooperative matrices.
    pub(crate) fn attention_cut(self, cache: Cached, heads: Heads, rows: &[Row]) -> Option<AttentionCut> {
        let cut = self.attention?.cut(cache, heads.heads / heads.kv_heads)?;
        let workgroups = tiles(rows, cut.rows()).count() * heads.heads / cut.heads as usize;
        // As much is computed of a tile as of a full one.
        let are_full = 2 * rows.len() * heads.heads >= workgroups * LARGE_TILE_ROWS;
        let can = rows.len() * ATTENTION_TEAMS as usize <= MOST_GROUPS as usize;
        (can && are_full && workgroups >= BUSY_TILES).then_some(cut)
    }

    /// Whether anything is offered.
    pub(crate) fn is_any(self) -> bool {
        self.attention.is_some() || self.has_products()
    }

    /// Whether products are.
    pub(crate) fn has_products(self) -> bool {
        self.cuts().next().is_some()
    }

    /// Workgroup memory that the device has to be opened with.
    pub(crate) fn workgroup_bytes(self) -> u32 {
        let of_attention = self.attention.map(|teams| teams.largest().workgroup_bytes());
        self.cuts().map(CooperativeCut::workgroup_bytes).chain(of_attention).max().unwrap_or(0)
    }

    /// How products may be cut.
    pub(crate) fn cuts(self) -> impl Iterator<Item = CooperativeCut> {
        self.small.into_iter().chain(self.large)
    }

    /// Whether sums over this many columns are exact.
    pub(crate) fn is_exact(cols: usize) -> bool {
        cols <= MOST_COLS
    }
}

#[cfg(test)]
mod tests {
    use wgpu::CooperativeScalarType::{F16, F32, I32};
    use wgpu::{CooperativeMatrixProperties, CooperativeScalarType};

    use super::*;

    fn matrices(
        sides: [u32; 3],
        of: CooperativeScalarType,
        into: CooperativeScalarType,
    ) -> CooperativeMatrixProperties {
        let [m_size, n_size, k_size] = sides;
        let saturating_accumulation = false;
        CooperativeMatrixProperties { m_size, n_size, k_size, ab_type: of, cr_type: into, saturating_accumulation }
    }

    #[test]
    fn only_square_matrices_of_f16_with_sums_in_f32_are_used() {
        let (small, large) = (matrices([8; 3], F16, F32), matrices([16; 3], F16, F32));
        let of = |offered: &[_]| Cooperative::of(offered, (32, 32), 1 << 15).small.map(|cut| cut.side);
        assert_eq!(of(&[small, large]), Some(16));
        assert_eq!(of(&[matrices([16; 3], F16, F16), small]), Some(8));
        assert_eq!(
            of(&[matrices([16; 3], F32, F32), matrices([16; 3], I32, I32), matrices([16, 16, 8], F16, F32)]),
            None
        );
        assert_eq!(of(&[matrices([8, 8, 16], F16, F32)]), None, "Intel's");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn workgroups_are_whole_subgroups_of_any_size_that_a_device_has() {
        let offered = [matrices([16; 3], F16, F32)];
        for (smallest, largest) in [(4, 4), (8, 8), (8, 32), (32, 32), (32, 64), (64, 64)] {
            let of = |most_bytes| Cooperative::of(&offered, (smallest, largest), most_bytes);
            for most_bytes in [1 << 14, 1 << 15, 1 << 16] {
                for cut in of(most_bytes).cuts() {
                    assert!(cut.threads.is_multiple_of(largest) && cut.threads / largest == cut.teams);
                    assert!(cut.threads <= MOST_THREADS && cut.workgroup_bytes() <= most_bytes, "{cut:?}");
                }
            }
            assert!(of(1 << 14).small.is_some() && of(1 << 14).large.is_none());
            assert_eq!(of(1 << 15).large.is_some(), largest >= 32, "{largest} threads, 32 KiB");
        }
        assert_eq!(
            Cooperative::of(&offered, (4, 128), 1 << 16),
            Cooperative::default(),
            "workgroups would be too large"
        );
        for (smallest, largest) in [(0, 0), (32, 48), (64, 32)] {
            assert!(!Cooperative::of(&offered, (smallest, largest), 1 << 16).is_any(), "{smallest} to {largest}");
        }
    }

    #[test]
    fn attention_is_for_heads_that_workgroup_memory_has_room_for() {
        let offered = [matrices([16; 3], F16, F32)];
        let most = |(smallest, largest), bytes| {
            Cooperative::of(&offered, (smallest, largest), bytes).attention.map(|teams| teams.most_features)
        };
        assert_eq!([1 << 14, 1 << 15, 48 << 10].map(|bytes| most((32, 32), bytes)), [None, Some(64), Some(128)]);
        assert_eq!((most((32, 64), 48 << 10), most((64, 128), 48 << 10)), (Some(128), None));
        let teams = Cooperative::of(&offered, (32, 32), 48 << 10).attention.unwrap();
        let cut = |precision, head_dim, together| {
            teams.cut(Cached { precision, head_dim }, together).map(|cut| (cut.heads, cut.rows()))
        };
        let halves = [1, 2, 3, 4, 6, 8].map(|together| cut(CachePrecision::F16, 128, together));
        assert_eq!(halves, [(1, 64), (2, 32), (1, 64), (4, 16), (2, 32), (4, 16)].map(Some));
        assert_eq!((cut(CachePrecision::F32, 128, 4), cut(CachePrecision::F16, 256, 4)), (None, None));
        assert_eq!((cut(CachePrecision::F16, 80, 4), cut(CachePrecision::F16, 64, 4)), (None, Some((4, 16))));
    }

    #[test]
    fn attention_is_for_rows_that_keep_a_large_device_busy() {
        let all = Cooperative::of(&[matrices([16; 3], F16, F32)], (32, 32), 48 << 10);
        let cache = Cached { precision: CachePrecision::F16, head_dim: 128 };
        let takes = |offered: Cooperative, heads: (usize, usize), lens: &[u32]| {
            let heads = Heads { heads: heads.0, kv_heads: heads.1, head_dim: 128 };
            let runs = (0..).zip(lens).flat_map(|(sequence, &len)| {
                (0..len).map(move |position| Row { sequence, position, wants_logits: false })
            });
            offered.attention_cut(cache, heads, &runs.collect::<Vec<_>>()).is_some()
        };
        assert_eq!([512, 305, 304].map(|rows| takes(all, (20, 5), &[rows])), [true, true, false]);
        assert_eq!([321, 320].map(|rows| takes(all, (16, 16), &[rows])), [true, false]);
        assert!(takes(all, (20, 5), &[200, 150]) && !takes(all, (20, 5), &[7; 64]), "tiles are more than half empty");
        assert!(!takes(Cooperative { attention: None, ..all }, (20, 5), &[512]));
    }

    #[test]
    fn large_tiles_are_made_where_there_are_enough_of_them() {
        let all = Cooperative::of(&[matrices([16; 3], F16, F32)], (32, 32), 1 << 15);
        let tile = |offered: Cooperative, rows, outputs| offered.cut(rows, outputs).map(|cut| cut.tile);
        assert_eq!(tile(all, 512, 128 * 24), Some(128));
        assert_eq!(tile(all, 512, 128 * 23), Some(64));
        assert_eq!(tile(all, 65, 128 * 95 + 1), Some(128));
        assert_eq!(tile(all, 64, 1 << 15), Some(64), "half of it would be empty");
        assert_eq!(tile(Cooperative { large: None, ..all }, 512, 1 << 15), Some(64));
        let large = Cooperative { small: None, ..all };
        assert_eq!((tile(large, 512, 128 * 24), tile(large, 512, 128 * 23)), (Some(128), None));
        assert_eq!(tile(Cooperative::default(), 512, 1 << 15), None);
    }
}
