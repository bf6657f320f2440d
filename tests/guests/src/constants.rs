//! Values of WIT types, laid out in a guest's memory before it starts.
//!
//! A value is given as JSON: records as objects (a missing field is empty), `option` as the value or null, `result` as
//! `{"ok": V}` or `{"err": V}`, `list<u8>` also as a string. Instead of a string or list, `{"address": A, "length": L}`
//! writes just that pair, which need not be true.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wit_parser::{Resolve, SizeAlign, Type, TypeDefKind};

/// Where constants begin; nothing lies at address zero.
const BASE: usize = 16;

/// The start of a guest's memory.
pub(crate) struct Image<'wit> {
    resolve: &'wit Resolve,
    sizes: SizeAlign,
    bytes: Vec<u8>,
}

impl<'wit> Image<'wit> {
    pub(crate) fn new(resolve: &'wit Resolve) -> Self {
        let mut sizes = SizeAlign::default();
        sizes.fill(resolve);
        Self { resolve, sizes, bytes: Vec::new() }
    }

    /// The bytes and the address they belong at.
    pub(crate) fn finish(self) -> (usize, Vec<u8>) {
        (BASE, self.bytes)
    }

    /// The address of `text`.
    pub(crate) fn text(&mut self, text: &[u8]) -> usize {
        let address = self.reserve(text.len(), 1);
        self.put(address, text);
        address
    }

    /// The address of one value.
    pub(crate) fn value(&mut self, kind: &Type, value: &Value) -> Result<usize> {
        self.row(&[*kind], std::slice::from_ref(value))
    }

    /// The address of `values`, one after the other like the fields of a record.
    pub(crate) fn row(&mut self, kinds: &[Type], values: &[Value]) -> Result<usize> {
        if kinds.len() != values.len() {
            bail!("{} values for {} places", values.len(), kinds.len());
        }
        let layout = self.sizes.record(kinds);
        let address = self.reserve(layout.size.size_wasm32(), layout.align.align_wasm32());
        for ((offset, kind), value) in self.offsets(kinds).into_iter().zip(values) {
            self.write(&kind, value, address + offset)?;
        }
        Ok(address)
    }

    /// The address of the elements of a list.
    pub(crate) fn elements(&mut self, kind: &Type, values: &[Value]) -> Result<usize> {
        let size = self.sizes.size(kind).size_wasm32();
        let address = self.reserve(size * values.len(), self.sizes.align(kind).align_wasm32());
        for (index, value) in values.iter().enumerate() {
            self.write(kind, value, address + index * size)?;
        }
        Ok(address)
    }

    fn offsets(&self, kinds: &[Type]) -> Vec<(usize, Type)> {
        self.sizes.field_offsets(kinds).into_iter().map(|(offset, kind)| (offset.size_wasm32(), *kind)).collect()
    }

    fn reserve(&mut self, size: usize, align: usize) -> usize {
        let start = (BASE + self.bytes.len()).next_multiple_of(align.max(1));
        self.bytes.resize(start + size - BASE, 0);
        start
    }

    fn put(&mut self, address: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(address - BASE..address - BASE + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn pair(&mut self, at: usize, first: usize, length: usize) -> Result<()> {
        self.put(at, &u32::try_from(first)?.to_le_bytes());
        self.put(at + 4, &u32::try_from(length)?.to_le_bytes());
        Ok(())
    }

    fn write(&mut self, kind: &Type, value: &Value, at: usize) -> Result<()> {
        let number = || match value {
            Value::Null => Ok(0),
            Value::Bool(flag) => Ok(u64::from(*flag)),
            other => other.as_u64().with_context(|| format!("not a number: {other}")),
        };
        match kind {
            Type::Bool | Type::U8 | Type::S8 => self.put(at, &u8::try_from(number()?)?.to_le_bytes()),
            Type::U16 | Type::S16 => self.put(at, &u16::try_from(number()?)?.to_le_bytes()),
            Type::U32 | Type::S32 | Type::Char => self.put(at, &u32::try_from(number()?)?.to_le_bytes()),
            Type::U64 | Type::S64 => self.put(at, &number()?.to_le_bytes()),
            Type::String => self.write_list(&Type::U8, value, at)?,
            Type::Id(id) => {
                let resolve = self.resolve;
                let found = resolve.types.get(*id).context("an unknown type")?;
                self.write_defined(&found.kind, value, at)?;
            }
            Type::F32 | Type::F64 | Type::ErrorContext => bail!("no constants of this type"),
        }
        Ok(())
    }

    fn write_defined(&mut self, kind: &TypeDefKind, value: &Value, at: usize) -> Result<()> {
        match kind {
            TypeDefKind::Type(inner) => self.write(inner, value, at),
            TypeDefKind::List(inner) => self.write_list(inner, value, at),
            TypeDefKind::Record(record) => {
                if !value.is_object() && !value.is_null() {
                    bail!("not a record: {value}");
                }
                let kinds: Vec<Type> = record.fields.iter().map(|field| field.ty).collect();
                for (field, (offset, kind)) in record.fields.iter().zip(self.offsets(&kinds)) {
                    let given = value.get(&field.name).unwrap_or(&Value::Null);
                    self.write(&kind, given, at + offset).with_context(|| format!("field `{}`", field.name))?;
                }
                Ok(())
            }
            TypeDefKind::Tuple(tuple) => {
                for (index, (offset, kind)) in self.offsets(&tuple.types).into_iter().enumerate() {
                    self.write(&kind, value.get(index).unwrap_or(&Value::Null), at + offset)?;
                }
                Ok(())
            }
            TypeDefKind::Option(inner) => match value {
                Value::Null => Ok(()),
                some => self.write_case(1, Some(inner), &[*inner], some, at),
            },
            TypeDefKind::Result(result) => {
                let both: Vec<Type> = [result.ok, result.err].into_iter().flatten().collect();
                match (value.get("ok"), value.get("err")) {
                    (Some(good), None) => self.write_case(0, result.ok.as_ref(), &both, good, at),
                    (None, Some(bad)) => self.write_case(1, result.err.as_ref(), &both, bad, at),
                    _ => bail!("not a result: {value}"),
                }
            }
            TypeDefKind::Handle(_) => self.write(&Type::U32, value, at),
            other => bail!("no constants of the type {}", other.as_str()),
        }
    }

    /// One case of an `option` or `result` whose payloads have the types `all`.
    fn write_case(&mut self, case: u8, kind: Option<&Type>, all: &[Type], value: &Value, at: usize) -> Result<()> {
        self.put(at, &[case]);
        let Some(kind) = kind else { return Ok(()) };
        let align = all.iter().map(|kind| self.sizes.align(kind).align_wasm32()).max().unwrap_or(1);
        self.write(kind, value, at + align.max(1))
    }

    fn write_list(&mut self, kind: &Type, value: &Value, at: usize) -> Result<()> {
        match value {
            Value::Null => Ok(()),
            Value::String(text) if *kind == Type::U8 => {
                let address = self.text(text.as_bytes());
                self.pair(at, address, text.len())
            }
            Value::Array(values) => {
                let address = self.elements(kind, values)?;
                self.pair(at, address, values.len())
            }
            Value::Object(lie) => {
                let part = |name| lie.get(name).and_then(Value::as_u64).with_context(|| format!("no `{name}`"));
                self.pair(at, usize::try_from(part("address")?)?, usize::try_from(part("length")?)?)
            }
            other => bail!("neither text nor list: {other}"),
        }
    }
}
