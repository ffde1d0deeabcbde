//! The files of a configuration: the main file, the directories `tenants.d` and `sinks.d` next to
//! it, and the CSV file that `tenants_file` names. This module only reads them; [`super::layers`]
//! merges their values.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use super::{
    ConfigError,
    keys::{SINK_FILE_KEYS, TENANT_FILE_KEYS},
    layers::SourceFile,
    tenants_csv,
};
use crate::{
    error::Hint,
    files::{EncodingError, FileError, decode_text, list_directory, read_limited},
    settings::{Fault, KeyDefinition, Location, Source},
};

/// The directories next to the main file whose files are also read.
pub const DIRECTORIES: [&str; 2] = [TENANTS_DIRECTORY, SINKS_DIRECTORY];

const TENANTS_DIRECTORY: &str = "tenants.d";
const SINKS_DIRECTORY: &str = "sinks.d";

/// The maximum size of all files of a configuration together.
const MAX_TOTAL_BYTES: u64 = 64 << 20;

/// Reads the files of one configuration, whose total size is limited.
pub(super) struct SourceReader {
    /// The number of bytes that the files that are read next can have together.
    remaining: u64,
}

impl SourceReader {
    pub(super) fn new() -> Self {
        Self { remaining: MAX_TOTAL_BYTES }
    }

    /// Reads the main file. `hint` is the hint of the error if that fails.
    pub(super) fn read_main(&mut self, path: &Path, hint: &str) -> Result<Source, ConfigError> {
        Ok(Source::file(&path.display().to_string(), self.read_text(path, hint)?))
    }

    /// Reads the files in the directories next to the main file, in the order of their names: first
    /// those of `tenants.d`, then those of `sinks.d`.
    pub(super) fn read_directories(&mut self, main: &Path) -> Result<Vec<SourceFile>, ConfigError> {
        let directories =
            [(TENANTS_DIRECTORY, TENANT_FILE_KEYS), (SINKS_DIRECTORY, SINK_FILE_KEYS)];

        let mut read_files = Vec::new();
        for (name, keys) in directories {
            let directory = main.with_file_name(name);
            let listed = files_in(&directory);
            let files = listed.map_err(|error| not_used(&directory, error, ""))?;
            for file in files {
                read_files.push(self.read(file, keys)?);
            }
        }
        Ok(read_files)
    }

    /// Reads the CSV file with this name, which is relative to the main file.
    pub(super) fn read_csv(&mut self, main: &Path, name: &str) -> Result<SourceFile, ConfigError> {
        let path = csv_path(main, name);
        let text = self.read_text(&path, "check `tenants_file`")?;
        let source = tenants_csv::parse(&path.display().to_string(), &text)?;
        Ok(SourceFile { path, keys: TENANT_FILE_KEYS, source })
    }

    fn read(
        &mut self,
        path: PathBuf,
        keys: &'static [KeyDefinition],
    ) -> Result<SourceFile, ConfigError> {
        let source = Source::file(&path.display().to_string(), self.read_text(&path, "")?);
        Ok(SourceFile { path, keys, source })
    }

    fn read_text(&mut self, path: &Path, hint: &str) -> Result<String, ConfigError> {
        let bytes = read_limited(path, self.remaining);
        let bytes = bytes.map_err(|error| match error {
            FileError::TooLarge(..) => too_large(path),
            error => not_used(path, error, hint),
        })?;
        self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
        decode_text(bytes).map_err(|error| not_utf8(path, error))
    }
}

/// The directories next to the main file, and the files in them. A directory that cannot be listed
/// has none, because a configuration with it is not used.
pub(super) fn directories_and_files(main: &Path) -> Vec<PathBuf> {
    let directories = DIRECTORIES.map(|name| main.with_file_name(name));
    let mut files: Vec<PathBuf> =
        directories.iter().flat_map(|directory| files_in(directory).unwrap_or_default()).collect();
    files.extend(directories);
    files
}

/// The path of the CSV file with this name, which is relative to the main file.
pub(super) fn csv_path(main: &Path, name: &str) -> PathBuf {
    main.with_file_name("").join(name)
}

/// The files of a directory that belong to the configuration, in the order of their names.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut files = list_directory(directory)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

/// The fault of a file with which the configuration is too large.
fn too_large(path: &Path) -> ConfigError {
    let file = path.display().to_string();
    let message = format!(
        "cannot read `{file}`: all files of the configuration together are larger than {} MiB",
        MAX_TOTAL_BYTES >> 20
    );
    let hint = "remove what is not a part of the configuration".to_owned();
    ConfigError(vec![Fault { message, file, location: None, hint: Some(hint) }])
}

/// The fault of a file or directory that is not used. `hint` is for a file that does not exist.
fn not_used(path: &Path, error: FileError, hint: &str) -> ConfigError {
    match error {
        FileError::Io { source, .. } => cannot_read(path, &source, hint),
        error => ConfigError(vec![Fault {
            message: error.to_string(),
            file: path.display().to_string(),
            location: None,
            hint: error.hint().map(Cow::into_owned),
        }]),
    }
}

/// The fault of a file or directory that cannot be read. `error` must not contain its path. `hint`
/// is for a path without a file.
fn cannot_read(path: &Path, error: &std::io::Error, hint: &str) -> ConfigError {
    use std::io::ErrorKind;

    let file = path.display().to_string();
    let hint = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory => hint,
        ErrorKind::PermissionDenied if path.is_dir() => {
            "run the command as root or as the user of the service, and let the group of that user read the directory with `chgrp` and `chmod 750`"
        }
        ErrorKind::PermissionDenied => {
            "run the command as root or as the user of the service, and make the file readable by that user"
        }
        // The path is right, and the host is the cause, such as too many open files.
        _ => "",
    };
    ConfigError(vec![Fault {
        message: format!("cannot read `{file}`: {error}"),
        file,
        location: None,
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
    }])
}

/// The fault of a file in another encoding, at its first byte that is not UTF-8.
fn not_utf8(path: &Path, error: EncodingError) -> ConfigError {
    ConfigError(vec![Fault {
        file: path.display().to_string(),
        location: Some(Location { line: error.line, column: error.column }),
        message: error.to_string(),
        hint: Some(error.hint().to_owned()),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
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
        load_files(files).map_err(|(message, _)| message)
    }

    /// The error is the message without the directory, and the hints.
    fn load_files(files: &[(&str, &str)]) -> Result<Configuration, (String, Vec<String>)> {
        let directory = tempfile::tempdir().unwrap();
        for name in ["tenants.d", "sinks.d"] {
            fs_err::create_dir(directory.path().join(name)).unwrap();
        }
        for (name, text) in files {
            fs_err::write(directory.path().join(name), text).unwrap();
        }

        let loaded = Configuration::load(&directory.path().join("c.toml"));
        loaded.map_err(|error| {
            let hints = error.explanations().into_iter().filter_map(|fault| fault.hint).collect();
            (error.to_string().replace(&format!("{}/", directory.path().display()), ""), hints)
        })
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
            "tenants.csv:3:3: `nonsense` is neither a tenant GUID nor a domain",
            "tenants.csv:4:13: unknown credential `other`",
            "tenants.csv:4:19: `cloud` must be one of: global, us-gov-high, us-gov-dod",
        ] {
            assert!(errors.contains(line), "{line}: {errors}");
        }

        // Regression: a GUID in braces or as the formula of a spreadsheet had no hint.
        let guid = "aaaaaaaa-0000-4000-8000-000000000001";
        for cell in [format!("{{{guid}}}"), format!("\"=\"\"{guid}\"\"\"")] {
            let csv = format!("name,id,credential\na,{cell},app\n");
            let errors = load_files(&[("c.toml", MAIN), ("tenants.csv", &csv)]).unwrap_err();
            assert_eq!(errors.1, [format!("write `{guid}`")], "{}", errors.0);
        }

        let errors = load(&[("c.toml", MAIN), ("tenants.csv", "name,idd\n")]).unwrap_err();
        assert!(errors.starts_with("tenants.csv:1:6: unknown column `idd`"), "{errors}");
        let errors = load(&[("c.toml", MAIN), ("tenants.csv", "name,id\na\n")]).unwrap_err();
        assert!(errors.starts_with("tenants.csv:2:1: the row and the header"), "{errors}");
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

    #[test]
    fn joins_the_sinks_and_credentials_of_all_files() {
        let sink = |name: &str| {
            format!("[[sinks]]\nname = \"{name}\"\ntype = \"file\"\npath = \"/{name}\"\n")
        };
        let credential = "[credentials.b]\nkind = \"managed_identity\"\n";
        let csv = "name,id,credential\na,a.example,app\nb,b.example,b\n";
        let more = format!("{}{credential}", sink("two"));
        let files = [
            ("c.toml", MAIN),
            ("tenants.csv", csv),
            ("sinks.d/1.toml", more.as_str()),
            ("sinks.d/2.toml", &sink("three")),
            ("sinks.d/notes.txt", "ignored"),
        ];
        let read = load(&files).unwrap();
        let names: Vec<&str> = read.sinks.iter().map(|sink| sink.name.as_str()).collect();
        assert_eq!(names, ["out", "two", "three"]);
        assert_eq!(read.credentials.len(), 2);

        let misspelled = more.replace("path", "pth");
        let files = [("c.toml", MAIN), ("tenants.csv", csv), ("sinks.d/1.toml", &misspelled)];
        let errors = load(&files).unwrap_err();
        assert!(errors.contains("sinks.d/1.toml:4:1: unknown key `sinks[0].pth`"), "{errors}");

        let duplicate = more.replace("credentials.b", "credentials.app").replace("two", "out");
        let files = [("c.toml", MAIN), ("tenants.csv", csv), ("sinks.d/1.toml", &duplicate)];
        let errors = load(&files).unwrap_err();
        for fault in [
            "sinks.d/1.toml:5:14: duplicate `credentials.app`: `c.toml:5` also defines it",
            "sinks.d/1.toml:2:8: duplicate `name = \"out\"`",
        ] {
            assert!(errors.contains(fault), "{errors}");
        }
    }

    /// Regression: a value of the wrong kind in one file was replaced by the list of another file
    /// without a fault, so its tenants or sinks were lost.
    #[test]
    fn values_of_the_wrong_kind_replace_nothing() {
        let tenant = "[[tenants]]\nname = \"x\"\nid = \"x.example\"\ncredential = \"app\"\n";
        let table = tenant.replace("[[tenants]]", "[tenants]");
        let csv = ("tenants.csv", "name,id\n");
        let main = format!("{MAIN}{tenant}");
        for (files, fault) in [
            (
                vec![("c.toml", main.as_str()), csv, ("tenants.d/a.toml", &table)],
                "tenants.d/a.toml:1:1: `tenants` must be a list, as in the other files",
            ),
            (
                vec![("c.toml", main.as_str()), csv, ("tenants.d/a.toml", "tenants = 3\n")],
                "tenants.d/a.toml:1:11: `tenants` must be a list",
            ),
            (
                vec![("c.toml", MAIN), csv, ("sinks.d/a.toml", "[sinks]\nname = \"y\"\n")],
                "sinks.d/a.toml:1:1: `sinks` must be a list",
            ),
            (
                vec![("c.toml", MAIN), csv, ("sinks.d/a.toml", "credentials = \"app\"\n")],
                "sinks.d/a.toml:1:15: `credentials` must be a table",
            ),
        ] {
            let errors = load(&files).unwrap_err();
            assert!(errors.contains(fault), "{fault}: {errors}");
        }

        let wrong = MAIN.replace("[[sinks]]", "[sinks]");
        let sinks = MAIN.split("[[sinks]]").nth(1).map(|sink| format!("[[sinks]]{sink}")).unwrap();
        let files = [("c.toml", wrong.as_str()), csv, ("sinks.d/a.toml", &sinks)];
        assert!(load(&files).unwrap_err().contains("sinks.d/a.toml:1:1: `sinks` must be"));
    }

    /// Regression: each file had a limit, but all files together filled the memory.
    #[test]
    fn all_files_together_have_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let main = directory.path().join("c.toml");
        fs_err::write(&main, "# 12 bytes.\n").unwrap();
        fs_err::create_dir(directory.path().join("sinks.d")).unwrap();
        for name in ["a", "b"] {
            let path = directory.path().join(format!("sinks.d/{name}.toml"));
            fs_err::write(path, "# 12 bytes.\n").unwrap();
        }

        for (limit, last) in [(36, None), (35, Some("b.toml")), (23, Some("a.toml"))] {
            let mut reader = SourceReader { remaining: limit };
            reader.read_main(&main, "").unwrap();
            let read = reader.read_directories(&main);
            let error = read.err().map(|error| error.to_string());
            assert_eq!(error.is_some(), last.is_some(), "{limit}: {error:?}");
            if let (Some(error), Some(last)) = (error, last) {
                assert!(error.contains(&format!("{last}`: all files")), "{limit}: {error}");
            }
        }
        assert!(SourceReader { remaining: 11 }.read_main(&main, "").is_err());
    }

    /// Everything that is read is examined before root reads it, also what does not exist yet.
    #[test]
    fn all_further_sources_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let main = directory.path().join("c.toml");
        fs_err::write(&main, MAIN).unwrap();
        fs_err::create_dir(directory.path().join("sinks.d")).unwrap();
        for name in ["2.toml", "1.toml", "notes.txt"] {
            fs_err::write(directory.path().join("sinks.d").join(name), "not valid").unwrap();
        }

        let names = |main: &Path| {
            let sources = Configuration::further_sources(main);
            let name = |path: &PathBuf| path.strip_prefix(directory.path()).unwrap().to_owned();
            sources.iter().map(name).collect::<Vec<PathBuf>>()
        };
        let listed = ["sinks.d/1.toml", "sinks.d/2.toml", "tenants.d", "sinks.d", "tenants.csv"];
        assert_eq!(names(&main), listed.map(PathBuf::from));

        fs_err::write(&main, "not valid").unwrap();
        assert_eq!(names(&main), listed[..4].iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    /// Regression: a file in ISO 8859-1 was reported without its location, and with a hint to name
    /// another file.
    #[test]
    fn other_encodings_are_reported_with_their_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        fs_err::write(&path, b"# a\nname = \"M\xfcller\"\n").unwrap();

        let error = Configuration::load(&path).unwrap_err();
        let explanation = error.explanations().remove(0);
        assert!(
            explanation.message.ends_with("c.toml:2:10: the file is not UTF-8: byte 14 is 0xfc"),
            "{explanation:?}"
        );
        assert_eq!(explanation.hint.as_deref(), Some("save the file as UTF-8"));
    }
}
