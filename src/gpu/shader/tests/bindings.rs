//! Bindings, parameters and the description of a step are in WGSL what they are in Rust.

use std::collections::{BTreeMap, BTreeSet};

use naga::{AddressSpace, ArraySize, ResourceBinding, StorageAccess, StructMember, TypeInner};

use super::Parsed;
use crate::backend::Row;
use crate::gpu::recorder::{MOST_BINDINGS, MOST_PARAMS};
use crate::gpu::shader::{Access, Shader};
use crate::gpu::step;

#[test]
fn storage_is_bound_from_1_on_as_rust_says() {
    for parsed in Parsed::all() {
        let shader = parsed.shader;
        assert!(shader.access().len() <= MOST_BINDINGS, "{shader:?}");
        let mut found = BTreeMap::new();
        for (_, variable, _) in parsed.variables(|space| matches!(space, AddressSpace::Storage { .. })) {
            let AddressSpace::Storage { access } = variable.space else { unreachable!("filtered") };
            let ResourceBinding { group, binding } = variable.binding.expect("storage is bound");
            let access = if access.contains(StorageAccess::STORE) { Access::Write } else { Access::Read };
            assert_eq!(found.insert((group, binding), access), None, "{shader:?} binds {binding} twice");
        }
        let expected = (1..).zip(shader.access()).map(|(binding, access)| ((0, binding), *access)).collect();
        assert_eq!(found, expected, "{shader:?}");
    }
}

#[test]
fn no_file_binds_what_none_of_its_specialisations_uses() {
    let (mut bound, mut used) = (BTreeSet::new(), BTreeSet::new());
    for parsed in Parsed::all() {
        for (handle, variable, _) in parsed.variables(|_| true).filter(|(_, variable, _)| variable.binding.is_some()) {
            let place = (parsed.shader.name(), variable.name.clone());
            bound.insert(place.clone());
            if !parsed.info.get_entry_point(0)[handle].is_empty() {
                used.insert(place);
            }
        }
    }
    let unused: Vec<_> = bound.difference(&used).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn params_are_the_named_words_of_binding_0() {
    for parsed in Parsed::all() {
        let shader = parsed.shader;
        let uniforms: Vec<_> = parsed.variables(|space| *space == AddressSpace::Uniform).collect();
        let [(_, variable, TypeInner::Struct { members, .. })] = uniforms[..] else {
            panic!("{shader:?} has other uniforms than a struct");
        };
        assert_eq!(variable.binding, Some(ResourceBinding { group: 0, binding: 0 }), "{shader:?}");
        assert_eq!(variable.name.as_deref(), Some("params"), "{shader:?}");
        let names: Vec<&str> = members.iter().map(name).collect();
        assert_eq!(names, shader.params().collect::<Vec<_>>(), "{shader:?}");
        assert!(names.len() <= MOST_PARAMS, "{shader:?}");
        for (place, member) in members.iter().enumerate() {
            let TypeInner::Scalar(scalar) = parsed.module.types[member.ty].inner else {
                panic!("{shader:?}: {} is no number", name(member));
            };
            assert_eq!((scalar.width, member.offset as usize), (4, 4 * place), "{shader:?}: {}", name(member));
        }
    }
}

#[test]
fn a_step_is_described_as_shaders_read_it() {
    let row = |sequence, position, wants_logits| Row { sequence, position, wants_logits };
    let rows = [row(7, 70, false), row(8, 80, true), row(9, 90, false), row(10, 100, true)];
    let mut words = vec![99; 3];
    step::describe(&rows, 0..2, &mut words);
    assert_eq!(words[1], 2);

    let parsed = Parsed::new(Shader::Norm { selected: true, add: false });
    let step = parsed.variables(|_| true).find(|(_, variable, _)| variable.name.as_deref() == Some("step"));
    let (_, _, TypeInner::Struct { members, .. }) = step.expect("a norm of some rows looks at the step") else {
        panic!("a step is a struct");
    };
    let entries = find(members, "entries");
    let TypeInner::Array { base, size: ArraySize::Dynamic, stride } = parsed.module.types[entries.ty].inner else {
        panic!("a step has as many entries as rows");
    };
    let TypeInner::Struct { members: ref entry, .. } = parsed.module.types[base].inner else {
        panic!("an entry is a struct");
    };
    assert_eq!(words.len() * 4, entries.offset as usize + rows.len() * stride as usize);
    let header = |name| words[find(members, name).offset as usize / 4];
    assert_eq!((header("rows"), header("selected")), (4, 2));
    let column = |name| -> Vec<u32> {
        let first = entries.offset + find(entry, name).offset;
        (0..4).map(|i| words[((first + i * stride) / 4) as usize]).collect()
    };
    assert_eq!(column("sequence"), [7, 8, 9, 10]);
    assert_eq!(column("position"), [70, 80, 90, 100]);
    assert_eq!(column("selected")[..2], [1, 3], "places of the rows that want logits");
    assert_eq!((header("tiles"), column("tile")), (4, vec![0, 1, 2, 3]), "each row is of another sequence");
    let prompts = [(1, 20), (2, 3), (1, 1)].map(|(sequence, count)| (0..count).map(move |i| row(sequence, i, false)));
    step::describe(&prompts.into_iter().flatten().collect::<Vec<_>>(), 0..0, &mut words);
    let tile = (entries.offset + find(entry, "tile").offset) as usize / 4;
    let begins: Vec<u32> = words[tile..].iter().step_by(stride as usize / 4).take(4).copied().collect();
    assert_eq!((words[find(members, "tiles").offset as usize / 4], begins), (4, vec![0, 16, 20, 23]));
    let prompts = [(1, 130), (2, 3)].map(|(sequence, count)| (0..count).map(move |i| row(sequence, i, false)));
    step::describe(&prompts.into_iter().flatten().collect::<Vec<_>>(), 0..0, &mut words);
    let large_tile = (entries.offset + find(entry, "large_tile").offset) as usize / 4;
    let begins: Vec<u32> = words[large_tile..].iter().step_by(stride as usize / 4).take(4).copied().collect();
    assert_eq!(begins, [0, 64, 128, 130]);
}

fn name(member: &StructMember) -> &str {
    member.name.as_deref().expect("members have names")
}

fn find<'a>(members: &'a [StructMember], wanted: &str) -> &'a StructMember {
    members.iter().find(|member| name(member) == wanted).unwrap_or_else(|| panic!("there is no {wanted}"))
}
