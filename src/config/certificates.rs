//! What `check` finds in the certificate files for TLS: each file is parsed as it is when a
//! connection is opened, and a client certificate is compared with its private key. No connection
//! is opened, and nothing here decides whether the daemon starts. Start reading at
//! [`Configuration::unusable_certificates`].

use super::Configuration;
use crate::{
    error::Explanation,
    net::{ClientCertificate, ClientError, check_authorities, check_client_certificate},
    settings::{CA_FILE, Fault, FileUse},
    sink::{CLIENT_CERTIFICATE_NAME, CLIENT_KEY_NAME},
};

/// The table of a sink whose library reads the files itself.
const LIBRARY_TABLE: &str = ".tls";

impl Configuration {
    /// One fault per certificate file for TLS that cannot be used, in the order of the files.
    pub fn unusable_certificates(&self) -> Vec<Fault> {
        let files = &self.inspection.files;
        files.iter().filter_map(|file| problem(file, files)).collect()
    }
}

/// Why a file cannot be used. The fault of a pair of files is that of the certificate, so that it
/// is reported once.
fn problem(file: &FileUse, all: &[FileUse]) -> Option<Fault> {
    let (table, name) = file.key.rsplit_once('.')?;
    if name == CA_FILE.name() {
        return check_authorities(&file.path).err().map(|error| fault(file, &error));
    }
    if name != CLIENT_CERTIFICATE_NAME {
        return None;
    }

    let key = all.iter().find(|other| is_in(other, table, CLIENT_KEY_NAME) && is_near(other, file));
    let pair = ClientCertificate { certificate: &file.path, key: &key?.path };
    match check_client_certificate(pair) {
        Ok(position) if position > 0 && table.ends_with(LIBRARY_TABLE) => {
            let message = format!(
                "the first certificate in `{}` is not that of the client",
                file.path.display()
            );
            let hint = "move the certificate of the client to the beginning of the file";
            Some(file.origin.fault(Explanation::new(message).with_hint(hint)))
        }
        Ok(_) => None,
        Err(error) => Some(fault(file, &error)),
    }
}

/// Whether a file is the value of a key with this name in a table.
fn is_in(file: &FileUse, table: &str, name: &str) -> bool {
    file.key.rsplit_once('.') == Some((table, name))
}

/// Whether two values are in the same file of the configuration, because each file counts its
/// tables from 0.
fn is_near(one: &FileUse, other: &FileUse) -> bool {
    one.origin.sort_key().0 == other.origin.sort_key().0
}

fn fault(file: &FileUse, error: &ClientError) -> Fault {
    file.origin.fault(Explanation::of(error))
}
