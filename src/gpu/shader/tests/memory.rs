//! Workgroups are no larger than core WebGPU allows everywhere, and what their threads share is written whole.

use naga::front::wgsl::parse_str;
use naga::proc::Layouter;
use naga::valid::{Capabilities, FunctionInfo, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Block, Expression, Function, Module, Statement, TypeInner};

use super::Parsed;
use crate::gpu::limits::{MOST_THREADS, WORKGROUP_BYTES};
use crate::gpu::shader::Shader;

#[test]
fn every_workgroup_is_within_the_limits_of_core_webgpu_or_those_asked_for() {
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
        match shader {
            // A device is opened with as much as these need.
            Shader::MatmulCooperative { cut, .. } => assert_eq!(bytes, cut.workgroup_bytes() as usize, "{shader:?}"),
            Shader::AttendCooperative { cut } => assert_eq!(bytes, cut.workgroup_bytes() as usize, "{shader:?}"),
            _ => assert!(bytes <= WORKGROUP_BYTES, "{shader:?}: {bytes} bytes of workgroup memory"),
        }
    }
}

/// Whoever writes a component of a vector may write all of it, in Metal and Direct3D: beside a thread that writes another, that is
/// undefined.
#[test]
fn no_vector_in_workgroup_memory_is_written_by_component() {
    for parsed in Parsed::all() {
        assert!(
            !writes_components(&parsed.module, &parsed.info),
            "{:?}: share scalars, or write vectors whole",
            parsed.shader
        );
    }
}

#[test]
fn writes_to_components_are_seen() {
    let seen = |store: &str| {
        let source = format!(
            "var<workgroup> shared_rows: array<vec4<u32>, 64>;
             fn store_to(to: ptr<function, vec4<u32>>) {{ (*to).x = 1u; }}
             fn store(thread: u32) {{ var own: vec4<u32>; store_to(&own); if thread < 64u {{ {store} }} }}
             @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) thread: u32) {{ store(thread); }}"
        );
        let module = parse_str(&source).unwrap();
        let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).unwrap();
        writes_components(&module, &info)
    };
    assert!(seen("shared_rows[thread].y = 1u;"));
    assert!(seen("shared_rows[thread / 4u][thread % 4u] = 1u;"));
    assert!(seen("for (var i = 0u; i < 4u; i++) { shared_rows[i][thread % 4u] += 1u; }"));
    assert!(!seen("shared_rows[thread] = vec4<u32>(1u);"));
    assert!(!seen("own[thread % 4u] = shared_rows[thread].x;"));
}

fn writes_components(module: &Module, info: &ModuleInfo) -> bool {
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    let entries = module.entry_points.iter().enumerate().map(|(i, entry)| (&entry.function, info.get_entry_point(i)));
    functions.chain(entries).any(|(function, info)| stores_components(&function.body, function, info, module))
}

fn stores_components(block: &Block, function: &Function, info: &FunctionInfo, module: &Module) -> bool {
    let within = |block: &Block| stores_components(block, function, info, module);
    block.iter().any(|statement| match statement {
        Statement::Store { pointer, .. } => {
            let (Expression::Access { base, .. } | Expression::AccessIndex { base, .. }) =
                function.expressions[*pointer]
            else {
                return false;
            };
            match *info[base].ty.inner_with(&module.types) {
                TypeInner::Pointer { base, space: AddressSpace::WorkGroup } => {
                    matches!(module.types[base].inner, TypeInner::Vector { .. })
                }
                TypeInner::ValuePointer { size, space: AddressSpace::WorkGroup, .. } => size.is_some(),
                _ => false,
            }
        }
        Statement::Block(block) => within(block),
        Statement::If { accept, reject, .. } => within(accept) || within(reject),
        Statement::Switch { cases, .. } => cases.iter().any(|case| within(&case.body)),
        Statement::Loop { body, continuing, .. } => within(body) || within(continuing),
        _ => false,
    })
}
