//! What can be said about shaders without a GPU: they are WGSL of core WebGPU (but two, which are an option), every graphics interface's language can say
//! them, and their bindings, parameters and buffers are laid out as Rust takes for granted.

mod bindings;
mod languages;
mod memory;
mod specialisations;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, GlobalVariable, Handle, Module, TypeInner};

use super::Shader;

/// What naga's names for features call core WebGPU has of them: `pack2x16float` and its inverse.
const CORE: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// What cooperative matrices need besides.
const COOPERATIVE: Capabilities = CORE
    .union(Capabilities::SHADER_FLOAT16)
    .union(Capabilities::SHADER_INT16)
    .union(Capabilities::SUBGROUP)
    .union(Capabilities::COOPERATIVE_MATRIX);

/// A shader that was parsed and found valid.
struct Parsed {
    shader: Shader,
    module: Module,
    info: ModuleInfo,
}

impl Parsed {
    /// Every shader of the list.
    fn all() -> impl Iterator<Item = Self> {
        Self::core().chain(specialisations::cooperative().into_iter().map(Self::new))
    }

    /// Those that are valid with nothing but what core WebGPU has.
    fn core() -> impl Iterator<Item = Self> {
        specialisations::core().into_iter().map(Self::new)
    }

    fn new(shader: Shader) -> Self {
        let source = shader.source();
        let module = naga::front::wgsl::parse_str(&source)
            .unwrap_or_else(|fault| panic!("{shader:?}: {}", fault.emit_to_string(&source)));
        let capabilities = match shader {
            Shader::MatmulCooperative { .. } | Shader::AttendCooperative { .. } => COOPERATIVE,
            _ => CORE,
        };
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .validate(&module)
            .unwrap_or_else(|fault| panic!("{shader:?}: {}", fault.emit_to_string(&source)));
        Self { shader, module, info }
    }

    /// The variables of an address space, and what they hold.
    fn variables(
        &self,
        wanted: impl Fn(&AddressSpace) -> bool,
    ) -> impl Iterator<Item = (Handle<GlobalVariable>, &GlobalVariable, &TypeInner)> {
        let all = self.module.global_variables.iter().filter(move |(_, variable)| wanted(&variable.space));
        all.map(|(handle, variable)| (handle, variable, &self.module.types[variable.ty].inner))
    }
}

#[test]
fn every_shader_is_wgsl_with_one_entry_point_main() {
    for Parsed { shader, module, .. } in Parsed::all() {
        let names: Vec<&str> = module.entry_points.iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, ["main"], "{shader:?}");
        assert!(module.overrides.is_empty(), "{shader:?}: pipelines are made without constants");
    }
}

#[test]
fn every_file_of_shaders_is_part_of_a_specialisation() {
    let sources: Vec<String> = Parsed::all().map(|parsed| parsed.shader.source()).collect();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    for folder in [folder.join("shared"), folder] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(sources.iter().any(|source| source.contains(&text)), "nothing uses {}", path.display());
            }
        }
    }
}

/// Writes all sources in core WebGPU for another compiler to judge: `tests/uniformity` reads them.
#[test]
fn sources_are_written_where_they_are_asked_for() {
    let Some(folder) = std::env::var_os("STERNA_SHADERS_OUT").map(std::path::PathBuf::from) else {
        println!("skipped: STERNA_SHADERS_OUT names no folder to write the shaders to");
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    for (number, shader) in specialisations::core().iter().enumerate() {
        let file = folder.join(format!("{number:03}_{}.wgsl", shader.name()));
        std::fs::write(file, format!("// {shader:?}\n{}", shader.source())).unwrap();
    }
}
