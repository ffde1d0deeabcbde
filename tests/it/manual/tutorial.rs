//! The tutorial in CONTRIBUTING.md that adds a sink: everything of this project that it names
//! exists. The tutorial is not compiled, so its names are compared with the source files as text.

use super::{blocks, read, root};

const SINK: &str = "src/sink/mod.rs";
const KIND: &str = "src/sink/kind.rs";
const FAILURE: &str = "src/sink/failure.rs";
const BATCH: &str = "src/sink/batch.rs";
const CONTRACT: &str = "tests/it/contract/mod.rs";
const RECEIVERS: &str = "tests/it/contract/receivers/mod.rs";

/// Uses of functions, fields and variants in the tutorial, each with the source file and the
/// declaration that it requires.
const USES: &[(&str, &str, &str)] = &[
    ("DIRECTORY: Key<Text> =", "src/settings/typed.rs", "pub struct Key<T>"),
    ("required(\"directory\", TEXT, \"", "src/settings/typed.rs", "pub const fn required<T>("),
    ("keys! {", "src/settings/typed/declare.rs", "macro_rules! keys {"),
    ("..FORMAT_KEYS;", "src/sink/shared_keys.rs", "const FORMAT_KEYS;"),
    (
        "section.get(&FORMAT)",
        "src/sink/shared_keys.rs",
        "FORMAT: KeyWithDefault<OneOf<FormatName>>",
    ),
    ("section.get(&DIRECTORY)?", "src/settings/section.rs", "pub fn get<"),
    ("self.formatter.write(record, out)", "src/format/mod.rs", "pub fn write("),
    ("formatter(self.format, context)", SINK, "fn formatter(format: FormatName,"),
    ("chain(&error)", "src/error.rs", "pub fn chain(error: "),
    ("clock::now()", "src/clock.rs", "pub fn now() -> "),
    ("batch.push(record, |out| {", BATCH, "pub fn push<E>("),
    ("batch.bytes()", BATCH, "pub fn bytes(&self) -> &[u8]"),
    ("Limits { records: 1_000,", SINK, "    pub records: usize,"),
    (" bytes: 1 << 20,", SINK, "    pub bytes: usize,"),
    (" in_flight: 1 }", SINK, "    pub in_flight: usize,"),
    ("Failure::misconfigured(format!(", FAILURE, "pub fn misconfigured(reason: impl Into<String>)"),
    ("Failure::retry(chain(&error))", FAILURE, "pub fn retry(reason: impl Into<String>)"),
    ("Acknowledgement::received()", SINK, "pub fn received() -> Self"),
    ("`Acknowledgement::Pending`", SINK, "    Pending("),
    ("`Retry` sends", FAILURE, "    Retry {"),
    ("`Misconfigured` parks", FAILURE, "    Misconfigured {"),
    ("`Poison` lists", FAILURE, "    Poison {"),
    ("variant: \"\",", KIND, "    pub variant: &'static str,"),
    ("acknowledgement: \"", KIND, "    pub acknowledgement: &'static str,"),
    ("may_be_lost: \"", KIND, "    pub may_be_lost: &'static str,"),
    ("may_be_repeated: \"", KIND, "    pub may_be_repeated: &'static str,"),
    ("`KINDS` in the same file", SINK, "pub const KINDS: &[SinkKind] = "),
    ("name: \"spool\",\n    keys", KIND, "    pub name: &'static str,"),
    ("keys: spool::KEYS,", KIND, "    pub keys: &'static [KeyDefinition],"),
    ("read: spool::read,", KIND, "    pub read: fn(&Section<'_>) -> Option<Box<dyn Plan>>,"),
    ("guarantees: spool::GUARANTEES,", KIND, "    pub guarantees: &'static [Guarantee],"),
    ("examples: spool::EXAMPLES,", KIND, "    pub examples: &'static [ExampleSection],"),
    (
        ".example(\"/var/spool/",
        "src/settings/typed.rs",
        "pub const fn example(self, value: &'static str)",
    ),
    ("about: \"Files that", "src/settings/example/section.rs", "    pub about: &'static str,"),
    ("..ExampleSection::NOT_SET", "src/settings/example/section.rs", "    pub const NOT_SET: Self"),
    ("SinkCase { repeats_per_kill: ", CONTRACT, "    repeats_per_kill: usize,"),
    ("case(\"`spool`\", \"spool\", || ", RECEIVERS, "fn case(row: &'static str,"),
    ("ids_in(&self.content())", RECEIVERS, "fn ids_in(text: &str) -> Vec<String>"),
    ("a `FaultyProxy` in front", "tests/it/support/faulty_proxy.rs", "pub struct FaultyProxy"),
    ("the list at the end of `tests/it/contract/mod.rs`", CONTRACT, "\ncontract! {"),
    ("tests/quick reference_pages", "src/cli/reference.rs", "fn reference_pages"),
];

#[test]
fn tutorial_uses_only_what_exists() {
    let page = read("CONTRIBUTING.md");
    for (statement, source, declaration) in USES {
        assert!(page.contains(statement), "CONTRIBUTING.md does not contain `{statement}`");
        assert!(
            read(source).contains(declaration),
            "CONTRIBUTING.md: `{statement}`: {source} has no `{declaration}`"
        );
    }

    // Paths in code spans, except those of the new sink.
    let mut count = 0;
    for span in page.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "tests/", "deploy/", "docs/"].iter().any(|p| span.starts_with(p));
        if is_path && !span.contains(['\n', ' ']) && !span.contains("spool") {
            assert!(root().join(span).exists(), "CONTRIBUTING.md: no `{span}`");
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} paths were found");
}

#[test]
fn tutorial_imports_only_what_exists() {
    let tutorial = blocks(&read("CONTRIBUTING.md"), "rust");
    let mut count = 0;
    for (block, parent) in [(&tutorial[0], SINK), (&tutorial[2], RECEIVERS)] {
        for path in imports(block) {
            let (module, name) = path.rsplit_once("::").unwrap();
            let source = match module {
                "super" => parent.to_owned(),
                "super::shared_keys" => "src/sink/shared_keys.rs".to_owned(),
                "crate" => "src/lib.rs".to_owned(),
                _ => source_of(module.strip_prefix("crate::").unwrap()),
            };
            assert!(declares(&read(&source), name), "CONTRIBUTING.md: {source} has no `{name}`");
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} imports were found");
}

#[test]
fn tutorial_implements_the_traits_completely() {
    let tutorial = blocks(&read("CONTRIBUTING.md"), "rust");
    let cases = [
        (&tutorial[0], "Plan", SINK),
        (&tutorial[0], "Sink", SINK),
        (&tutorial[2], "Receiver", CONTRACT),
    ];
    for (block, name, source) in cases {
        let implemented = implemented_methods(block, name);
        let methods = trait_methods(&read(source), name);
        assert!(!methods.is_empty(), "{source} has no trait `{name}`");

        for method in &implemented {
            let exists = methods.iter().any(|(existing, _)| existing == method);
            assert!(exists, "CONTRIBUTING.md: `{name}` has no method `{method}`");
        }
        for (method, is_required) in &methods {
            assert!(
                !is_required || implemented.contains(method),
                "CONTRIBUTING.md does not implement `{method}` of `{name}`"
            );
        }
    }
}

#[test]
fn tutorial_lists_clauses_of_the_contract() {
    let tutorial = blocks(&read("CONTRIBUTING.md"), "rust");
    let contract = read(CONTRACT);
    let (sink, clauses) = tutorial[3].trim_end().trim_end_matches(';').split_once(':').unwrap();
    assert_eq!(sink, "spool");
    for clause in clauses.split_whitespace() {
        let declaration = format!("\nfn {clause}(case: SinkCase)");
        assert!(contract.contains(&declaration), "CONTRIBUTING.md: no clause `{clause}`");
    }
}

/// The paths that a block imports from this crate.
fn imports(block: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for statement in block.split(';') {
        for start in ["use super::", "use crate::"] {
            if let Some(at) = statement.find(start) {
                let tree: String = statement[at + "use ".len()..].split_whitespace().collect();
                expand("", &tree, &mut paths);
            }
        }
    }
    paths
}

/// Collects the paths of a tree such as `crate::{clock,error::chain}`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((start, rest)) = tree.split_once('{') else {
        if !tree.is_empty() {
            paths.push(format!("{prefix}{tree}"));
        }
        return;
    };

    // The members are separated by the commas outside inner braces.
    let members = rest.strip_suffix('}').unwrap();
    let mut depth = 0;
    let parts = members.split(|c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    for part in parts {
        expand(&format!("{prefix}{start}"), part, paths);
    }
}

/// The source file of a module at the top level of the crate.
fn source_of(module: &str) -> String {
    let file = format!("src/{module}.rs");
    if root().join(&file).exists() { file } else { format!("src/{module}/mod.rs") }
}

/// Whether a source file declares a name or imports it.
fn declares(source: &str, name: &str) -> bool {
    let code: Vec<&str> =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let keywords = ["fn", "struct", "enum", "trait", "type", "const", "mod"];
    let is_declared = keywords.iter().any(|keyword| has_word(&code, &format!("{keyword} {name}")));
    // The macro `keys!` declares constants without the keyword.
    let is_key =
        || has_word(&code, &format!("{name}: Key")) || code.contains(&format!("{name}: KeyWith"));
    let is_imported = || {
        let mut statements = code.split(';').filter_map(|statement| statement.split_once("use "));
        statements.any(|(_, tree)| has_word(tree, name))
    };
    is_declared || is_key() || is_imported()
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + word.len()..].chars().next())
    })
}

/// The methods that a block implements for a trait. The lines of a block are not indented, and the
/// implementation ends where the next one begins.
fn implemented_methods(block: &str, name: &str) -> Vec<String> {
    let start = format!("impl {name} for ");
    let lines = block.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
    let body = lines.take_while(|line| !line.starts_with("impl "));
    body.filter_map(|line| line.strip_prefix("fn ")).map(identifier).collect()
}

/// The methods of a trait, each with whether it has no default.
fn trait_methods(source: &str, name: &str) -> Vec<(String, bool)> {
    let start = format!("pub trait {name}");
    let body = source.split(&start).nth(1).unwrap_or_default();
    let body = body.split("\n}\n").next().unwrap_or_default();
    let methods = body.split("\n    fn ").skip(1);
    methods
        .map(|method| {
            let end = method.find([';', '{']).unwrap();
            (identifier(method), method[end..].starts_with(';'))
        })
        .collect()
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
