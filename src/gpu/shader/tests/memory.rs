//! Workgroups are no larger than core WebGPU allows everywhere.

use naga::AddressSpace;
use naga::proc::Layouter;

use super::Parsed;
use crate::gpu::limits::{MOST_THREADS, WORKGROUP_BYTES};

#[test]
fn every_workgroup_is_within_the_limits_of_core_webgpu() {
    for parsed in Parsed::all() {
        let shader = parsed.shader;
        let [x, y, z] = parsed.module.entry_points[0].workgroup_size;
        assert!((1..=MOST_THREADS).contains(&(x * y * z)), "{shader:?}: {x} × {y} × {z} threads");
        let mut layouts = Layouter::default();
        layouts.update(parsed.module.to_ctx()).unwrap();
        let sizes = parsed.variables(|space| *space == AddressSpace::WorkGroup).map(|(_, variable, _)| {
            // WebGPU counts each variable in whole 16 bytes.
            layouts[variable.ty].size.next_multiple_of(16) as usize
        });
        let bytes: usize = sizes.sum();
        assert!(bytes <= WORKGROUP_BYTES, "{shader:?}: {bytes} bytes of workgroup memory");
    }
}
