//! Modules that compute: expressions inside one another over locals, globals, memory and calls, with what engines fuse, fold and keep in registers.
//! wasm-smith makes any instructions in any order, so few of its values come out of several operators that belong together.

use arbitrary::{Result, Unstructured};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    Instruction, MemArg, MemArgTarget, MemorySection, MemoryType, Module, TypeSection, ValType,
};

use Instruction as I;
use ValType::{F32, F64, I32, I64};

/// How many locals a function has of each type, its one parameter of that type among them.
const LOCALS_OF_A_TYPE: u32 = 3;
const FUNCTIONS: u32 = 3;
const PAGES: u64 = 3;

/// The binary of a module with an exported function of several parameters for each of some types of results, and their memory and globals. `has_floats` is
/// whether there are floating-point numbers. It ends by itself.
pub fn module(bytes: &[u8], has_floats: bool) -> Option<Vec<u8>> {
    let types: &[ValType] = if has_floats { &[I32, I64, F32, F64] } else { &[I32, I64] };
    let mut maker = Maker { source: Unstructured::new(bytes), types, code: Vec::new(), loops: 0 };
    maker.module().ok()
}

struct Maker<'a> {
    source: Unstructured<'a>,
    types: &'static [ValType],
    /// The function that is being made.
    code: Vec<Instruction<'static>>,
    loops: u32,
}

impl Maker<'_> {
    fn module(&mut self) -> Result<Vec<u8>> {
        let (mut types, mut functions, mut globals) =
            (TypeSection::new(), FunctionSection::new(), GlobalSection::new());
        let (mut exports, mut code) = (ExportSection::new(), CodeSection::new());
        // One type for the exported functions of each type, one for the function that gives back what it gets, and two blocks' types.
        for ty in self.types {
            types.ty().function(self.types.iter().copied(), [*ty]);
            types.ty().function([*ty], [*ty]);
        }
        types.ty().function([], PAIR);
        types.ty().function(PAIR, PAIR);
        for (number, ty) in (0..).zip(self.types) {
            functions.function(2 * number + 1);
            let mut same = Function::new([]);
            same.instruction(&I::LocalGet(0)).instruction(&I::End);
            code.function(&same);
            let zero = match ty {
                I64 => ConstExpr::i64_const(0),
                F32 => ConstExpr::f32_const(0.0_f32.into()),
                F64 => ConstExpr::f64_const(0.0_f64.into()),
                _ => ConstExpr::i32_const(0),
            };
            globals.global(GlobalType { val_type: *ty, mutable: true, shared: false }, &zero);
            exports.export(&format!("g{number}"), ExportKind::Global, number);
        }
        for number in 0..FUNCTIONS {
            let result = self.any_type()?;
            functions.function(2 * self.number_of(result));
            // The last local counts rounds.
            let locals = self.types.iter().map(|ty| (LOCALS_OF_A_TYPE - 1, *ty)).chain([(1, I32)]);
            let mut function = Function::new(locals.collect::<Vec<_>>());
            self.code.clear();
            self.loops = 0;
            for _ in 0..self.source.int_in_range(0..=3)? {
                self.statement(3)?;
            }
            self.expression(result, 5)?;
            for instruction in self.code.drain(..) {
                function.instruction(&instruction);
            }
            function.instruction(&I::End);
            code.function(&function);
            exports.export(&format!("f{number}"), ExportKind::Func, self.types.len() as u32 + number);
        }
        let mut memories = MemorySection::new();
        let ty =
            MemoryType { minimum: PAGES, maximum: Some(PAGES), memory64: false, shared: false, page_size_log2: None };
        memories.memory(ty);
        exports.export("memory", ExportKind::Memory, 0);
        let mut module = Module::new();
        module
            .section(&types)
            .section(&functions)
            .section(&memories)
            .section(&globals)
            .section(&exports)
            .section(&code);
        Ok(module.finish())
    }

    fn number_of(&self, ty: ValType) -> u32 {
        self.types.iter().position(|other| *other == ty).unwrap_or(0) as u32
    }

    fn pair_type(&self) -> u32 {
        2 * self.types.len() as u32
    }

    fn any_type(&mut self) -> Result<ValType> {
        self.source.choose(self.types).copied()
    }

    fn any_of(&mut self, operators: &[Instruction<'static>]) -> Result<Instruction<'static>> {
        self.source.choose(operators).cloned()
    }

    fn put(&mut self, instruction: Instruction<'static>) {
        self.code.push(instruction);
    }

    /// A local of that type: a parameter, or one that is declared.
    fn local(&mut self, ty: ValType) -> Result<u32> {
        let (number, count) = (self.number_of(ty), self.types.len() as u32);
        let which = self.source.int_in_range(0..=LOCALS_OF_A_TYPE - 1)?;
        Ok(if which == 0 { number } else { count + number * (LOCALS_OF_A_TYPE - 1) + which - 1 })
    }

    fn rounds(&self) -> u32 {
        self.types.len() as u32 * LOCALS_OF_A_TYPE
    }

    /// An address, and where from there. Some are out of bounds.
    fn place(&mut self, depth: u32) -> Result<MemArg> {
        self.expression(I32, depth)?;
        if self.source.ratio(7, 8)? {
            self.put(I::I32Const(0xffff));
            self.put(I::I32And);
        }
        let offset = *self.source.choose(&[0, 0, 1, 8, 65_535, 65_536, 131_000])?;
        Ok(MemArg { offset, align: 0, target: MemArgTarget::Memory(0), ordering: None })
    }

    /// Something that leaves nothing on the stack.
    fn statement(&mut self, depth: u32) -> Result<()> {
        let deeper = depth.saturating_sub(1);
        let choice = if depth == 0 { self.source.int_in_range(0..=2)? } else { self.source.int_in_range(0..=7)? };
        match choice {
            0 => {
                let ty = self.any_type()?;
                self.expression(ty, deeper)?;
                let local = self.local(ty)?;
                self.put(I::LocalSet(local));
            }
            1 => {
                let ty = self.any_type()?;
                self.expression(ty, deeper)?;
                self.put(I::GlobalSet(self.number_of(ty)));
            }
            2 => {
                let ty = self.any_type()?;
                let place = self.place(deeper)?;
                self.expression(ty, deeper)?;
                let store = match ty {
                    I64 => self.any_of(&[
                        I::I64Store(place),
                        I::I64Store8(place),
                        I::I64Store16(place),
                        I::I64Store32(place),
                    ])?,
                    F32 => I::F32Store(place),
                    F64 => I::F64Store(place),
                    _ => self.any_of(&[I::I32Store(place), I::I32Store8(place), I::I32Store16(place)])?,
                };
                self.put(store);
            }
            3 => {
                self.expression(I32, deeper)?;
                self.put(I::If(BlockType::Empty));
                self.statement(deeper)?;
                if self.source.arbitrary()? {
                    self.put(I::Else);
                    self.statement(deeper)?;
                }
                self.put(I::End);
            }
            4 => {
                self.put(I::Block(BlockType::Empty));
                self.statement(deeper)?;
                self.expression(I32, deeper)?;
                self.put(I::BrIf(0));
                self.statement(deeper)?;
                self.put(I::End);
            }
            // One inside another would count with the same local.
            5 if self.loops == 0 => {
                self.loops = 1;
                let rounds = self.rounds();
                let count = self.source.int_in_range(1..=5)?;
                self.put(I::I32Const(count));
                self.put(I::LocalSet(rounds));
                self.put(I::Loop(BlockType::Empty));
                self.statement(deeper)?;
                self.statement(deeper)?;
                for instruction in [I::LocalGet(rounds), I::I32Const(1), I::I32Sub, I::LocalTee(rounds), I::BrIf(0)] {
                    self.put(instruction);
                }
                self.put(I::End);
                self.loops = 0;
            }
            6 => self.pair(deeper)?,
            _ => {
                self.statement(deeper)?;
                self.statement(deeper)?;
            }
        }
        Ok(())
    }

    /// A block with two results, each used, and branches to it by a table.
    fn pair(&mut self, depth: u32) -> Result<()> {
        let (none, both) = (self.pair_type(), self.pair_type() + 1);
        let takes = self.source.arbitrary()?;
        self.put(I::Block(BlockType::FunctionType(none)));
        if takes {
            self.expression(I64, depth)?;
            self.expression(I32, depth)?;
        }
        self.put(I::Block(BlockType::FunctionType(if takes { both } else { none })));
        if takes {
            let local = self.local(I32)?;
            self.put(I::LocalSet(local));
            self.put(I::GlobalSet(self.number_of(I64)));
        }
        let has_more = self.source.arbitrary()?;
        if has_more {
            self.expression(I32, depth)?;
        }
        self.expression(I64, depth)?;
        self.expression(I32, depth)?;
        self.expression(I32, depth)?;
        match self.source.int_in_range(0..=2)? {
            0 => self.put(I::BrTable(vec![0, 1].into(), 0)),
            1 => self.put(I::BrTable(vec![0, 1, 0].into(), 1)),
            _ => {
                self.put(I::BrIf(0));
                self.put(I::Br(1));
            }
        }
        self.put(I::End);
        let local = self.local(I32)?;
        self.put(I::LocalTee(local));
        self.put(I::End);
        let local = self.local(I32)?;
        self.put(I::LocalSet(local));
        let local = self.local(I64)?;
        self.put(I::LocalSet(local));
        Ok(())
    }

    fn constant(&mut self, ty: ValType) -> Result<Instruction<'static>> {
        Ok(match ty {
            I64 => I::I64Const(*self.source.choose(&[0, 1, -1, 2, 7, 31, 255, i64::MIN, i64::MAX, 1 << 32])?),
            F32 => {
                I::F32Const((*self.source.choose(&[0.0_f32, -0.0, 1.0, -1.5, 1e10, f32::INFINITY, f32::NAN])?).into())
            }
            F64 => {
                I::F64Const((*self.source.choose(&[0.0_f64, -0.0, 1.0, -1.5, 1e20, f64::INFINITY, f64::NAN])?).into())
            }
            _ => I::I32Const(*self.source.choose(&[0, 1, -1, 2, 7, 31, 255, i32::MIN, i32::MAX, 65_536])?),
        })
    }

    /// Something that leaves a value of that type.
    fn expression(&mut self, ty: ValType, depth: u32) -> Result<()> {
        let deeper = depth.saturating_sub(1);
        let choice = if depth == 0 { self.source.int_in_range(0..=2)? } else { self.source.int_in_range(0..=15)? };
        match choice {
            0 => {
                let constant = self.constant(ty)?;
                self.put(constant);
            }
            1 => {
                let local = self.local(ty)?;
                self.put(I::LocalGet(local));
            }
            2 => self.put(I::GlobalGet(self.number_of(ty))),
            3 => {
                self.expression(ty, deeper)?;
                let local = self.local(ty)?;
                self.put(I::LocalTee(local));
            }
            4 => {
                self.expression(ty, deeper)?;
                self.put(I::Call(self.number_of(ty)));
            }
            5 | 6 => {
                self.expression(ty, deeper)?;
                self.expression(ty, deeper)?;
                self.expression(I32, deeper)?;
                self.put(if choice == 5 { I::Select } else { I::TypedSelect(ty) });
            }
            7 => {
                self.expression(I32, deeper)?;
                self.put(I::If(BlockType::Result(ty)));
                self.expression(ty, deeper)?;
                self.put(I::Else);
                self.expression(ty, deeper)?;
                self.put(I::End);
            }
            8 => {
                self.put(I::Block(BlockType::Result(ty)));
                self.expression(ty, deeper)?;
                self.expression(I32, deeper)?;
                self.put(I::BrIf(0));
                self.put(I::Drop);
                self.statement(deeper)?;
                self.expression(ty, deeper)?;
                self.put(I::End);
            }
            9 => {
                let place = self.place(deeper)?;
                let load = match ty {
                    I64 => self.any_of(&[
                        I::I64Load(place),
                        I::I64Load8S(place),
                        I::I64Load16U(place),
                        I::I64Load32S(place),
                    ])?,
                    F32 => I::F32Load(place),
                    F64 => I::F64Load(place),
                    _ => self.any_of(&[I::I32Load(place), I::I32Load8U(place), I::I32Load16S(place)])?,
                };
                self.put(load);
            }
            10 => self.unary(ty, deeper)?,
            11 if ty == I32 => {
                let of = self.any_type()?;
                self.expression(of, deeper)?;
                self.expression(of, deeper)?;
                let comparison = match of {
                    I64 => self.any_of(&[
                        I::I64Eq,
                        I::I64Ne,
                        I::I64LtS,
                        I::I64LtU,
                        I::I64GtS,
                        I::I64LeU,
                        I::I64GeS,
                        I::I64GeU,
                    ])?,
                    F32 => self.any_of(&[I::F32Eq, I::F32Ne, I::F32Lt, I::F32Gt, I::F32Le, I::F32Ge])?,
                    F64 => self.any_of(&[I::F64Eq, I::F64Ne, I::F64Lt, I::F64Gt, I::F64Le, I::F64Ge])?,
                    _ => self.any_of(&[
                        I::I32Eq,
                        I::I32Ne,
                        I::I32LtS,
                        I::I32LtU,
                        I::I32GtS,
                        I::I32LeU,
                        I::I32GeS,
                        I::I32GeU,
                    ])?,
                };
                self.put(comparison);
            }
            12 if ty == I32 => {
                self.expression(I32, deeper)?;
                self.put(I::I32Eqz);
            }
            12 if ty == I64 => {
                self.expression(I32, deeper)?;
                self.put(I::I64ExtendI32U);
            }
            _ => {
                self.expression(ty, deeper)?;
                self.expression(ty, deeper)?;
                let operator = match ty {
                    I64 => self.any_of(&[
                        I::I64Add,
                        I::I64Sub,
                        I::I64Mul,
                        I::I64DivS,
                        I::I64DivU,
                        I::I64RemS,
                        I::I64RemU,
                        I::I64And,
                        I::I64Or,
                        I::I64Xor,
                        I::I64Shl,
                        I::I64ShrS,
                        I::I64ShrU,
                        I::I64Rotl,
                        I::I64Rotr,
                    ])?,
                    F32 => self.any_of(&[
                        I::F32Add,
                        I::F32Sub,
                        I::F32Mul,
                        I::F32Div,
                        I::F32Min,
                        I::F32Max,
                        I::F32Copysign,
                    ])?,
                    F64 => self.any_of(&[
                        I::F64Add,
                        I::F64Sub,
                        I::F64Mul,
                        I::F64Div,
                        I::F64Min,
                        I::F64Max,
                        I::F64Copysign,
                    ])?,
                    _ => self.any_of(&[
                        I::I32Add,
                        I::I32Sub,
                        I::I32Mul,
                        I::I32DivS,
                        I::I32DivU,
                        I::I32RemS,
                        I::I32RemU,
                        I::I32And,
                        I::I32Or,
                        I::I32Xor,
                        I::I32Shl,
                        I::I32ShrS,
                        I::I32ShrU,
                        I::I32Rotl,
                        I::I32Rotr,
                    ])?,
                };
                self.put(operator);
            }
        }
        Ok(())
    }

    fn unary(&mut self, ty: ValType, depth: u32) -> Result<()> {
        let from = self.any_type()?;
        self.expression(from, depth)?;
        let operator = match (ty, from) {
            (I32, I64) => self.any_of(&[I::I32WrapI64, I::I64Eqz])?,
            (I32, F32) => self.any_of(&[I::I32TruncF32S, I::I32TruncSatF32U, I::I32ReinterpretF32])?,
            (I32, F64) => self.any_of(&[I::I32TruncF64U, I::I32TruncSatF64S])?,
            (I32, _) => {
                self.any_of(&[I::I32Eqz, I::I32Clz, I::I32Ctz, I::I32Popcnt, I::I32Extend8S, I::I32Extend16S])?
            }
            (I64, I64) => {
                self.any_of(&[I::I64Clz, I::I64Ctz, I::I64Popcnt, I::I64Extend8S, I::I64Extend16S, I::I64Extend32S])?
            }
            (I64, F32) => self.any_of(&[I::I64TruncF32U, I::I64TruncSatF32S])?,
            (I64, F64) => self.any_of(&[I::I64TruncF64S, I::I64TruncSatF64U, I::I64ReinterpretF64])?,
            (I64, _) => self.any_of(&[I::I64ExtendI32S, I::I64ExtendI32U])?,
            (F32, F32) => {
                self.any_of(&[I::F32Abs, I::F32Neg, I::F32Ceil, I::F32Floor, I::F32Trunc, I::F32Nearest, I::F32Sqrt])?
            }
            (F32, F64) => I::F32DemoteF64,
            (F32, I64) => self.any_of(&[I::F32ConvertI64S, I::F32ConvertI64U])?,
            (F32, _) => self.any_of(&[I::F32ConvertI32S, I::F32ConvertI32U, I::F32ReinterpretI32])?,
            (F64, F64) => {
                self.any_of(&[I::F64Abs, I::F64Neg, I::F64Ceil, I::F64Floor, I::F64Trunc, I::F64Nearest, I::F64Sqrt])?
            }
            (F64, F32) => I::F64PromoteF32,
            (F64, I64) => self.any_of(&[I::F64ConvertI64S, I::F64ConvertI64U, I::F64ReinterpretI64])?,
            (F64, _) => self.any_of(&[I::F64ConvertI32S, I::F64ConvertI32U])?,
            _ => I::Nop,
        };
        self.put(operator);
        Ok(())
    }
}

const PAIR: [ValType; 2] = [I64, I32];
