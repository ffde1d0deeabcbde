//! The key of every section with a TLS connection: the certificate authorities to trust. It is
//! declared once, for the connections to Microsoft and to the receivers, so that its name and its
//! meaning cannot differ. Start reading at [`AUTHORITY_KEYS`].

use super::typed::{FILE, FilePath, Key, keys, optional};

keys! {
    /// The key of a section that can use other certificate authorities.
    pub const AUTHORITY_KEYS;
    CA_FILE: Key<FilePath> = optional(
        "ca_file",
        FILE,
        "the certificate authorities of the system",
        "A PEM file of the certificate authorities to trust instead of those of the system.",
    )
    .example("/etc/ssl/private-ca.pem");
}
