//! Every key and value against its table, before anything is believed.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Choice, Faults, Key, Many, Section, Shape, Variant, parse_duration, parse_size,
    section::integer,
};
use crate::model::Day;

/// Notes every unknown key, wrong shape, unknown value and missing key of a section.
pub fn check(section: &Section<'_>, keys: &[Key], faults: &Faults) {
    let at = At { faults, path: String::new() };
    at.table(section.table, 0..0, &keys.iter().collect::<Vec<_>>());
}

/// A location in the file: where to note faults, and the path that names it.
struct At<'a> {
    faults: &'a Faults,
    path: String,
}

impl At<'_> {
    fn table(&self, table: &DeTable<'_>, span: std::ops::Range<usize>, keys: &[&Key]) {
        for (name, value) in table {
            let at = self.inside(name.get_ref());
            match keys.iter().find(|key| key.name == name.get_ref()) {
                Some(key) => at.value(value, name, key.shape),
                None => self.unknown_key(name, keys),
            }
        }
        for key in keys.iter().filter(|key| key.required) {
            if !table.iter().any(|(name, _)| name.get_ref() == key.name) {
                let path = self.inside(key.name).path;
                self.faults.at(
                    span.clone(),
                    format!("`{path}` is missing"),
                    Some(key.doc.to_owned()),
                );
            }
        }
    }

    fn unknown_key(&self, name: &Spanned<std::borrow::Cow<'_, str>>, keys: &[&Key]) {
        let path = self.inside(name.get_ref()).path;
        let nearest = nearest(name.get_ref(), keys.iter().map(|key| key.name));
        let hint = nearest.map(|near| format!("did you mean `{near}`?"));
        self.faults.at(name.span(), format!("unknown key `{path}`"), hint);
    }

    fn value(
        &self,
        value: &Spanned<DeValue<'_>>,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        shape: Shape,
    ) {
        let read = value.get_ref();
        match shape {
            Shape::Later => {
                self.faults.at(
                    name.span(),
                    format!("`{}` is not in this version", self.path),
                    None,
                );
            }
            Shape::OffOnly if read.as_bool() == Some(true) => {
                self.faults.at(
                    value.span(),
                    format!("`{} = true` is not in this version", self.path),
                    None,
                );
            }
            Shape::Table(keys) => {
                self.with_table(value, |at, table| at.table(table, value.span(), &refs(keys)));
            }
            Shape::Tables(keys) => self.each(value, |at, item| {
                at.with_table(item, |at, table| at.table(table, item.span(), &refs(keys)));
            }),
            Shape::NameOr(_) if read.is_str() => self.scalar(value, Shape::Text),
            Shape::NameOr(shape) => self.value(value, name, *shape),
            Shape::Tagged { tag, many, keys, variants } => {
                let check = |at: &Self, item: &Spanned<DeValue<'_>>| {
                    at.with_table(item, |at, table| {
                        at.tagged(table, item.span(), tag, keys, &variants());
                    });
                };
                match many {
                    Many::One => check(self, value),
                    Many::List => self.each(value, check),
                    Many::Named => self.with_table(value, |at, table| {
                        table
                            .iter()
                            .for_each(|(name, item)| check(&at.inside(name.get_ref()), item));
                    }),
                }
            }
            Shape::Secret => self.secret(value),
            Shape::Secrets => self.with_table(value, |at, table| {
                table.iter().for_each(|(name, value)| at.inside(name.get_ref()).secret(value));
            }),
            Shape::OneOfOrTable(_, keys) if read.is_table() => {
                self.value(value, name, Shape::Table(keys));
            }
            Shape::OneOf(choices) | Shape::OneOfOrTable(choices, _) => self.choice(value, choices),
            Shape::ManyOf(choices) => self.each(value, |at, item| at.choice(item, choices)),
            Shape::Map => self.with_table(value, |at, table| {
                for (name, value) in table {
                    at.inside(name.get_ref()).value(value, name, Shape::Text);
                }
            }),
            Shape::Texts => self.each(value, |at, item| at.scalar(item, Shape::Text)),
            scalar => self.scalar(value, scalar),
        }
    }

    fn scalar(&self, value: &Spanned<DeValue<'_>>, shape: Shape) {
        let read = value.get_ref();
        let text = read.as_str();
        let (good, wanted) = match shape {
            Shape::Bool | Shape::OffOnly => (read.is_bool(), "true or false".to_owned()),
            Shape::Integer { min, max } => (
                integer(read).is_some_and(|i| (min..=max).contains(&i)),
                format!("a whole number from {min} to {max}"),
            ),
            Shape::Duration => (
                text.and_then(parse_duration).is_some(),
                "a duration such as \"10m\" or \"6h\"".to_owned(),
            ),
            Shape::Size => {
                (text.and_then(parse_size).is_some(), "a size such as \"32MiB\"".to_owned())
            }
            Shape::Day => {
                (text.and_then(Day::parse).is_some(), "a day such as \"2026-09-01\"".to_owned())
            }
            _ => (text.is_some_and(|t| !t.is_empty()), "a text, and not empty".to_owned()),
        };
        if !good {
            let dated = read.is_datetime();
            let hint = dated.then(|| "put the date between quotes".to_owned());
            self.faults.at(value.span(), format!("`{}` must be {wanted}", self.path), hint);
        }
    }

    fn choice(&self, value: &Spanned<DeValue<'_>>, choices: &[Choice]) {
        let text = value.get_ref().as_str().unwrap_or_default();
        let known = choices.iter().find(|choice| choice.name == text);
        match known {
            Some(choice) if choice.later => self.not_yet(value, text),
            Some(_) => {}
            None => {
                self.unknown_value(
                    value,
                    text,
                    choices.iter().filter(|c| !c.later).map(|c| c.name),
                );
            }
        }
    }

    fn tagged(
        &self,
        table: &DeTable<'_>,
        span: std::ops::Range<usize>,
        tag: &str,
        keys: &[Key],
        variants: &[Variant],
    ) {
        let tagged = table.iter().find(|(name, _)| name.get_ref() == tag).map(|(_, value)| value);
        let name = tagged.and_then(|value| value.get_ref().as_str());
        let variant = name.and_then(|name| variants.iter().find(|variant| variant.name == name));
        match (tagged, variant) {
            (Some(value), Some(Variant { name, keys: None })) => {
                // Its keys are not this version's to judge.
                self.inside(tag).not_built(value, name);
            }
            (_, Some(Variant { keys: Some(own), .. })) => {
                self.table(table, span, &keys.iter().chain(own.iter()).collect::<Vec<_>>());
            }
            (Some(value), None) => {
                let known = variants
                    .iter()
                    .filter(|variant| variant.keys.is_some())
                    .map(|variant| variant.name);
                self.inside(tag).unknown_value(value, name.unwrap_or_default(), known);
                self.common(table, keys);
            }
            (None, _) => {
                self.faults.at(span, format!("`{}` is missing", self.inside(tag).path), None);
                self.common(table, keys);
            }
        }
    }

    /// What can be judged of a table whose tag says nothing.
    fn common(&self, table: &DeTable<'_>, keys: &[Key]) {
        for (name, value) in table {
            if let Some(key) = keys.iter().find(|key| key.name == name.get_ref()) {
                self.inside(key.name).value(value, name, key.shape);
            }
        }
    }

    fn secret(&self, value: &Spanned<DeValue<'_>>) {
        const WAYS: [&str; 3] = ["credential", "file", "env"];
        let hint = "write { credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }";
        let table = value.get_ref().as_table();
        let one = table.filter(|table| table.len() == 1).and_then(|table| table.iter().next());
        let good = one.is_some_and(|(way, to)| {
            WAYS.contains(&way.get_ref().as_ref())
                && to.get_ref().as_str().is_some_and(|to| !to.is_empty())
        });
        if !good {
            // The value is not printed: it may be the secret itself.
            let message = if value.get_ref().is_str() {
                format!("`{}` must not hold the secret itself, but say where it is", self.path)
            } else {
                format!("`{}` must say where one secret is", self.path)
            };
            self.faults.at(value.span(), message, Some(hint.to_owned()));
        }
    }

    fn not_yet(&self, value: &Spanned<DeValue<'_>>, text: &str) {
        self.faults.at(
            value.span(),
            format!("`{} = \"{text}\"` is not in this version", self.path),
            None,
        );
    }

    fn not_built(&self, value: &Spanned<DeValue<'_>>, name: &str) {
        self.faults.at(
            value.span(),
            format!("`{} = \"{name}\"` is not in this build", self.path),
            Some(format!("`--features {name}` builds it in")),
        );
    }

    fn unknown_value<'b>(
        &self,
        value: &Spanned<DeValue<'_>>,
        text: &str,
        known: impl Iterator<Item = &'b str>,
    ) {
        let known: Vec<&str> = known.collect();
        let message = format!("`{}` must be one of: {}", self.path, known.join(", "));
        let hint = nearest(text, known.into_iter()).map(|near| format!("did you mean `{near}`?"));
        self.faults.at(value.span(), message, hint);
    }

    fn each(&self, value: &Spanned<DeValue<'_>>, check: impl Fn(&Self, &Spanned<DeValue<'_>>)) {
        let Some(list) = value.get_ref().as_array() else {
            let table = value.get_ref().is_table();
            let hint = table.then(|| format!("write [[{0}]], with two brackets", self.path));
            return self.faults.at(value.span(), format!("`{}` must be a list", self.path), hint);
        };
        for (index, item) in list.iter().enumerate() {
            check(&At { faults: self.faults, path: format!("{}[{index}]", self.path) }, item);
        }
    }

    fn with_table(&self, value: &Spanned<DeValue<'_>>, check: impl FnOnce(&Self, &DeTable<'_>)) {
        match value.get_ref().as_table() {
            Some(table) => check(self, table),
            None => self.faults.at(value.span(), format!("`{}` must be a table", self.path), None),
        }
    }

    fn inside(&self, key: &str) -> Self {
        let path =
            if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { faults: self.faults, path }
    }
}

fn refs(keys: &[Key]) -> Vec<&Key> {
    keys.iter().collect()
}

/// The known name that a mistaken one is nearest to, if it is near at all.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, near) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(name.len() / 3)).then_some(near)
}
