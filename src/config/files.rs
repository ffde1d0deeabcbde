//! The files of a configuration: the main one, `tenants.d` beside it, and the CSV that it names.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::{ConfigError, read::Text};
use crate::settings::{Document, Fault, Faults, Location};

/// Columns of the CSV that are keys of a tenant; those that start so are labels.
const COLUMNS: [&str; 6] = ["name", "id", "credential", "cloud", "api", "initial_backfill_days"];
const LABEL: &str = "label.";

/// Reads a file of the configuration.
pub(super) fn read(path: &Path, hint: &str) -> Result<Text, ConfigError> {
    let text = read_text(path, hint)?;
    Ok(Text { faults: Faults::new(&path.display().to_string(), &text), text })
}

/// The files that hold tenants and nothing else.
pub(super) fn more_tenants(main: &Path, text: &str) -> Result<Vec<Text>, ConfigError> {
    let mut more = Vec::new();
    let directory = main.with_file_name("tenants.d");
    if directory.is_dir() {
        let entries = std::fs::read_dir(&directory)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| cannot_read(&directory, &error, ""))?;
        let mut files: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
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

/// `tenants_file`, if the text is so far readable; what is wrong with it is said later.
fn tenants_file(text: &str) -> Option<PathBuf> {
    let unheard = Faults::new("", "");
    let document = Document::parse(text, &unheard)?;
    document.section(&unheard).path("tenants_file")
}

/// A CSV of tenants, as the list that it stands for: one tenant a line, so that every fault finds
/// its line again.
fn read_csv(path: &Path) -> Result<Text, ConfigError> {
    let file = path.display().to_string();
    let text = read_text(path, "`tenants_file` names it")?;
    let fault = |line: usize, message: String, hint: Option<String>| {
        let location = Some(Location { line, column: 0 });
        ConfigError(vec![Fault { file: file.clone(), location, message, hint }])
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let line_of = |error: &csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        usize::try_from(line).unwrap_or(1)
    };
    let header = reader.headers().map_err(|error| fault(1, error.to_string(), None))?.clone();
    for column in &header {
        let label = column.strip_prefix(LABEL).is_some_and(|name| !name.is_empty());
        if !label && !COLUMNS.contains(&column) {
            let hint = format!("columns are: {}, {LABEL}NAME", COLUMNS.join(", "));
            return Err(fault(1, format!("unknown column `{column}`"), Some(hint)));
        }
    }
    let (mut list, mut lines) = (String::from("tenants = [\n"), vec![1]);
    for record in reader.records() {
        let record = record.map_err(|error| {
            fault(line_of(&error), "the row has not as many fields as the header".to_owned(), None)
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        lines.push(usize::try_from(line).unwrap_or(1));
        list += &as_table(&header, &record);
    }
    list += "]\n";
    lines.push(1);
    Ok(Text { faults: Faults::of_lines(&file, &list, lines), text: list })
}

/// One row as an inline table on one line.
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

fn read_text(path: &Path, hint: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error, hint))
}

fn cannot_read(path: &Path, error: &std::io::Error, hint: &str) -> ConfigError {
    ConfigError(vec![Fault {
        file: path.display().to_string(),
        location: None,
        message: format!("cannot be read: {error}"),
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
        std::fs::create_dir(directory.path().join("tenants.d")).unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let loaded = Configuration::load(&directory.path().join("c.toml"));
        loaded.map_err(|e| e.to_string().replace(&format!("{}/", directory.path().display()), ""))
    }

    #[test]
    fn tenants_come_from_all_three_places() {
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
    fn faults_in_them_have_their_place() {
        let csv = "name,id,credential,cloud\n\
                   a,aaaaaaaa-0000-4000-8000-000000000001,app,\n\
                   b,nonsense,app,\n\
                   a,b.example,other,mars\n";
        let errors = load(&[("c.toml", MAIN), ("tenants.csv", csv)]).unwrap_err();
        for line in [
            "tenants.csv:3: `nonsense` is neither a tenant GUID nor a domain",
            "tenants.csv:4: there is no credential `other`\n  hint: there are: app",
            "tenants.csv:4: `tenants[2].cloud` must be one of",
        ] {
            assert!(errors.contains(line), "{line}: {errors}");
        }
        let errors = load(&[("c.toml", MAIN), ("tenants.csv", "name,idd\n")]).unwrap_err();
        assert!(errors.starts_with("tenants.csv:1: unknown column `idd`"), "{errors}");
        let errors = load(&[("c.toml", MAIN), ("tenants.csv", "name,id\na\n")]).unwrap_err();
        assert!(errors.starts_with("tenants.csv:2: the row has not as many"), "{errors}");
        let errors = load(&[("c.toml", MAIN)]).unwrap_err();
        assert!(errors.starts_with("tenants.csv: cannot be read"), "{errors}");
        let errors = load(&[
            ("c.toml", MAIN),
            ("tenants.csv", "name,id\n"),
            ("tenants.d/1.toml", "[[sinks]]\nname=\"x\"\n"),
        ])
        .unwrap_err();
        assert!(errors.contains("tenants.d/1.toml:1:3: unknown key `sinks`"), "{errors}");
    }
}
