//! How much work a check with a plugin's JSON Schema can become, judged before anything is checked.
//!
//! Parts of a schema that check the same place of a value (two patterns that both fit a name, `items` beside `contains`)
//! add up, and with references they multiply from level to level. So for each level of a value it is counted, for the
//! worst way down, how many steps one place there can cost; what a value has on that level times this bounds the check.
//! The schema has passed [`crate::schema_bounds`]: same places follow each other in a bounded number of steps.

use std::collections::HashMap;
use std::ptr::from_ref;

use serde_json::{Map, Value};

use crate::schema_bounds::same_place;

/// The most steps that one check may take. A step is a comparison or so: this is far below a second.
const MAX_STEPS: u64 = 20_000_000;
/// What a regular expression costs for one unit of text.
const PATTERN_STEPS: i64 = 16;
/// What it costs to divide by a number that is not whole: fractions of many digits are reduced for it.
const DIVISION_STEPS: i64 = 1024;
/// Bytes of text in one unit.
const UNIT_BYTES: usize = 16;
/// Levels of a value that are told apart. JSON that is read is not nested deeper.
const LEVELS: usize = 128;
/// More steps than this are not told apart.
const MANY: i64 = 1 << 40;
/// Steps that judging one schema may take.
const MAX_JUDGING: usize = 4_000_000;

type Fields = Map<String, Value>;

/// The most steps that one place costs, by its level. Beyond the last one it costs what a place there does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Load(Vec<u64>);

impl Load {
    /// Judges `schema`.
    ///
    /// # Errors
    /// Judging it would itself take too long.
    pub(crate) fn of(schema: &Value) -> Result<Self, String> {
        let Some(root) = schema.as_object() else { return Ok(Self(vec![1])) };
        let mut objects = Vec::new();
        collect(schema, &mut objects);
        let mut left = MAX_JUDGING;
        let mut layer = Layer::default();
        let mut loads = Vec::new();
        for level in 0..LEVELS {
            let next = layer.next(schema, &objects, level, &mut left)?;
            loads.push(u64::try_from(next.of(root)).unwrap_or_default());
            let is_settled = level > 1 && next.0 == layer.0;
            layer = next;
            if is_settled {
                break;
            }
        }
        Ok(Self(loads))
    }

    /// Whether `value` may be checked; gives the most steps that this takes.
    ///
    /// # Errors
    /// It may not; for people.
    pub(crate) fn admits(&self, value: &Value) -> Result<u64, String> {
        let mut steps = 0;
        self.add(value, 0, &mut steps);
        if steps <= MAX_STEPS {
            return Ok(steps);
        }
        Err(format!(
            "checking it could take more than {MAX_STEPS} steps: it is too large or too deep for a schema with so many parts that apply to one place"
        ))
    }

    fn add(&self, value: &Value, level: usize, steps: &mut u64) {
        let own = self.0.get(level).or(self.0.last()).copied().unwrap_or_default();
        let mut count = |text: &str, load: u64| {
            let units = u64::try_from(text.len() / UNIT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
            *steps = steps.saturating_add(units.saturating_mul(load));
        };
        match value {
            Value::String(text) => count(text, own),
            Value::Array(elements) => {
                count("", own);
                elements.iter().for_each(|element| self.add(element, level + 1, steps));
            }
            Value::Object(fields) => {
                count("", own);
                let below = self.0.get(level + 1).or(self.0.last()).copied().unwrap_or_default();
                for (name, field) in fields {
                    let units = u64::try_from(name.len() / UNIT_BYTES).unwrap_or(u64::MAX);
                    *steps = steps.saturating_add(units.saturating_mul(below));
                    self.add(field, level + 1, steps);
                }
            }
            _ => count("", own),
        }
    }
}

/// Every object in the schema, whether it is a schema or not.
fn collect<'schema>(value: &'schema Value, objects: &mut Vec<&'schema Fields>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, objects)),
        Value::Object(fields) => {
            objects.push(fields);
            fields.values().for_each(|field| collect(field, objects));
        }
        _ => {}
    }
}

/// The most steps that one place costs so many levels below the place that a schema is applied to, by schema.
#[derive(Default)]
struct Layer(HashMap<*const Fields, i64>);

/// What checks the places right below one place.
#[derive(Default, Clone)]
struct Below<'schema> {
    /// Any property.
    property: i64,
    /// How much more or less it is for a property of this name.
    named: HashMap<&'schema str, i64>,
    /// Any element.
    element: i64,
    /// The place itself.
    place: i64,
}

impl Below<'_> {
    fn most(&self, level: usize) -> i64 {
        let named = self.named.values().copied().max().unwrap_or_default().max(0);
        let most = if level == 0 { self.place } else { self.element.max(self.property + named) };
        most.clamp(0, MANY)
    }
}

impl Layer {
    fn of(&self, schema: &Fields) -> i64 {
        self.0.get(&from_ref(schema)).copied().unwrap_or_default()
    }

    /// What a value that is a schema costs; one that is `true` or `false` costs nothing.
    fn at(&self, schema: Option<&Value>) -> i64 {
        schema.and_then(Value::as_object).map_or(0, |schema| self.of(schema))
    }

    /// The layer one level deeper.
    fn next(&self, root: &Value, objects: &[&Fields], level: usize, left: &mut usize) -> Result<Self, String> {
        let mut known: HashMap<*const Fields, Below<'_>> = HashMap::new();
        let mut next = HashMap::with_capacity(objects.len());
        for schema in objects {
            let below = self.below(root, schema, level, &mut known, left)?;
            next.insert(from_ref(*schema), below.most(level));
        }
        Ok(Self(next))
    }

    /// What `schema` and all that checks the same place with it ask of the places below.
    fn below<'schema>(
        &self,
        root: &'schema Value,
        schema: &'schema Fields,
        level: usize,
        known: &mut HashMap<*const Fields, Below<'schema>>,
        left: &mut usize,
    ) -> Result<Below<'schema>, String> {
        if let Some(found) = known.get(&from_ref(schema)) {
            spend(left, found.named.len() + 1)?;
            return Ok(found.clone());
        }
        let mut below = self.own(schema, level);
        spend(left, below.named.len() + 1)?;
        for beside in same_place(root, schema) {
            let more = self.below(root, beside, level, known, left)?;
            below.property += more.property;
            below.element += more.element;
            below.place += more.place;
            for (name, difference) in more.named {
                *below.named.entry(name).or_default() += difference;
            }
        }
        // Whether something was evaluated is found out by checking it once more.
        if schema.contains_key("unevaluatedProperties") || schema.contains_key("unevaluatedItems") {
            below.property *= 2;
            below.element *= 2;
            below.place *= 2;
            below.named.values_mut().for_each(|difference| *difference *= 2);
        }
        for sum in [&mut below.property, &mut below.element, &mut below.place] {
            *sum = (*sum).min(MANY);
        }
        below.named.values_mut().for_each(|difference| *difference = (*difference).clamp(-MANY, MANY));
        known.insert(from_ref(schema), below.clone());
        Ok(below)
    }

    /// What `schema` asks by itself. `self` is one level less deep.
    fn own<'schema>(&self, schema: &'schema Fields, level: usize) -> Below<'schema> {
        let object = |name: &str| schema.get(name).and_then(Value::as_object);
        let array = |name: &str| schema.get(name).and_then(Value::as_array);
        let count = |length: usize| i64::try_from(length).unwrap_or(MANY);
        if level == 0 {
            let compared = array("enum").map_or(0, Vec::len) + array("required").map_or(0, Vec::len);
            let pattern = if schema.contains_key("pattern") { PATTERN_STEPS } else { 0 };
            let divisor = schema.get("multipleOf").and_then(Value::as_f64);
            let division = if divisor.is_some_and(|divisor| divisor.fract() != 0.0) { DIVISION_STEPS } else { 0 };
            return Below { place: 1 + count(compared) + pattern + division, ..Below::default() };
        }
        let mut below = Below::default();
        let other = self.at(schema.get("additionalProperties")) + self.at(schema.get("unevaluatedProperties"));
        below.property = other;
        if level == 1 {
            below.property += self.at(schema.get("propertyNames"));
        }
        if let Some(patterns) = object("patternProperties") {
            below.property += patterns.values().map(|schema| self.at(Some(schema))).sum::<i64>();
            if level == 1 {
                below.property += count(patterns.len()) * PATTERN_STEPS;
            }
        }
        for (name, schema) in object("properties").into_iter().flatten() {
            below.named.insert(name, self.at(Some(schema)) - other);
        }
        let most =
            |list: Option<&Vec<Value>>| list.into_iter().flatten().map(|one| self.at(Some(one))).max().unwrap_or(0);
        below.element = self.at(schema.get("items"))
            + most(array("items")).max(most(array("prefixItems")))
            + ["contains", "additionalItems", "unevaluatedItems"]
                .iter()
                .map(|name| self.at(schema.get(*name)))
                .sum::<i64>();
        below
    }
}

fn spend(left: &mut usize, steps: usize) -> Result<(), String> {
    *left = left.checked_sub(steps).ok_or("it has too many parts that refer to each other to be judged")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Schema;
    use serde_json::json;

    fn loads(schema: &Value) -> Vec<u64> {
        Load::of(schema).unwrap().0
    }

    fn deep(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
        (0..levels).fold(json!("x"), |inner, _| wrap(inner))
    }

    #[test]
    fn what_applies_to_one_place_adds_up_and_alternatives_of_name_do_not() {
        let flat =
            json!({"properties": {"a": {"type": "string"}, "b": {"enum": [1, 2, 3]}}, "additionalProperties": {}});
        assert_eq!(loads(&flat)[..3], [1, 4, 0]);
        let list = json!({"items": {"type": "string"}, "contains": {"type": "string"}});
        assert_eq!(loads(&list)[..3], [1, 2, 0]);
        let patterns = json!({"patternProperties": {"a": {}, "b": {"patternProperties": {"c": {}}}}});
        assert_eq!(loads(&patterns)[..3], [1, 2 + 32, 1 + 16]);
    }

    #[test]
    fn references_multiply_only_where_they_overlap() {
        let tree = json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}});
        // The place that refers, and what it refers to.
        assert!(loads(&tree).iter().all(|load| *load <= 2), "{:?}", loads(&tree));
        let doubled = json!({"patternProperties": {"a": {"$ref": "#"}, "^a": {"$ref": "#"}}});
        assert!(loads(&doubled)[30] > 1 << 30, "{:?}", loads(&doubled));
    }

    /// Each of these would be checked for minutes to years.
    #[test]
    fn a_check_that_would_burn_time_is_refused_and_a_small_one_is_made() {
        let object = |inner: Value| json!({"a": inner});
        let array = |inner: Value| json!([inner]);
        let twice =
            |keyword: &str| json!({"type": ["object", "array"], keyword: {"a": {"$ref": "#"}, "^a": {"$ref": "#"}}});
        let beside = json!({"type": "array", "items": {"$ref": "#"}, "contains": {"$ref": "#"}});
        let all = json!({"type": "object", "allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]});
        let seen =
            json!({"type": "object", "unevaluatedProperties": false, "anyOf": [{"properties": {"a": {"$ref": "#"}}}]});
        let cases = [
            (twice("patternProperties"), deep(30, object), deep(3, object)),
            (beside, deep(30, array), deep(3, array)),
            (all, deep(30, object), deep(3, object)),
            (seen, deep(30, object), deep(3, object)),
        ];
        for (schema, hostile, small) in cases {
            let compiled = Schema::compile(&schema).unwrap();
            let problem = compiled.check(&hostile).unwrap_err();
            assert!(problem.contains("could take more than"), "{schema}: {problem}");
            // Its innermost text is wrong, which is found out by checking.
            let problem = compiled.check(&small).unwrap_err();
            assert!(problem.starts_with("at "), "{schema}: {problem}");
        }
    }

    #[test]
    fn a_large_value_is_weighed_with_what_each_part_of_it_costs() {
        let many = |count: usize| Value::Array(vec![json!(1); count]);
        let cheap = Schema::compile(&json!({"items": {"type": "integer"}})).unwrap();
        assert_eq!(cheap.check(&many(500_000)), Ok(()));
        let parts: Vec<Value> = (0..1500).map(|_| json!({"type": "integer"})).collect();
        let dear = Schema::compile(&json!({"items": {"allOf": parts}})).unwrap();
        assert_eq!(dear.check(&many(1000)), Ok(()));
        assert!(dear.check(&many(500_000)).unwrap_err().contains("could take more than"));
        let patterns: Map<String, Value> = (0..2000).map(|number| (format!("(a|b)*{number}"), json!({}))).collect();
        let names: Map<String, Value> = (0..2000).map(|number| (format!("{number}ab"), json!(1))).collect();
        let patterned = Schema::compile(&json!({"patternProperties": patterns})).unwrap();
        assert_eq!(patterned.check(&json!({"ab": 1})), Ok(()));
        assert!(patterned.check(&Value::Object(names)).unwrap_err().contains("could take more than"));
    }

    #[test]
    fn dividing_by_a_fraction_is_dear_and_by_a_whole_number_is_not() {
        let divided = |divisor: Value| Schema::compile(&json!({"items": {"multipleOf": divisor}})).unwrap();
        let many = Value::Array(vec![json!(4); 100_000]);
        assert_eq!(divided(json!(2)).check(&many), Ok(()));
        assert!(divided(json!(1e-300)).check(&many).unwrap_err().contains("could take more than"));
        assert_eq!(divided(json!(0.5)).check(&json!([1.5, 4])), Ok(()));
    }

    #[test]
    fn a_schema_that_cannot_be_judged_quickly_is_refused() {
        let names: Map<String, Value> = (0..200).map(|number| (format!("n{number}"), json!({"$ref": "#/d"}))).collect();
        let users: Vec<Value> = (0..1500).map(|_| json!({"$ref": "#/d"})).collect();
        let schema = json!({"d": {"properties": names, "items": {"$ref": "#"}}, "items": {"allOf": users}});
        assert!(Load::of(&schema).unwrap_err().contains("to be judged"));
    }
}
