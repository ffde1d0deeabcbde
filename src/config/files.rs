//! The files of a configuration: the main file, the directory `tenants.d` next to it, and the CSV
//! file that `tenants_file` names.
//!
//! This module converts all of them to TOML text with locations; [`super::read`] interprets it.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::{ConfigError, read::SourceText};
use crate::settings::{Document, Fault, Faults, Location};

/// The columns of the CSV file that are keys of a tenant. Other columns are labels, whose names
/// have the prefix [`LABEL`].
const COLUMNS: [&str; 6] = ["name", "id", "credential", "cloud", "api", "initial_backfill_days"];
const LABEL: &str = "label.";

/// Reads a file of the configuration. `hint` is the hint of the error if that fails; it can be
/// empty.
pub(super) fn read(path: &Path, hint: &str) -> Result<SourceText, ConfigError> {
    let text = read_text(path, hint)?;

    Ok(SourceText { faults: Faults::new(&path.display().to_string(), &text), text })
}

/// Reads the files that contain only tenants and credentials: those of `tenants.d` in the order of
/// their names, then the CSV file. Fails if the directory or one of the files cannot be read, or if
/// the CSV file is not valid.
pub(super) fn more_tenants(main: &Path, text: &str) -> Result<Vec<SourceText>, ConfigError> {
    let mut more = Vec::new();

    let directory = main.with_file_name("tenants.d");
    if directory.is_dir() {
        let mut files = list(&directory).map_err(|error| cannot_read(&directory, &error, ""))?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();

        for file in files {
            more.push(read(&file, "")?);
        }
    }

    if let Some(csv) = tenants_file(text) {
        more.push(read_csv(&main.with_file_name("").join(csv))?);
    }

    Ok(more)
}

/// The value of `tenants_file`, if the text can be parsed. Faults are ignored here: the main file
/// is checked later, together with the others.
fn tenants_file(text: &str) -> Option<PathBuf> {
    let ignored = Faults::new("", "");
    let document = Document::parse(text, &ignored)?;

    document.section(&ignored).path("tenants_file")
}

/// Reads a CSV file, and converts it to a TOML list of its tenants. Each row becomes one line, so
/// that a fault in the TOML text can be reported at its row.
fn read_csv(path: &Path) -> Result<SourceText, ConfigError> {
    let file = path.display().to_string();
    let text = read_text(path, "check `tenants_file`")?;
    let fault = |line: usize, message: String, hint: Option<String>| {
        let location = Some(Location { line, column: 0 });
        ConfigError(vec![Fault { file: file.clone(), location, message, hint }])
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());

    let header = reader.headers().map_err(|error| fault(1, error.to_string(), None))?.clone();
    for column in &header {
        let is_label = column.strip_prefix(LABEL).is_some_and(|name| !name.is_empty());
        if !is_label && !COLUMNS.contains(&column) {
            let hint = format!("use only the columns {}, {LABEL}NAME", COLUMNS.join(", "));
            return Err(fault(1, format!("unknown column `{column}`"), Some(hint)));
        }
    }

    let (mut list, mut lines) = (String::from("tenants = [\n"), vec![1]);
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            let message = "the row and the header have different numbers of fields".to_owned();
            fault(usize::try_from(line).unwrap_or(1), message, None)
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        lines.push(usize::try_from(line).unwrap_or(1));
        list += &as_table(&header, &record);
    }
    list += "]\n";
    lines.push(1);

    Ok(SourceText { faults: Faults::of_lines(&file, &list, lines), text: list })
}

/// One row as a TOML inline table on one line. Empty fields are omitted.
fn as_table(header: &csv::StringRecord, row: &csv::StringRecord) -> String {
    let mut labels = String::new();
    let mut table = String::from("{");

    for (column, value) in header.iter().zip(row).filter(|(_, value)| !value.is_empty()) {
        let quoted = toml::Value::String(value.replace(['\n', '\r'], " ")).to_string();
        match column.strip_prefix(LABEL) {
            Some(label) => {
                let label = toml::Value::String(label.to_owned()).to_string();
                let _ = write!(labels, "{label} = {quoted},");
            }
            None if column == "initial_backfill_days" && value.parse::<u32>().is_ok() => {
                let _ = write!(table, "{column} = {value},");
            }
            None => {
                let _ = write!(table, "{column} = {quoted},");
            }
        }
    }

    let _ = writeln!(table, "labels = {{{}}}}},", labels.trim_end_matches(','));
    table
}

/// The paths of all files in a directory, in no particular order.
#[expect(clippy::disallowed_methods, reason = "`cannot_read` names the directory")]
fn list(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

#[expect(clippy::disallowed_methods, reason = "`cannot_read` names the file")]
fn read_text(path: &Path, hint: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error, hint))
}

/// The fault of a file or directory that cannot be read. `error` must not contain its path.
fn cannot_read(path: &Path, error: &std::io::Error, hint: &str) -> ConfigError {
    let file = path.display().to_string();
    ConfigError(vec![Fault {
        message: format!("cannot read `{file}`: {error}"),
        file,
        location: None,
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
    }])
}

#[cfg(test)]
mod tests {
    use crate::config::Configuration;

    const MAIN: &str = r#"
tenants_file = "tenants.csv"
[state]
directory = "/var/lib/x"
[credentials.app]
kind = "client_secret"
client_id = "11111111-2222-4333-8444-555555555555"
client_secret = { env = "X" }
[[sinks]]
name = "out"
type = "stdout"
"#;

    fn load(files: &[(&str, &str)]) -> Result<Configuration, String> {
        let directory = tempfile::tempdir().unwrap();
        fs_err::create_dir(directory.path().join("tenants.d")).unwrap();
        for (name, text) in files {
            fs_err::write(directory.path().join(name), text).unwrap();
        }

        let loaded = Configuration::load(&directory.path().join("c.toml"));
        loaded.map_err(|e| e.to_string().replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn reads_tenants_from_all_three_sources() {
        let csv = "name,id,credential,label.customer,initial_backfill_days\n\
                   \"a, inc\",aaaaaaaa-0000-4000-8000-000000000001,app,c-1,7\n\
                   b,b.example,app,,\n";
        let toml = "[[tenants]]\nname = \"d\"\nid = \"d.example\"\ncredential = \"app\"\n";
        let main = format!("{MAIN}\n{}", toml.replace("\"d", "\"m"));
        let files = [("c.toml", main.as_str()), ("tenants.csv", csv), ("tenants.d/1.toml", toml)];

        let configuration = load(&files).unwrap();
        let names: Vec<&str> = configuration.tenants.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["m", "d", "a, inc", "b"]);
        assert_eq!(configuration.tenants[2].labels["customer"], "c-1");
        assert_eq!(configuration.tenants[2].initial_backfill_days, 7);
        assert!(configuration.tenants[3].labels.is_empty());
        assert_eq!(configuration.credentials.len(), 1);
    }

    #[test]
    fn reports_faults_with_file_and_line() {
        let csv = "name,id,credential,cloud\n\
                   a,aaaaaaaa-0000-4000-8000-000000000001,app,\n\
                   b,nonsense,app,\n\
                   a,b.example,other,mars\n";
        let errors = load(&[("c.toml", MAIN), ("tenants.csv", csv)]).unwrap_err();
        for line in [
            "tenants.csv:3: `nonsense` is neither a tenant GUID nor a domain",
            "tenants.csv:4: unknown credential `other`",
            "tenants.csv:4: `tenants[2].cloud` must be one of",
        ] {
            assert!(errors.contains(line), "{line}: {errors}");
        }

        let errors = load(&[("c.toml", MAIN), ("tenants.csv", "name,idd\n")]).unwrap_err();
        assert!(errors.starts_with("tenants.csv:1: unknown column `idd`"), "{errors}");
        let errors = load(&[("c.toml", MAIN), ("tenants.csv", "name,id\na\n")]).unwrap_err();
        assert!(errors.starts_with("tenants.csv:2: the row and the header"), "{errors}");
        let errors = load(&[("c.toml", MAIN)]).unwrap_err();
        assert!(errors.starts_with("cannot read `tenants.csv`: No such file"), "{errors}");

        let errors = load(&[
            ("c.toml", MAIN),
            ("tenants.csv", "name,id\n"),
            ("tenants.d/1.toml", "[[sinks]]\nname=\"x\"\n"),
        ])
        .unwrap_err();
        assert!(errors.contains("tenants.d/1.toml:1:3: unknown key `sinks`"), "{errors}");
    }
}
