//! Sizes for which a GPU would need more workgroups than there may be: refused where room is made for them, not in the step that
//! comes to need them.

use sterna::backend::{Backend, CachePrecision, CacheShape, DeltaHeads, Heads, Recurrence, RecurrentShape, Rotation};
use sterna::gpu::Gpu;
use sterna::{Error, Result};

use crate::PACKED;

/// Workgroups along one axis, which WebGPU promises everywhere and no more.
const MOST: usize = 65535;

fn refused<T>(result: Result<T>, says: &str) {
    match result {
        Err(Error::Unsupported(error)) => assert!(error.contains(says), "{error}"),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{says}: it was taken"),
    }
}

#[test]
fn more_workgroups_than_there_may_be_are_refused() {
    for device in crate::gpu::devices(PACKED) {
        let mut gpu = Gpu::new(&device);
        gpu.basis(1, &vec![1.0; MOST]).unwrap();
        refused(gpu.basis(1, &vec![1.0; MOST + 1]), "65536 blocks of 1");
        let recurrent = |value_heads| RecurrentShape {
            slots: 1,
            taps: 2,
            heads: DeltaHeads { key_heads: 1, value_heads, head_dim: 4 },
        };
        gpu.recurrent(recurrent(MOST)).unwrap();
        refused(gpu.recurrent(recurrent(MOST + 1)), "65536 recurrent heads of 4 features");
        let shape = CacheShape {
            slots: 1,
            positions: 2,
            kv_heads: 1,
            head_dim: 4,
            precision: CachePrecision::F32,
            window: None,
        };
        let cache = gpu.cache(shape).unwrap();
        let heads = |heads| Heads { heads, kv_heads: 1, head_dim: 4 };
        gpu.attend_room(&cache, heads(MOST - 2)).unwrap();
        refused(gpu.attend_room(&cache, heads(MOST - 1)), "65534 heads");
    }
}
