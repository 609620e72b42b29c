//! Makes valid modules out of arbitrary bytes, most by wasm-smith: such as both engines of `sandbox-host` take, and small
//! enough that a test can look at all that they export. Knows no engine.

mod expressions;

use arbitrary::Unstructured;
use wasm_encoder::{EntityType, ImportSection, Module as Encoder, TypeSection, ValType};
use wasm_smith::{Config, InstructionKind, InstructionKinds, Module};

/// What a module may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All that both engines have and that has the same results everywhere. It may import functions of the host.
    Any,
    /// The same without floating-point numbers and vectors.
    Integers,
    /// As `Any`, but without imports, and the same on an engine without limits, fuel and canonical NaNs: its memories and
    /// tables have maximums, it counts its loops and calls in a global and traps by `unreachable` after some thousands,
    /// and it makes its NaNs canonical itself.
    Ending,
    /// Few kinds of instructions, but such as belong together, see [`expressions`].
    Expressions,
    /// The same without floating-point numbers.
    IntegerExpressions,
}

impl Kind {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "any" => Some(Self::Any),
            "integers" => Some(Self::Integers),
            "ending" => Some(Self::Ending),
            "expressions" => Some(Self::Expressions),
            "integer-expressions" => Some(Self::IntegerExpressions),
            _ => None,
        }
    }
}

/// How many loops and calls a module of the kind `Ending` has.
const ENDS_AFTER: u32 = 5_000;

/// The binary of a module; `None` if none can be made of the bytes.
pub fn module(kind: Kind, bytes: &[u8]) -> Option<Vec<u8>> {
    match kind {
        Kind::Expressions => return expressions::module(bytes, true),
        Kind::IntegerExpressions => return expressions::module(bytes, false),
        Kind::Any | Kind::Integers | Kind::Ending => {}
    }
    let mut module = Module::new(config(kind), &mut Unstructured::new(bytes)).ok()?;
    if kind == Kind::Ending {
        module.ensure_termination(ENDS_AFTER).ok()?;
    }
    Some(module.to_bytes())
}

/// So many bytes for a number: always the same for the same number, and nothing like those for another.
pub fn seed(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn config(kind: Kind) -> Config {
    use InstructionKind::{Aggregate, Control, Memory, Numeric, Parametric, Reference, Table, Variable, Vector};
    let has_floats = kind != Kind::Integers;
    let mut kinds = vec![Aggregate, Control, Memory, Numeric, Parametric, Reference, Table, Variable];
    if has_floats {
        kinds.push(Vector);
    }
    let may_import = kind != Kind::Ending;
    Config {
        available_imports: may_import.then(|| host_functions(has_floats)),
        max_imports: if may_import { 4 } else { 0 },
        allow_start_export: true,
        export_everything: true,
        allow_floats: has_floats,
        simd_enabled: has_floats,
        canonicalize_nans: kind == Kind::Ending,
        memory_max_size_required: kind == Kind::Ending,
        table_max_size_required: kind == Kind::Ending,
        allowed_instructions: InstructionKinds::new(&kinds),
        min_funcs: 1,
        max_funcs: 8,
        max_globals: 8,
        // V8 as of Node 20 has neither several memories nor arithmetic in constants.
        max_memories: if kind == Kind::Ending { 1 } else { 2 },
        extended_const_enabled: kind != Kind::Ending,
        max_memory32_bytes: 8 * 65_536,
        max_tables: 2,
        max_table_elements: 100,
        max_elements: 20,
        max_element_segments: 5,
        max_data_segments: 5,
        // What can never be reached, of which long functions have much, is what the engines count differently.
        max_instructions: if kind == Kind::Integers { 40 } else { 150 },
        max_values: 6,
        threads_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        tail_call_enabled: false,
        relaxed_simd_enabled: false,
        wide_arithmetic_enabled: false,
        compact_imports_enabled: false,
        custom_page_sizes_enabled: false,
        ..Config::default()
    }
}

/// A module that imports what there is to import.
fn host_functions(has_floats: bool) -> Vec<u8> {
    let integers: [(&[ValType], &[ValType]); 4] = [
        (&[], &[]),
        (&[ValType::I32], &[ValType::I32]),
        (&[ValType::I64, ValType::I32], &[]),
        (&[], &[ValType::I64, ValType::I32]),
    ];
    let floats: [(&[ValType], &[ValType]); 2] =
        [(&[ValType::F32], &[ValType::F64]), (&[ValType::F64, ValType::I32], &[ValType::F32])];
    let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
    let functions = integers.iter().chain(floats.iter().filter(|_| has_floats));
    for (index, (params, results)) in functions.enumerate() {
        types.ty().function(params.iter().copied(), results.iter().copied());
        imports.import("host", &format!("f{index}"), EntityType::Function(index as u32));
    }
    let mut module = Encoder::new();
    module.section(&types).section(&imports);
    module.finish()
}
