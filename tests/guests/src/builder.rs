//! A guest in the making.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{Function, Interface, Resolve, Type, TypeDefKind, WorldId, WorldItem};

use crate::constants::Image;

/// What every guest has beside its own code: an allocator, and short ways to make the `result<string, failure>` that most
/// functions of the contract give.
const PRELUDE: &str = r#"
    (func $alloc (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                                (i32.sub (i32.const 0) (local.get $align))))
        (global.set $heap (i32.add (local.get $at) (local.get $size)))
        (block $fits
            (loop $grow
                (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
                unreachable))
        (local.get $at))
    (func $room (result i32)
        (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 128)))
    (func $ok (param $at i32) (param $length i32) (result i32)
        (local $area i32)
        (local.set $area (call $room))
        (i32.store8 (local.get $area) (i32.const 0))
        (i32.store offset=8 (local.get $area) (local.get $at))
        (i32.store offset=12 (local.get $area) (local.get $length))
        (local.get $area))
    (func $quote (param $at i32) (param $length i32) (result i32)
        (local $area i32)
        (local.set $area (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.add (local.get $length) (i32.const 2))))
        (i32.store8 (local.get $area) (i32.const 34))
        (memory.copy (i32.add (local.get $area) (i32.const 1)) (local.get $at) (local.get $length))
        (i32.store8 offset=1 (i32.add (local.get $area) (local.get $length)) (i32.const 34))
        (call $ok (local.get $area) (i32.add (local.get $length) (i32.const 2))))
    (func $number (param $value i32) (result i32)
        (local $start i32) (local $end i32)
        (local.set $end (i32.add (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)) (i32.const 16)))
        (local.set $start (local.get $end))
        (loop $digit
            (local.set $start (i32.sub (local.get $start) (i32.const 1)))
            (i32.store8 (local.get $start) (i32.add (i32.const 48) (i32.rem_u (local.get $value) (i32.const 10))))
            (br_if $digit (local.tee $value (i32.div_u (local.get $value) (i32.const 10)))))
        (call $ok (local.get $start) (i32.sub (local.get $end) (local.get $start))))"#;

/// A guest in the making: what it imports and exports, and what each export does. An export that is given neither an
/// answer nor instructions traps.
///
/// Functions are named `INTERFACE.FUNCTION` (`method.invoke`). Imported functions can be called as `$INTERFACE.FUNCTION`,
/// those of a resource as `$INTERFACE.RESOURCE.METHOD`, its constructor as `.new`, giving it back as `.drop`; they have
/// the signature of the canonical ABI, and only those that are called are imported.
///
/// Instructions leave on the stack what the canonical ABI wants, usually the address of a result: `$ok` (address, length)
/// makes a good one of a text, `$quote` of a text to be quoted, `$number` of a number; `$room` gives 128 bytes to have a
/// result written to. Their parameters are named as in the WIT (`$name`, `$name_len`; a value of several parts is
/// `$name_0`, `$name_1`, ...; too many parameters are one address, `$arguments`), and `$area`, `$i`, `$j`, `$k` are
/// theirs to use.
#[derive(Debug, Clone)]
pub struct Guest {
    wit: Option<PathBuf>,
    version: String,
    world: String,
    fields: String,
    texts: Vec<(String, String)>,
    lists: Vec<(String, String, Vec<Value>)>,
    arguments: Vec<(String, String, Vec<Value>)>,
    answers: BTreeMap<String, Value>,
    bodies: BTreeMap<String, String>,
}

impl Guest {
    /// A guest of a world with this body, such as `import log; export method;`.
    #[must_use]
    pub fn new(world: &str) -> Self {
        Self {
            wit: None,
            version: "0.1.0".into(),
            world: world.into(),
            fields: String::new(),
            texts: vec![("null".into(), "null".into())],
            lists: Vec::new(),
            arguments: Vec::new(),
            answers: BTreeMap::new(),
            bodies: BTreeMap::new(),
        }
    }

    /// A guest with `imports` and one method `run` that does what `invoke` says (`$context`, `$name`, `$name_len`,
    /// `$params`, `$params_len`).
    #[must_use]
    pub fn method(imports: &str, invoke: &str) -> Self {
        Self::new(&format!("{imports} export method;")).methods().run("method.invoke", invoke)
    }

    /// Says that it has one method: `run`, scope operator.read, free schemas.
    #[must_use]
    pub fn methods(self) -> Self {
        let run = json!({
            "name": "run", "description": "Runs.", "scope": "operator.read", "params-schema": "{}", "result-schema": "{}"
        });
        self.answer("method.methods", json!({ "ok": [run] }))
    }

    /// Adds to its world, such as `export hook;`.
    #[must_use]
    pub fn beside(mut self, world: &str) -> Self {
        self.world.push(' ');
        self.world.push_str(world);
        self
    }

    /// Encodes against another WIT folder, whose package has this version.
    #[must_use]
    pub fn against(mut self, wit: &Path, version: &str) -> Self {
        self.wit = Some(wit.to_path_buf());
        self.version = version.into();
        self
    }

    /// Adds a text: the globals `$NAME` (its address) and `$NAME_len` (its bytes).
    #[must_use]
    pub fn text(mut self, name: &str, text: &str) -> Self {
        self.texts.push((name.into(), text.into()));
        self
    }

    /// Adds the elements of a list of `INTERFACE.TYPE`: the global `$NAME` is their address.
    #[must_use]
    pub fn list(mut self, name: &str, kind: &str, values: Vec<Value>) -> Self {
        self.lists.push((name.into(), kind.into(), values));
        self
    }

    /// Adds the arguments of an imported function that takes too many to be passed one by one: the global `$NAME` is
    /// their address.
    #[must_use]
    pub fn arguments(mut self, name: &str, function: &str, values: Vec<Value>) -> Self {
        self.arguments.push((name.into(), function.into(), values));
        self
    }

    /// Adds module fields in text form: functions, globals, tables.
    #[must_use]
    pub fn fields(mut self, text: &str) -> Self {
        self.fields.push_str(text);
        self
    }

    /// Lets an export give the same answer to every call.
    #[must_use]
    pub fn answer(mut self, function: &str, value: Value) -> Self {
        self.answers.insert(function.into(), value);
        self
    }

    /// Lets an export run instructions.
    #[must_use]
    pub fn run(mut self, function: &str, instructions: &str) -> Self {
        self.bodies.insert(function.into(), instructions.into());
        self
    }

    /// Encodes the component.
    ///
    /// # Errors
    /// The text, the world or their fit is wrong; the error says which.
    pub fn build(&self) -> Result<Vec<u8>> {
        let (resolve, world) = crate::resolve(self.wit.as_deref(), &crate::world(&self.world, &self.version))?;
        let text = self.module(&resolve, world)?;
        crate::encode(&resolve, world, &text)
    }

    fn module(&self, resolve: &Resolve, world: WorldId) -> Result<String> {
        let mut image = Image::new(resolve);
        let mut globals = String::new();
        self.constants(resolve, world, &mut image, &mut globals)?;
        let code = self.exports(resolve, world, &mut image)?;
        let code = format!("{PRELUDE} {} {code}", self.fields);
        let imports = imports(resolve, world, &code)?;
        let (base, bytes) = image.finish();
        let heap = (base + bytes.len()).next_multiple_of(1024) + 1024;
        let pages = heap.div_ceil(65536) + 3;
        let data: String = bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:02x}");
            text
        });
        Ok(format!(
            "(module {imports} (memory (export \"memory\") {pages}) (global $heap (mut i32) (i32.const {heap}))
                {globals} (data (i32.const {base}) \"{data}\") {code})"
        ))
    }

    fn constants(&self, resolve: &Resolve, world: WorldId, image: &mut Image<'_>, globals: &mut String) -> Result<()> {
        let mut global = |name: &str, value: usize| write!(globals, "(global ${name} i32 (i32.const {value}))");
        for (name, text) in &self.texts {
            global(name, image.text(text.as_bytes()))?;
            global(&format!("{name}_len"), text.len())?;
        }
        for (name, kind, values) in &self.lists {
            global(name, image.elements(&named_type(resolve, kind)?, values).with_context(|| kind.clone())?)?;
        }
        for (name, function, values) in &self.arguments {
            let found = imported(resolve, world).find_map(|interface| find_function(interface, function));
            let kinds: Vec<Type> =
                found.with_context(|| format!("no import {function}"))?.params.iter().map(|param| param.ty).collect();
            global(name, image.row(&kinds, values).with_context(|| function.clone())?)?;
        }
        Ok(())
    }

    /// Every export of the world, in text form.
    fn exports(&self, resolve: &Resolve, world: WorldId, image: &mut Image<'_>) -> Result<String> {
        let mut code = String::new();
        let mut given: Vec<&String> = self.answers.keys().chain(self.bodies.keys()).collect();
        let world = resolve.worlds.get(world).context("no world")?;
        for item in world.exports.values() {
            let WorldItem::Interface { id, .. } = item else { bail!("only interfaces can be exported") };
            let interface = resolve.interfaces.get(*id).context("no interface")?;
            for function in interface.functions.values() {
                let name = short_name(interface, function);
                given.retain(|known| **known != name);
                let signature = resolve.wasm_signature(AbiVariant::GuestExport, function);
                let body = self.body(&name, function, image).with_context(|| name.clone())?;
                let export = format!("{}#{}", resolve.id_of(*id).context("an interface without name")?, function.name);
                write!(
                    code,
                    "(func (export \"{export}\") {} {} (local $area i32) (local $i i32) (local $j i32) (local $k i32) {body})",
                    parameters(resolve, function, &signature),
                    results(&signature)
                )?;
            }
        }
        if let Some(unknown) = given.first() {
            bail!("`{unknown}` is not exported by this world");
        }
        Ok(code)
    }

    fn body(&self, name: &str, function: &Function, image: &mut Image<'_>) -> Result<String> {
        match (self.bodies.get(name), self.answers.get(name)) {
            (Some(instructions), _) => Ok(instructions.clone()),
            (None, Some(answer)) => {
                let kind = function.result.context("it gives nothing")?;
                Ok(format!("(i32.const {})", image.value(&kind, answer)?))
            }
            (None, None) => Ok("unreachable".into()),
        }
    }
}

/// Imports of every function that `code` names.
fn imports(resolve: &Resolve, world: WorldId, code: &str) -> Result<String> {
    let mut text = String::new();
    for interface in imported(resolve, world) {
        let short = interface.name.as_deref().unwrap_or_default();
        let package = interface.package.context("an interface without package")?;
        let module = resolve.id_of_name(package, short);
        for function in interface.functions.values() {
            let name = format!("${}", short_name(interface, function));
            if mentions(code, &name) {
                let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
                let params: String = signature.params.iter().map(|param| format!("(param {})", wat(*param))).collect();
                write!(
                    text,
                    "(import \"{module}\" \"{}\" (func {name} {params} {}))",
                    function.name,
                    results(&signature)
                )?;
            }
        }
        for resource in interface.types.keys() {
            let name = format!("${short}.{resource}.drop");
            if mentions(code, &name) {
                write!(text, "(import \"{module}\" \"[resource-drop]{resource}\" (func {name} (param i32)))")?;
            }
        }
    }
    Ok(text)
}

fn imported(resolve: &Resolve, world: WorldId) -> impl Iterator<Item = &Interface> {
    let items = resolve.worlds.get(world).into_iter().flat_map(|world| world.imports.values());
    items.filter_map(|item| match item {
        WorldItem::Interface { id, .. } => resolve.interfaces.get(*id),
        _ => None,
    })
}

fn find_function<'wit>(interface: &'wit Interface, name: &str) -> Option<&'wit Function> {
    interface.functions.values().find(|function| short_name(interface, function) == name)
}

/// The type `INTERFACE.TYPE`.
fn named_type(resolve: &Resolve, name: &str) -> Result<Type> {
    let (interface, kind) = name.split_once('.').context("a type is named INTERFACE.TYPE")?;
    let mut named = resolve.interfaces.iter().filter(|(_, found)| found.name.as_deref() == Some(interface));
    let id = named.find_map(|(_, found)| found.types.get(kind));
    id.map(|id| Type::Id(*id)).with_context(|| format!("no type {name}"))
}

/// `blobs.blob.read` for `[method]blob.read` of `blobs`.
fn short_name(interface: &Interface, function: &Function) -> String {
    let interface = interface.name.as_deref().unwrap_or_default();
    let (kind, name) =
        function.name.strip_prefix('[').and_then(|rest| rest.split_once(']')).unwrap_or(("", &function.name));
    if kind == "constructor" { format!("{interface}.{name}.new") } else { format!("{interface}.{name}") }
}

/// Whether `code` holds `name` as a whole word.
fn mentions(code: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
    code.match_indices(name).any(|(at, _)| code.get(at + name.len()..).is_some_and(ends))
}

fn parameters(resolve: &Resolve, function: &Function, signature: &WasmSignature) -> String {
    if signature.indirect_params {
        return "(param $arguments i32)".into();
    }
    let mut text = String::new();
    for param in &function.params {
        let mut storage = [WasmType::I32; 16];
        let mut flat = wit_parser::abi::FlatTypes::new(&mut storage);
        resolve.push_flat(&param.ty, &mut flat);
        let flat = flat.to_vec();
        let is_list = param.ty == Type::String
            || matches!(&param.ty, Type::Id(id) if resolve.types.get(*id).is_some_and(|found| is_text_or_list(resolve, &found.kind)));
        for (index, part) in flat.iter().enumerate() {
            let suffix = match (flat.len(), is_list, index) {
                (1, ..) | (_, true, 0) => String::new(),
                (_, true, _) => "_len".into(),
                (_, false, index) => format!("_{index}"),
            };
            text.push_str(&format!("(param ${}{suffix} {})", param.name, wat(*part)));
        }
    }
    text
}

fn is_text_or_list(resolve: &Resolve, kind: &TypeDefKind) -> bool {
    match kind {
        TypeDefKind::List(_) | TypeDefKind::Type(Type::String) => true,
        TypeDefKind::Type(Type::Id(id)) => {
            resolve.types.get(*id).is_some_and(|found| is_text_or_list(resolve, &found.kind))
        }
        _ => false,
    }
}

fn results(signature: &WasmSignature) -> String {
    signature.results.iter().map(|result| format!("(result {})", wat(*result))).collect()
}

fn wat(kind: WasmType) -> &'static str {
    match kind {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
    }
}
