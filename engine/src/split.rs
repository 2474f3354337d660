//! Splits a pre-initialised module into code and memory image.
//!
//! What remains of the module has no data segments; the image holds what they wrote. The split is only done where
//! an instance is nothing but code, memory and globals: one plain memory, `__stack_pointer` the only mutable global,
//! no start function, nothing that changes a table or needs a data segment at run time.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{DataKind, Operator, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures};

use crate::image::IMAGE_ALIGNMENT;

/// Name under which the stack pointer is exported.
pub(crate) const STACK_POINTER: &str = "__stack_pointer";
const WASM_PAGE: u64 = 65_536;

/// Code and image of a module.
pub(crate) struct Split {
    /// The module without data segments; exports [`STACK_POINTER`].
    pub(crate) code: Vec<u8>,
    /// What memory holds at the start, padded with zeros to [`IMAGE_ALIGNMENT`].
    pub(crate) image: Vec<u8>,
    /// Size of memory at the start, in bytes.
    pub(crate) memory_bytes: u64,
}

/// A module that is more than code, memory and one global.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SplitError {
    #[error("module cannot be read: {0}")]
    Malformed(#[from] wasmparser::BinaryReaderError),
    #[error("module cannot be split: {0}")]
    Unsuitable(String),
    #[error("module cannot be written again: {0}")]
    Reencode(#[from] wasm_encoder::reencode::Error),
}

fn unsuitable<T>(why: impl Into<String>) -> Result<T, SplitError> {
    Err(SplitError::Unsuitable(why.into()))
}

/// Splits `wasm`.
pub(crate) fn split(wasm: &[u8]) -> Result<Split, SplitError> {
    let mut out = Module::new();
    let mut image: Vec<u8> = Vec::new();
    let mut memory_bytes = None;
    let mut imported_globals = 0_u32;
    let mut stack_pointer = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        match &payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    match import?.ty {
                        TypeRef::Global(_) => imported_globals += 1,
                        TypeRef::Memory(_) => return unsuitable("it imports a memory"),
                        TypeRef::Table(_) => return unsuitable("it imports a table"),
                        _ => {}
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    let memory = memory?;
                    if memory.memory64 || memory.shared || memory.page_size_log2.is_some() || memory_bytes.is_some() {
                        return unsuitable("it needs one plain 32-bit memory");
                    }
                    memory_bytes = Some(memory.initial * WASM_PAGE);
                }
            }
            Payload::GlobalSection(section) => {
                for (index, global) in (imported_globals..).zip(section.clone()) {
                    let global = global?;
                    if !global.ty.mutable {
                        continue;
                    }
                    if stack_pointer.is_some() || global.ty.content_type != ValType::I32 {
                        return unsuitable("it has a mutable global besides the stack pointer");
                    }
                    stack_pointer = Some(index);
                }
            }
            Payload::StartSection { .. } => return unsuitable("it has a start function"),
            Payload::DataSection(section) => {
                for data in section.clone() {
                    let data = data?;
                    let DataKind::Active { memory_index: 0, offset_expr } = data.kind else {
                        if data.data.is_empty() {
                            continue; // wasmtime-wizer leaves empty passive segments behind
                        }
                        return unsuitable("it has a passive data segment");
                    };
                    let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else {
                        return unsuitable("a data segment has no constant offset");
                    };
                    let start = value.cast_unsigned() as usize;
                    let end = start + data.data.len();
                    if end as u64 > memory_bytes.unwrap_or(0) {
                        return unsuitable("its data does not fit its memory"); // before an image is made that large
                    }
                    if image.len() < end {
                        image.resize(end, 0);
                    }
                    image[start..end].copy_from_slice(data.data); // a later segment wins, as in an instantiation
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader()? {
                    let operator = operator?;
                    if changes_hidden_state(&operator) {
                        return unsuitable(format!("it uses {operator:?}"));
                    }
                }
            }
            _ => {}
        }
        match &payload {
            Payload::ExportSection(section) => {
                let mut exports = ExportSection::new();
                for export in section.clone() {
                    let export = export?;
                    if export.name != STACK_POINTER {
                        RoundtripReencoder.parse_export(&mut exports, export)?;
                    }
                }
                if let Some(index) = stack_pointer {
                    exports.export(STACK_POINTER, ExportKind::Global, index);
                }
                out.section(&exports);
            }
            Payload::DataSection(_) | Payload::DataCountSection { .. } => {}
            Payload::CustomSection(_) => {} // names and producers: nothing a run needs
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    // The parser says where the code section ends before it has seen so much.
                    let Some(data) = wasm.get(range) else { return unsuitable("a section is cut off") };
                    out.section(&RawSection { id, data });
                }
            }
        }
    }
    let Some(memory_bytes) = memory_bytes else { return unsuitable("it has no memory") };
    if stack_pointer.is_none() {
        return unsuitable("it has no stack pointer");
    }
    image.resize(image.len().max(1).next_multiple_of(IMAGE_ALIGNMENT), 0);
    if image.len() as u64 > memory_bytes {
        return unsuitable("its data does not fit its memory");
    }
    let code = out.finish();
    Validator::new_with_features(WasmFeatures::default()).validate_all(&code)?;
    Ok(Split { code, image, memory_bytes })
}

/// Whether an instruction changes state outside memory and globals, or needs a data segment.
fn changes_hidden_state(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryInit { .. }
            | Operator::DataDrop { .. }
            | Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
    )
}
