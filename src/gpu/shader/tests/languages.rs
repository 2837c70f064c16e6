//! Every shader can be said in the languages of all graphics interfaces: Vulkan's SPIR-V, Metal's MSL, Direct3D's HLSL, and
//! GLSL for OpenGL ES.

use anyhow::Result;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::{ResourceBinding, ShaderStage};

use super::{Parsed, specialisations};
use crate::gpu::shader::{Access, Shader};

type Say = fn(&Parsed) -> Result<()>;

#[test]
fn every_shader_of_core_webgpu_can_be_said_in_every_language() {
    let languages: [(&str, Say); 7] = [
        ("SPIR-V 1.0", |parsed| to_spirv(parsed, (1, 0), &[spv::Capability::Shader])),
        ("SPIR-V 1.6 with packed dot products", |parsed| to_spirv(parsed, (1, 6), &PACKED_DOT)),
        ("MSL 2.1", |parsed| to_msl(parsed, (2, 1))),
        ("HLSL 5.1", |parsed| to_hlsl(parsed, hlsl::ShaderModel::V5_1)),
        ("HLSL 6.0", |parsed| to_hlsl(parsed, hlsl::ShaderModel::V6_0)),
        ("HLSL 6.4", |parsed| to_hlsl(parsed, hlsl::ShaderModel::V6_4)),
        ("GLSL ES 3.1", to_glsl_es),
    ];
    for parsed in Parsed::core() {
        for (language, say) in languages {
            say(&parsed).unwrap_or_else(|why| panic!("{:?} in {language}: {why}", parsed.shader));
        }
    }
}

#[test]
fn cooperative_matrices_can_be_said_where_devices_have_them() {
    for cooperative in specialisations::cooperative() {
        let parsed = Parsed::new(cooperative);
        to_spirv(&parsed, (1, 6), &COOPERATIVE).unwrap_or_else(|why| panic!("{cooperative:?} in SPIR-V: {why}"));
        // naga writes 16 × 16 too, but Metal has 8 × 8 only.
        let side = match cooperative {
            Shader::MatmulCooperative { cut, .. } => cut.side,
            Shader::AttendCooperative { cut } => cut.teams.side,
            other => panic!("{other:?} has no cooperative matrices"),
        };
        if side == 8 {
            to_msl(&parsed, (2, 4)).unwrap_or_else(|why| panic!("{cooperative:?} in MSL: {why}"));
        }
    }
}

const COOPERATIVE: [spv::Capability; 9] = [
    spv::Capability::Shader,
    spv::Capability::Float16,
    spv::Capability::Int16,
    spv::Capability::StorageBuffer16BitAccess,
    spv::Capability::UniformAndStorageBuffer16BitAccess,
    spv::Capability::StorageInputOutput16,
    spv::Capability::GroupNonUniform,
    spv::Capability::CooperativeMatrixKHR,
    spv::Capability::VulkanMemoryModel,
];

const PACKED_DOT: [spv::Capability; 3] =
    [spv::Capability::Shader, spv::Capability::DotProduct, spv::Capability::DotProductInput4x8BitPacked];

fn to_spirv(parsed: &Parsed, lang_version: (u8, u8), capabilities: &[spv::Capability]) -> Result<()> {
    let capabilities = Some(capabilities.iter().copied().collect());
    let options = spv::Options { lang_version, capabilities, ..Default::default() };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    spv::write_vec(&parsed.module, &parsed.info, &options, Some(&pipeline))?;
    Ok(())
}

/// Slots are given as wgpu gives them: bindings in their order, then the sizes of runtime-sized arrays.
fn to_msl(parsed: &Parsed, lang_version: (u8, u8)) -> Result<()> {
    let storage = parsed.shader.access();
    let mut slots = msl::EntryPointResources { sizes_buffer: Some(1 + storage.len() as u8), ..Default::default() };
    for (slot, access) in [Access::Read].iter().chain(storage).enumerate() {
        let mutable = *access == Access::Write;
        let target = msl::BindTarget { buffer: Some(slot as u8), mutable, ..Default::default() };
        slots.resources.insert(ResourceBinding { group: 0, binding: slot as u32 }, target);
    }
    let options = msl::Options {
        lang_version,
        per_entry_point_map: [("main".into(), slots)].into(),
        fake_missing_bindings: false,
        ..Default::default()
    };
    let pipeline = msl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, "main".into())),
        allow_and_force_point_size: false,
        vertex_pulling_transform: false,
        vertex_buffer_mappings: Vec::new(),
        binding_array_length_map: Default::default(),
    };
    let (_, info) = msl::write_string(&parsed.module, &parsed.info, &options, &pipeline)?;
    info.entry_point_names.into_iter().try_for_each(|name| Ok(name.map(drop)?))
}

fn to_hlsl(parsed: &Parsed, shader_model: hlsl::ShaderModel) -> Result<()> {
    let options = hlsl::Options { shader_model, ..Default::default() };
    let pipeline = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".into())) };
    let mut text = String::new();
    let info = hlsl::Writer::new(&mut text, &options, &pipeline).write(&parsed.module, &parsed.info, None)?;
    info.entry_point_names.into_iter().try_for_each(|name| Ok(name.map(drop)?))
}

fn to_glsl_es(parsed: &Parsed) -> Result<()> {
    let options = glsl::Options { version: glsl::Version::new_gles(310), ..Default::default() };
    let pipeline =
        glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into(), multiview: None };
    let mut text = String::new();
    let policies = BoundsCheckPolicies::default();
    glsl::Writer::new(&mut text, &parsed.module, &parsed.info, &options, &pipeline, policies)?.write()?;
    Ok(())
}
