//! The JSON Schema of a table of keys, which editors use to complete and validate a configuration.
//! It is derived from the table alone, which the validation also uses; a reserved key is not part
//! of it.

use serde_json::{Map, Value, json};

use super::{DefaultValue, KeyDefinition, Many, Presence, SecretRef, Shape, Variant};

/// A schema (JSON Schema 2020-12) of an object with these keys.
pub fn schema(keys: &[KeyDefinition]) -> Value {
    object(&keys.iter().collect::<Vec<_>>())
}

fn object(keys: &[&KeyDefinition]) -> Value {
    let known = keys.iter().filter(|key| !matches!(key.shape, Shape::Reserved));
    let properties: Map<String, Value> =
        known.map(|key| (key.name.to_owned(), described(key))).collect();
    let required: Vec<&str> =
        keys.iter().filter(|key| key.is_required()).map(|key| key.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn described(key: &KeyDefinition) -> Value {
    let mut schema = of_shape(key.shape);
    if let Some(object) = schema.as_object_mut() {
        let description = match key.presence {
            Presence::Optional(without) => format!("{} If it is not set: {without}.", key.doc),
            Presence::Required | Presence::Default(_) => key.doc.to_owned(),
        };
        object.insert("description".to_owned(), description.into());
        if let Presence::Default(default) = key.presence {
            object.insert("default".to_owned(), default_value(default));
        }
    }
    schema
}

fn default_value(default: DefaultValue) -> Value {
    match default {
        DefaultValue::Text(text) => text.into(),
        DefaultValue::Bool(value) => value.into(),
        DefaultValue::Integer(value) => value.into(),
        DefaultValue::Duration(_) | DefaultValue::Size(_) => default.to_string().into(),
    }
}

fn of_shape(shape: Shape) -> Value {
    match shape {
        Shape::Text => json!({ "type": "string", "minLength": 1 }),
        Shape::File => json!({ "type": "string", "pattern": "^/" }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Duration { .. } => json!({ "type": "string", "pattern": "^[0-9]+ ?(ms|s|m|h|d)$" }),
        Shape::Size { .. } => json!({ "type": "string", "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$" }),
        Shape::Day => json!({ "type": "string", "format": "date" }),
        Shape::OneOf(choices) => json!({ "enum": choices }),
        Shape::OneOfOrTable { choices, keys, .. } => {
            json!({ "oneOf": [{ "enum": choices }, schema(keys)] })
        }
        Shape::ManyOf(choices) => json!({ "type": "array", "items": { "enum": choices } }),
        Shape::Texts => json!({ "type": "array", "items": { "type": "string", "minLength": 1 } }),
        Shape::Map => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::Secrets => {
            json!({ "type": "object", "additionalProperties": of_shape(Shape::Secret(None)) })
        }
        Shape::Secret(_) => {
            let property = |kind: &str| (kind.to_owned(), json!({ "type": "string" }));
            let properties: Map<String, Value> = SecretRef::kinds().map(property).collect();
            json!({
                "type": "object", "minProperties": 1, "maxProperties": 1,
                "additionalProperties": false, "properties": properties
            })
        }
        Shape::Table(keys) => schema(keys),
        Shape::TextOrSecret(_) => {
            json!({ "oneOf": [of_shape(Shape::Text), of_shape(Shape::Secret(None))] })
        }
        Shape::Tables(keys) => json!({ "type": "array", "items": schema(keys) }),
        Shape::NameOrSection(shape) => json!({ "oneOf": [{ "type": "string" }, of_shape(*shape)] }),
        Shape::Tagged { tag, many, keys, variants } => {
            let one = json!({ "oneOf": variants().iter().filter_map(|v| variant(tag, keys, v)).collect::<Vec<_>>() });
            match many {
                Many::One => one,
                Many::List => json!({ "type": "array", "items": one }),
                Many::Named => json!({ "type": "object", "additionalProperties": one }),
            }
        }
        Shape::Reserved => json!(false),
    }
}

/// The schema of one variant of a tagged table. `None` if it is not part of this build.
fn variant(tag: &str, keys: &[KeyDefinition], variant: &Variant) -> Option<Value> {
    let mut schema = object(&keys.iter().chain(variant.keys?).collect::<Vec<_>>());
    schema["properties"][tag] = json!({ "const": variant.name });
    Some(schema)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Regression: a default of zero was `null`.
    #[test]
    fn defaults_have_the_form_of_the_configuration() {
        for (default, shown) in [
            (DefaultValue::Duration(Duration::ZERO), "0s"),
            (DefaultValue::Duration(Duration::from_mins(10)), "10m"),
            (DefaultValue::Size(0), "0B"),
            (DefaultValue::Size(1 << 20), "1MiB"),
        ] {
            assert_eq!(default_value(default), shown);
        }
    }
}
