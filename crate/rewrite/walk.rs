//! Reads a module once, validates it, and shows its functions to all passes.

use std::ops::Range;

use wasmparser::{
    Encoding, FuncValidator, FuncValidatorAllocations, FunctionBody, Operator, Parser, Payload, ValidPayload,
    Validator, ValidatorResources, WasmFeatures,
};

use super::{BodyEdits, Edits, Sections, at};
use crate::error::CompileError;

/// What the validator knows of the function that a pass looks at.
pub type Function = FuncValidator<ValidatorResources>;

/// One kind of change to modules. Two passes combine as a pair: whatever the first one inserts before an
/// operator must belong before whatever the second inserts after it.
pub trait Pass {
    /// Whether the pass needs to see a module's functions at all.
    fn is_needed(&self) -> bool {
        true
    }

    /// Whether [`Pass::operator`] needs to see the operators that begin with this byte.
    fn wants(&self, _opcode: u8) -> bool {
        false
    }

    /// Called when a function begins.
    fn function(&mut self, _body: &mut BodyEdits<'_>) {}

    /// Called for an operator that begins with a wanted byte. It has not been validated yet, but
    /// everything before it has.
    fn operator(
        &mut self,
        _operator: &Operator<'_>,
        _function: &Function,
        _body: &mut BodyEdits<'_>,
    ) -> Result<(), CompileError> {
        Ok(())
    }

    /// Called when an operator, wanted or not, has been validated.
    fn passed(&mut self, _opcode: u8) {}

    /// Called when a function ends.
    fn end_of_function(&mut self, _function: &Function, _body: &mut BodyEdits<'_>) -> Result<(), CompileError> {
        Ok(())
    }

    /// Called after all functions.
    fn end(&mut self, _sections: &Sections<'_>, _edits: &mut Edits) {}
}

/// Changes nothing.
impl Pass for () {
    fn is_needed(&self) -> bool {
        false
    }
}

impl<A: Pass, B: Pass> Pass for (A, B) {
    fn is_needed(&self) -> bool {
        self.0.is_needed() || self.1.is_needed()
    }

    fn wants(&self, opcode: u8) -> bool {
        self.0.wants(opcode) || self.1.wants(opcode)
    }

    fn function(&mut self, body: &mut BodyEdits<'_>) {
        self.0.function(body);
        self.1.function(body);
    }

    fn operator(
        &mut self,
        operator: &Operator<'_>,
        function: &Function,
        body: &mut BodyEdits<'_>,
    ) -> Result<(), CompileError> {
        self.0.operator(operator, function, body)?;
        self.1.operator(operator, function, body)
    }

    fn passed(&mut self, opcode: u8) {
        self.0.passed(opcode);
        self.1.passed(opcode);
    }

    fn end_of_function(&mut self, function: &Function, body: &mut BodyEdits<'_>) -> Result<(), CompileError> {
        self.0.end_of_function(function, body)?;
        self.1.end_of_function(function, body)
    }

    fn end(&mut self, sections: &Sections<'_>, edits: &mut Edits) {
        self.0.end(sections, edits);
        self.1.end(sections, edits);
    }
}

impl<P: Pass> Pass for Option<P> {
    fn is_needed(&self) -> bool {
        self.as_ref().is_some_and(P::is_needed)
    }

    fn wants(&self, opcode: u8) -> bool {
        self.as_ref().is_some_and(|pass| pass.wants(opcode))
    }

    fn function(&mut self, body: &mut BodyEdits<'_>) {
        if let Some(pass) = self {
            pass.function(body);
        }
    }

    fn operator(
        &mut self,
        operator: &Operator<'_>,
        function: &Function,
        body: &mut BodyEdits<'_>,
    ) -> Result<(), CompileError> {
        self.as_mut().map_or(Ok(()), |pass| pass.operator(operator, function, body))
    }

    fn passed(&mut self, opcode: u8) {
        if let Some(pass) = self {
            pass.passed(opcode);
        }
    }

    fn end_of_function(&mut self, function: &Function, body: &mut BodyEdits<'_>) -> Result<(), CompileError> {
        self.as_mut().map_or(Ok(()), |pass| pass.end_of_function(function, body))
    }

    fn end(&mut self, sections: &Sections<'_>, edits: &mut Edits) {
        if let Some(pass) = self {
            pass.end(sections, edits);
        }
    }
}

/// Shows a module to a pass. With `validate`, it refuses an invalid module, by these features: rewriting
/// may make an invalid module valid, so validation must come first. Without it, the module must have
/// been validated before, and no pass sees operators.
///
/// # Errors
///
/// Reports what is wrong with the module, or what a pass refuses.
pub fn walk<P: Pass>(
    sections: &Sections<'_>,
    validate: Option<WasmFeatures>,
    pass: &mut P,
    edits: &mut Edits,
) -> Result<(), CompileError> {
    match validate {
        Some(features) => validated(sections, features, pass, edits)?,
        None => unvalidated(sections, pass, edits)?,
    }
    pass.end(sections, edits);
    Ok(())
}

fn validated<P: Pass>(
    sections: &Sections<'_>,
    features: WasmFeatures,
    pass: &mut P,
    edits: &mut Edits,
) -> Result<(), CompileError> {
    let wanted: [bool; 256] = std::array::from_fn(|opcode| pass.wants(opcode as u8));
    let mut validator = Validator::new_with_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    // Where the previous body ended, or at first where the count of the code section ends.
    let mut begin = 0;
    for payload in Parser::new(0).parse_all(sections.wasm()) {
        let payload = payload?;
        match &payload {
            Payload::Version { encoding: Encoding::Component, .. } => {
                return Err(CompileError::Refused("a component is not a module".to_owned()));
            }
            Payload::CodeSectionStart { range, .. } => begin = entries_of_code(sections, range),
            _ => {}
        }
        if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
            let mut function = function.into_validator(allocations);
            validated_body(&mut function, &body, begin, &wanted, pass, edits)?;
            begin = at(body.range().end);
            allocations = function.into_allocations();
        }
    }
    Ok(())
}

fn validated_body<P: Pass>(
    function: &mut Function,
    body: &FunctionBody<'_>,
    begin: usize,
    wanted: &[bool; 256],
    pass: &mut P,
    edits: &mut Edits,
) -> Result<(), CompileError> {
    let bytes = body.as_bytes();
    let content = body.range().start;
    let mut reader = body.get_binary_reader();
    function.read_locals(&mut reader)?;
    let instructions = at(reader.original_position());
    let mut body = edits.body(body, begin, function.len_locals())?;
    pass.function(&mut body);
    while !reader.eof() {
        let offset = reader.original_position();
        let opcode = bytes.get(at(offset - content)).copied().unwrap_or(0);
        if wanted[usize::from(opcode)] {
            body.begin_operator(at(offset));
            let operator = reader.peek_operator(&function.visitor(offset))?;
            pass.operator(&operator, function, &mut body)?;
            reader.visit_operator(&mut function.visitor(offset))??;
            body.end_operator(at(reader.original_position()));
        } else {
            reader.visit_operator(&mut function.visitor(offset))??;
        }
        pass.passed(opcode);
    }
    reader.finish_expression(&function.visitor(reader.original_position()))?;
    pass.end_of_function(function, &mut body)?;
    body.end(instructions);
    Ok(())
}

fn unvalidated<P: Pass>(sections: &Sections<'_>, pass: &mut P, edits: &mut Edits) -> Result<(), CompileError> {
    let damaged = || CompileError::Refused("the module is damaged".to_owned());
    let mut params_of_types = Vec::new();
    let mut types = Vec::new();
    let mut index = 0;
    let mut begin = 0;
    for payload in Parser::new(0).parse_all(sections.wasm()) {
        match payload? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    params_of_types.push(ty?.params().len() as u32);
                }
            }
            Payload::FunctionSection(section) => types = section.into_iter().collect::<Result<Vec<u32>, _>>()?,
            Payload::CodeSectionStart { range, .. } => begin = entries_of_code(sections, &range),
            Payload::CodeSectionEntry(body) => {
                let params = types.get(index).and_then(|ty| params_of_types.get(*ty as usize)).ok_or_else(damaged)?;
                let mut locals = *params;
                let mut groups = body.get_locals_reader()?;
                for _ in 0..groups.get_count() {
                    locals = locals.checked_add(groups.read()?.0).ok_or_else(damaged)?;
                }
                let instructions = at(groups.original_position());
                let mut edits = edits.body(&body, begin, locals)?;
                pass.function(&mut edits);
                edits.end(instructions);
                begin = at(body.range().end);
                index += 1;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where the bodies of the code section with this content begin.
fn entries_of_code(sections: &Sections<'_>, content: &Range<u64>) -> usize {
    let code = sections.get(wasm_encoder::SectionId::Code).and_then(|section| sections.entries(section));
    code.map_or(at(content.start), |(_, entries)| entries.start)
}
