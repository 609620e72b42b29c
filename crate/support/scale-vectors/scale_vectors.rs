//! Guards `__test__/vectors/scale.json`, which the tests of the TypeScript codec read: the file
//! must be exactly what the real crate `gear-sandbox-env` says about the cases below. It knows
//! nothing of this project's own code.
//!
//! `cargo test --no-default-features --test scale_vectors` compares;
//! with the environment variable `UPDATE_VECTORS=1` the file is written anew.

use std::{env, fs, path::PathBuf};

use gear_sandbox_env::{Entry, EnvironmentDefinition, ExternEntity, HostError, WasmReturnValue};
use parity_scale_codec::{Compact, Decode, Encode};
use serde_json::{Value as Json, json};
use sp_wasm_interface_common::{ReturnValue, Value};

/// Where the vectors lie.
fn vectors_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../__test__/vectors/scale.json")
}

#[test]
fn the_committed_vectors_are_what_the_reference_crate_says() {
    let cases = all_cases();
    let path = vectors_path();
    if env::var_os("UPDATE_VECTORS").is_some_and(|value| value == "1") {
        fs::write(&path, render(&cases)).expect("the vectors can be written");
        return;
    }
    let text = fs::read_to_string(&path).expect("the vectors can be read");
    let file: Json = serde_json::from_str(&text).expect("the vectors are JSON");
    let committed = file["cases"].as_array().expect("the vectors have cases");
    // One by one, because a difference between whole files can't be read.
    for (index, (expected, found)) in cases.iter().zip(committed).enumerate() {
        assert_eq!(found, expected, "case {index} of {}", path.display());
    }
    assert_eq!(committed.len(), cases.len(), "number of cases in {}", path.display());
}

/// One case is one line, so that a change of the file can be read.
fn render(cases: &[Json]) -> String {
    let origin = json!("gear-sandbox-env 1.10.0, see crate/support/scale-vectors/scale_vectors.rs");
    let lines: Vec<String> = cases.iter().map(|case| format!("    {case}")).collect();
    format!("{{\n  \"madeBy\": {origin},\n  \"cases\": [\n{}\n  ]\n}}\n", lines.join(",\n"))
}

fn all_cases() -> Vec<Json> {
    let mut cases = Vec::new();
    cases.extend(values());
    cases.extend(return_values());
    cases.extend(results());
    cases.extend(environment_definitions());
    cases.extend(compact_lengths());
    cases.extend(strange_bytes());
    cases.extend(damaged());
    cases
}

// The kinds of case.

/// A type of the codec, under the name that its TypeScript functions have after `encode` and
/// `decode`.
trait Wire: Encode + Decode {
    const TYPE: &str;
    fn describe(&self) -> Json;
}

/// A value and its encoding, to be tested in both directions.
fn encoding<T: Wire>(name: &str, value: &T) -> Json {
    let bytes = value.encode();
    let again = T::decode(&mut &bytes[..]).expect("what the crate encodes, it decodes");
    assert_eq!(again.encode(), bytes, "{name} survives a round trip");
    json!({ "name": name, "type": T::TYPE, "value": value.describe(), "hex": hex(&bytes) })
}

/// Bytes and what the crate makes of them: a value, with the number of bytes it left unread, or
/// "refused".
fn decoding<T: Wire>(name: &str, bytes: &[u8]) -> Json {
    let mut case = json!({ "name": name, "type": T::TYPE, "hex": hex(bytes), "value": "refused" });
    let mut rest = bytes;
    if let Ok(value) = T::decode(&mut rest) {
        case["value"] = value.describe();
        case["unread"] = json!(rest.len());
    }
    case
}

/// Like [`decoding`], where the crate must refuse: a guard against a case that does not test what
/// it says.
fn refusing<T: Wire>(name: &str, bytes: &[u8]) -> Json {
    assert!(T::decode(&mut &bytes[..]).is_err(), "{name} is refused");
    decoding::<T>(name, bytes)
}

/// `count` equal values, written in short: in the hex, `(…)*n` stands for n times what is in
/// parentheses.
fn repeated(value: Value, count: usize) -> Json {
    let bytes = vec![value; count].encode();
    let prefix = Compact(count as u32).encode();
    let each = value.encode();
    assert_eq!(bytes, [prefix.clone(), each.repeat(count)].concat());
    json!({
        "name": format!("{count} equal values"),
        "type": Vec::<Value>::TYPE,
        "value": { "each": describe_value(&value), "times": count },
        "hex": format!("{}({})*{count}", hex(&prefix), hex(&each)),
    })
}

// The cases.

fn boundary_values() -> Vec<(&'static str, Value)> {
    vec![
        ("i32 zero", Value::I32(0)),
        ("i32 one", Value::I32(1)),
        ("i32 minus one", Value::I32(-1)),
        ("i32 with four different bytes", Value::I32(0x0102_0304)),
        ("the least i32", Value::I32(i32::MIN)),
        ("the greatest i32", Value::I32(i32::MAX)),
        ("i64 zero", Value::I64(0)),
        ("i64 one", Value::I64(1)),
        ("i64 minus one", Value::I64(-1)),
        ("i64 with eight different bytes", Value::I64(0x0102_0304_0506_0708)),
        ("an i64 just beyond i32", Value::I64(1 << 31)),
        ("an i64 just beyond the safe integers", Value::I64((1 << 53) + 1)),
        ("the least i64", Value::I64(i64::MIN)),
        ("the greatest i64", Value::I64(i64::MAX)),
        ("f32 zero", Value::F32(0)),
        ("f32 minus zero", Value::F32((-0.0_f32).to_bits())),
        ("f32 one and a half", Value::F32(1.5_f32.to_bits())),
        ("the least f32", Value::F32(f32::MIN.to_bits())),
        ("the smallest subnormal f32", Value::F32(1)),
        ("f32 infinity", Value::F32(f32::INFINITY.to_bits())),
        ("f32 minus infinity", Value::F32(f32::NEG_INFINITY.to_bits())),
        ("f32 canonical NaN", Value::F32(0x7fc0_0000)),
        ("f32 quiet NaN with a payload", Value::F32(0x7fc1_2345)),
        ("f32 signalling NaN", Value::F32(0x7fa0_0001)),
        ("f32 negative signalling NaN", Value::F32(0xff80_0001)),
        ("f32 with all bits set", Value::F32(u32::MAX)),
        ("f64 zero", Value::F64(0)),
        ("f64 minus zero", Value::F64((-0.0_f64).to_bits())),
        ("f64 one and a half", Value::F64(1.5_f64.to_bits())),
        ("the least f64", Value::F64(f64::MIN.to_bits())),
        ("the smallest subnormal f64", Value::F64(1)),
        ("f64 infinity", Value::F64(f64::INFINITY.to_bits())),
        ("f64 minus infinity", Value::F64(f64::NEG_INFINITY.to_bits())),
        ("f64 canonical NaN", Value::F64(0x7ff8_0000_0000_0000)),
        ("f64 quiet NaN with a payload", Value::F64(0x7ff8_1234_5678_9abc)),
        ("f64 signalling NaN", Value::F64(0x7ff4_0000_0000_0001)),
        ("f64 negative signalling NaN", Value::F64(0xfff0_0000_0000_0001)),
        ("f64 with all bits set", Value::F64(u64::MAX)),
    ]
}

fn values() -> Vec<Json> {
    let boundaries = boundary_values();
    let all: Vec<Value> = boundaries.iter().map(|(_, value)| *value).collect();
    let mut cases = vec![encoding("no values", &Vec::<Value>::new())];
    cases.extend(boundaries.iter().map(|(name, value)| encoding(name, &vec![*value])));
    cases.push(encoding(
        "one value of each type",
        &vec![Value::I32(-2), Value::I64(-3), Value::F32(0x7fa0_0001), Value::F64(0x7ff4_0000_0000_0001)],
    ));
    cases.push(encoding("all boundaries at once", &all));
    // The lengths around which the prefix becomes longer.
    for count in [1, 63, 64, 65, 16383, 16384] {
        cases.push(repeated(Value::I32(1), count));
    }
    cases.push(repeated(Value::F64(0x7ff4_0000_0000_0001), 64));
    cases
}

fn return_values() -> Vec<Json> {
    let mut cases = vec![encoding("unit", &ReturnValue::Unit)];
    for (name, value) in boundary_values() {
        cases.push(encoding(name, &ReturnValue::Value(value)));
    }
    for gas in [0, 1, -1, 0x0102_0304_0506_0708, i64::MIN, i64::MAX] {
        cases.push(encoding(&format!("unit with gas {gas}"), &WasmReturnValue { gas, inner: ReturnValue::Unit }));
    }
    for (name, value) in boundary_values() {
        cases.push(encoding(name, &WasmReturnValue { gas: 1_000_000, inner: ReturnValue::Value(value) }));
    }
    cases
}

fn results() -> Vec<Json> {
    let mut cases = vec![
        encoding("a host error", &Err::<ReturnValue, _>(HostError)),
        encoding("ok without a value", &Ok::<_, HostError>(ReturnValue::Unit)),
        encoding("a host error", &Err::<WasmReturnValue, _>(HostError)),
        encoding(
            "ok without a value",
            &Ok::<_, HostError>(WasmReturnValue { gas: i64::MIN, inner: ReturnValue::Unit }),
        ),
    ];
    for (name, value) in boundary_values() {
        let inner = ReturnValue::Value(value);
        cases.push(encoding(name, &Ok::<_, HostError>(inner)));
        cases.push(encoding(name, &Ok::<_, HostError>(WasmReturnValue { gas: i64::MAX, inner })));
    }
    cases
}

fn entry(module_name: &str, field_name: &str, entity: ExternEntity) -> Entry {
    Entry { module_name: module_name.into(), field_name: field_name.into(), entity }
}

fn definition(entries: Vec<Entry>) -> EnvironmentDefinition {
    EnvironmentDefinition { entries }
}

fn environment_definitions() -> Vec<Json> {
    use ExternEntity::{Function, Memory};
    let one =
        |name: &str, module: &str, field: &str, entity| encoding(name, &definition(vec![entry(module, field, entity)]));
    let names = |name: &str, module: &str, field: &str| one(name, module, field, Function(1));
    let hundred = (0..100).map(|index| {
        let entity = if index % 3 == 0 { Memory(index) } else { Function(index) };
        entry("env", &format!("import_{index}"), entity)
    });
    vec![
        encoding("no entries", &definition(vec![])),
        one("a function", "env", "abort", Function(228)),
        one("a memory", "env", "memory", Memory(1337)),
        one("function index zero", "env", "f", Function(0)),
        one("the greatest function index", "env", "f", Function(u32::MAX)),
        one("the greatest memory index", "env", "m", Memory(u32::MAX)),
        names("empty names", "", ""),
        names("an empty module name", "", "f"),
        names("names of two, three and four bytes a character", "модуль", "函数🦀"),
        names("a combining character, which is not normalized", "e\u{301}", "\u{e9}"),
        names(
            "the first and last characters of each UTF-8 length",
            "\0\u{7f}\u{80}\u{7ff}",
            "\u{800}\u{ffff}\u{10000}\u{10ffff}",
        ),
        names("a byte order mark, which is kept", "\u{feff}env", "\u{feff}"),
        names("control characters", "a\nb\tc\r", "\u{1b}\u{9f}\u{2028}"),
        names("noncharacters and the replacement character", "\u{fffe}\u{fdd0}", "\u{fffd}"),
        names("a name of 63 bytes", &"m".repeat(63), "f"),
        names("a name of 64 bytes", &"m".repeat(64), "f"),
        names("a name of 300 bytes", "m", &"ö".repeat(150)),
        encoding(
            "twins, which are kept",
            &definition(vec![
                entry("env", "f", Function(1)),
                entry("env", "f", Function(1)),
                entry("env", "f", Memory(2)),
            ]),
        ),
        encoding("100 entries", &definition(hundred.collect())),
    ]
}

/// Lengths in every form, shortest and not, in front of too few or enough bytes.
fn compact_lengths() -> Vec<Json> {
    let with_values = |prefix: &[u8], count: usize| [prefix, &Value::I32(7).encode().repeat(count)].concat();
    vec![
        refusing::<Vec<Value>>("length 0 in two bytes", &[0b01, 0]),
        refusing::<Vec<Value>>("length 0 in four bytes", &[0b10, 0, 0, 0]),
        refusing::<Vec<Value>>("length 0 in five bytes", &[0b11, 0, 0, 0, 0]),
        refusing::<Vec<Value>>("length 1 in two bytes", &with_values(&[0b101, 0], 1)),
        refusing::<Vec<Value>>("length 63 in two bytes", &with_values(&[0xfd, 0], 63)),
        decoding::<Vec<Value>>("length 64 in two bytes", &with_values(&[0x01, 1], 64)),
        refusing::<Vec<Value>>("length 64 in four bytes", &with_values(&[0x02, 1, 0, 0], 64)),
        refusing::<Vec<Value>>("length 2 in five bytes", &with_values(&[0b11, 2, 0, 0, 0], 2)),
        refusing::<Vec<Value>>("length 2 in six bytes", &with_values(&[0b111, 2, 0, 0, 0, 0], 2)),
        refusing::<Vec<Value>>("length 2 in 67 bytes", &with_values(&[0xff], 80)),
        refusing::<Vec<Value>>("length 16384, but one value", &with_values(&[0x02, 0, 1, 0], 1)),
        refusing::<Vec<Value>>("length 2^30 - 1, but one value", &with_values(&[0xfe, 0xff, 0xff, 0xff], 1)),
        refusing::<Vec<Value>>("length 2^30, but one value", &with_values(&[0b11, 0, 0, 0, 0x40], 1)),
        refusing::<Vec<Value>>("length 2^32 - 1, but one value", &with_values(&[0b11, 0xff, 0xff, 0xff, 0xff], 1)),
        refusing::<EnvironmentDefinition>("length 2^32 - 1, but no entry", &[0b11, 0xff, 0xff, 0xff, 0xff]),
        refusing::<EnvironmentDefinition>(
            "a name of 2^32 - 1 bytes, but one",
            &[4, 0b11, 0xff, 0xff, 0xff, 0xff, 0x61],
        ),
        refusing::<EnvironmentDefinition>("length 0 in two bytes", &[0b01, 0]),
        refusing::<EnvironmentDefinition>(
            "a name's length in two bytes for one",
            &[4, 0b101, 0, 0x61, 0, 1, 0, 0, 0, 0],
        ),
    ]
}

/// Bytes that nobody should send.
fn strange_bytes() -> Vec<Json> {
    let entry_of_name = |name: &[u8]| {
        let entity = ExternEntity::Function(1).encode();
        [&[4], &name.to_vec().encode()[..], &[0], &entity[..]].concat()
    };
    let mut cases = vec![
        refusing::<Vec<Value>>("nothing", &[]),
        refusing::<ReturnValue>("nothing", &[]),
        refusing::<WasmReturnValue>("nothing", &[]),
        refusing::<Result<ReturnValue, HostError>>("nothing", &[]),
        refusing::<Result<WasmReturnValue, HostError>>("nothing", &[]),
        refusing::<EnvironmentDefinition>("nothing", &[]),
        decoding::<Vec<Value>>("a value and three bytes more", &[4, 0, 1, 0, 0, 0, 9, 9, 9]),
        decoding::<ReturnValue>("unit and a byte more", &[0, 1]),
        decoding::<WasmReturnValue>("gas, unit and a byte more", &[7, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        decoding::<Result<ReturnValue, HostError>>("a host error and a byte more", &[1, 0]),
        decoding::<Result<WasmReturnValue, HostError>>("a host error and eight bytes more", &[1; 9]),
        decoding::<EnvironmentDefinition>("no entries and a byte more", &[0, 0]),
        refusing::<EnvironmentDefinition>("entity of kind 0", &[4, 0, 0, 0, 0, 0, 0, 0]),
        refusing::<EnvironmentDefinition>("entity of kind 3", &[4, 0, 0, 3, 0, 0, 0, 0]),
        refusing::<EnvironmentDefinition>("entity without an index", &[4, 0, 0, 1]),
    ];
    for variant in [4, 5, 128, 255] {
        let name = format!("value of type {variant}");
        cases.push(refusing::<Vec<Value>>(&name, &[4, variant, 0, 0, 0, 0, 0, 0, 0, 0]));
        cases.push(refusing::<ReturnValue>(&name, &[1, variant, 0, 0, 0, 0, 0, 0, 0, 0]));
    }
    for variant in [2, 3, 255] {
        let name = format!("variant {variant}");
        cases.push(refusing::<ReturnValue>(&name, &[variant, 0, 0, 0, 0, 0]));
        cases.push(refusing::<WasmReturnValue>(&name, &[0, 0, 0, 0, 0, 0, 0, 0, variant, 0, 0, 0, 0, 0]));
        cases.push(refusing::<Result<ReturnValue, HostError>>(&name, &[variant, 0]));
        cases.push(refusing::<Result<WasmReturnValue, HostError>>(&name, &[variant, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    }
    for (name, bytes) in [
        ("a continuation byte alone", &[0x80][..]),
        ("a first byte alone", &[0xc3]),
        ("an overlong slash in two bytes", &[0xc0, 0xaf]),
        ("an overlong slash in three bytes", &[0xe0, 0x80, 0xaf]),
        ("an overlong slash in four bytes", &[0xf0, 0x80, 0x80, 0xaf]),
        ("a high surrogate", &[0xed, 0xa0, 0x80]),
        ("a surrogate pair in six bytes", &[0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]),
        ("a character beyond U+10FFFF", &[0xf4, 0x90, 0x80, 0x80]),
        ("a first byte of five", &[0xf8, 0x88, 0x80, 0x80, 0x80]),
        ("a character cut short", &[0x61, 0xe2, 0x82]),
        ("byte 0xff", &[0x61, 0xff, 0x62]),
    ] {
        let name = format!("a name that is no UTF-8: {name}");
        cases.push(refusing::<EnvironmentDefinition>(&name, &entry_of_name(bytes)));
    }
    cases
}

/// Good encodings with random damage, always the same, and whatever the crate makes of them.
fn damaged() -> Vec<Json> {
    let mut random = Random(0x5eed);
    let value = |bits: u64| ReturnValue::Value(Value::F64(bits));
    let mut cases = Vec::new();
    for _ in 0..40 {
        let bits = random.next();
        cases.push(damage::<Vec<Value>>(
            &mut random,
            vec![Value::I32(bits as i32), Value::F64(bits), Value::I64(-1)].encode(),
        ));
        cases.push(damage::<ReturnValue>(&mut random, value(bits).encode()));
        cases.push(damage::<WasmReturnValue>(&mut random, WasmReturnValue { gas: 1, inner: value(bits) }.encode()));
        cases.push(damage::<Result<ReturnValue, HostError>>(&mut random, Ok::<_, HostError>(value(bits)).encode()));
        cases.push(damage::<Result<WasmReturnValue, HostError>>(
            &mut random,
            Ok::<_, HostError>(WasmReturnValue { gas: -1, inner: value(bits) }).encode(),
        ));
        cases.push(damage::<EnvironmentDefinition>(
            &mut random,
            definition(vec![
                entry("env", "é", ExternEntity::Function(bits as u32)),
                entry("", "m", ExternEntity::Memory(1)),
            ])
            .encode(),
        ));
    }
    cases
}

/// Cuts the bytes, flips bits, or puts another byte somewhere. Early bytes, which say what follows,
/// are hit more often.
fn damage<T: Wire>(random: &mut Random, mut bytes: Vec<u8>) -> Json {
    if random.below(4) == 0 {
        bytes.truncate(random.below(bytes.len()));
    }
    for _ in 0..=random.below(2) {
        if !bytes.is_empty() {
            let reach = 1 + random.below(bytes.len());
            let place = random.below(reach);
            bytes[place] =
                if random.below(2) == 0 { random.below(6) as u8 } else { bytes[place] ^ 1 << random.below(8) };
        }
    }
    decoding::<T>("damaged", &bytes)
}

/// Xorshift64: small, and the same everywhere and in each release.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

// How each type is written in JSON: as in TypeScript, but 64-bit numbers as decimal strings and
// `undefined` as null.

impl Wire for Vec<Value> {
    const TYPE: &str = "Values";

    fn describe(&self) -> Json {
        self.iter().map(describe_value).collect()
    }
}

impl Wire for ReturnValue {
    const TYPE: &str = "ReturnValue";

    fn describe(&self) -> Json {
        match self {
            ReturnValue::Unit => Json::Null,
            ReturnValue::Value(value) => describe_value(value),
        }
    }
}

impl Wire for WasmReturnValue {
    const TYPE: &str = "WasmReturnValue";

    fn describe(&self) -> Json {
        json!({ "gas": self.gas.to_string(), "inner": self.inner.describe() })
    }
}

impl Wire for Result<ReturnValue, HostError> {
    const TYPE: &str = "DispatchResult";

    fn describe(&self) -> Json {
        match self {
            Ok(value) => json!({ "ok": true, "value": value.describe() }),
            Err(HostError) => json!({ "ok": false }),
        }
    }
}

impl Wire for Result<WasmReturnValue, HostError> {
    const TYPE: &str = "DispatchResultV2";

    fn describe(&self) -> Json {
        match self {
            Ok(value) => {
                json!({ "ok": true, "gas": value.gas.to_string(), "value": value.inner.describe() })
            }
            Err(HostError) => json!({ "ok": false }),
        }
    }
}

impl Wire for EnvironmentDefinition {
    const TYPE: &str = "EnvironmentDefinition";

    fn describe(&self) -> Json {
        let entries = self.entries.iter().map(|entry| {
            let (kind, index) = match entry.entity {
                ExternEntity::Function(index) => ("function", index),
                ExternEntity::Memory(index) => ("memory", index),
            };
            json!({
                "moduleName": entry.module_name,
                "fieldName": entry.field_name,
                "entity": { "kind": kind, "index": index },
            })
        });
        json!({ "entries": entries.collect::<Vec<_>>() })
    }
}

fn describe_value(value: &Value) -> Json {
    match value {
        Value::I32(value) => json!({ "type": "i32", "value": value }),
        Value::I64(value) => json!({ "type": "i64", "value": value.to_string() }),
        Value::F32(bits) => json!({ "type": "f32", "bits": bits }),
        Value::F64(bits) => json!({ "type": "f64", "bits": bits.to_string() }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
