//! Cooperative matrices: which of them a GPU offers, and how a product by them is cut.
//!
//! They are an option and not the default. wgpu calls them experimental: on Vulkan its compiler writes accesses to workgroup
//! memory that are not ordered by barriers to the letter of the memory model that comes with them (gfx-rs/wgpu#8805), and how
//! much faster they are is not known of any device.

use crate::gpu::limits::MOST_THREADS;

/// The matrices that the shader multiplies, and its workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cooperative {
    /// Rows and columns of a matrix.
    pub(crate) side: u32,
    /// Threads of a workgroup.
    pub(crate) threads: u32,
}

/// Subgroups that share a tile, 2 × 2.
pub(crate) const TEAMS: u32 = 4;
/// Most columns: that many products of a weight of at most 2 (code 3 less one) and an int8 add up to 2^24 at most, and to no
/// more on the way, so that every sum is exact in f32.
const MOST_COLS: usize = 1 << 16;

impl Cooperative {
    /// What the shader cannot be compiled without.
    pub(crate) const FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        .union(wgpu::Features::SHADER_F16)
        .union(wgpu::Features::SUBGROUP);

    /// The best that the adapter offers, if any.
    pub(crate) fn offered(adapter: &wgpu::Adapter) -> Option<Self> {
        if !adapter.features().contains(Self::FEATURES) {
            return None;
        }
        let info = adapter.get_info();
        // wgpu does not ask Metal how large subgroups are; those that multiply matrices are of 32 threads.
        let (smallest, largest) = match info.backend {
            wgpu::Backend::Metal => (32, 32),
            _ => (info.subgroup_min_size, info.subgroup_max_size),
        };
        Self::of(&adapter.cooperative_matrix_properties(), smallest, largest)
    }

    /// The same, of a device's matrices and the sizes of its subgroups.
    fn of(offered: &[wgpu::CooperativeMatrixProperties], smallest: u32, largest: u32) -> Option<Self> {
        use wgpu::CooperativeScalarType::{F16, F32};
        let side = [16, 8].into_iter().find(|&side| {
            offered.iter().any(|matrix| {
                (matrix.m_size, matrix.n_size, matrix.k_size) == (side, side, side)
                    && (matrix.ab_type, matrix.cr_type) == (F16, F32)
            })
        })?;
        // Whole subgroups of any of the sizes, four of the largest.
        let whole = smallest.is_power_of_two() && largest.is_power_of_two() && smallest <= largest;
        let threads = TEAMS * largest;
        (whole && threads <= MOST_THREADS).then_some(Self { side, threads })
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
        let of = |offered: &[_]| Cooperative::of(offered, 32, 32).map(|cooperative| cooperative.side);
        assert_eq!(of(&[small, large]), Some(16));
        assert_eq!(of(&[matrices([16; 3], F16, F16), small]), Some(8));
        assert_eq!(
            of(&[matrices([16; 3], F32, F32), matrices([16; 3], I32, I32), matrices([16, 16, 8], F16, F32)]),
            None
        );
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn workgroups_are_whole_subgroups_of_any_size_that_a_device_has() {
        let offered = [matrices([16; 3], F16, F32)];
        for (smallest, largest) in [(4, 4), (8, 8), (8, 32), (32, 32), (32, 64), (64, 64)] {
            let Cooperative { threads, .. } = Cooperative::of(&offered, smallest, largest).unwrap();
            assert!(threads.is_multiple_of(largest) && threads / largest == TEAMS && threads <= MOST_THREADS);
        }
        for (smallest, largest) in [(4, 128), (0, 0), (32, 48), (64, 32)] {
            assert_eq!(Cooperative::of(&offered, smallest, largest), None, "{smallest} to {largest}");
        }
    }
}
