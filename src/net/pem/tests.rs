//! Tests of PEM files: every fault has a sentence of this program, with its line.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;
use crate::{
    error::chain,
    net::{ClientCertificate, check_authorities, check_client_certificate, tls_config},
};

/// A certificate and its private key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

/// The parameters of a certificate with this name, and a new key.
fn named(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    (params, KeyPair::generate().unwrap())
}

/// A certificate, the intermediate authority that issued it, and the root authority.
fn chain_of_three() -> [Identity; 3] {
    let authority = |name: &str| {
        let (mut params, key) = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, key)
    };
    let (root_params, root_key) = authority("root");
    let root = Identity {
        certificate: root_params.self_signed(&root_key).unwrap().pem(),
        key: root_key.serialize_pem(),
    };
    let root_issuer = Issuer::new(root_params, root_key);

    let (params, key) = authority("intermediate");
    let intermediate = Identity {
        certificate: params.signed_by(&key, &root_issuer).unwrap().pem(),
        key: key.serialize_pem(),
    };
    let issuer = Issuer::new(params, key);

    let (params, key) = named("client");
    let client = Identity {
        certificate: params.signed_by(&key, &issuer).unwrap().pem(),
        key: key.serialize_pem(),
    };
    [client, intermediate, root]
}

/// Regression: a client certificate after its issuer in the file was reported as one that does not
/// match its private key.
#[test]
fn client_certificates_are_found_in_any_order() {
    let [client, intermediate, root] = chain_of_three();
    let directory = tempfile::tempdir().unwrap();
    let (file, key_file) = (directory.path().join("c.pem"), directory.path().join("c.key"));

    let orders = [
        vec![&client.certificate, &intermediate.certificate],
        vec![&intermediate.certificate, &client.certificate],
        vec![&root.certificate, &client.key, &intermediate.certificate, &client.certificate],
        vec![&client.key, &client.certificate],
    ];
    for (parts, position) in orders.into_iter().zip([0, 1, 2, 0]) {
        let text: String = parts.into_iter().map(String::as_str).collect();
        fs_err::write(&file, &text).unwrap();
        fs_err::write(&key_file, format!("{}{}", client.certificate, client.key)).unwrap();
        let paths = ClientCertificate { certificate: &file, key: &key_file };
        assert_eq!(check_client_certificate(paths).unwrap(), position);
        tls_config(Some(&file), Some(paths)).unwrap();
    }

    let all = format!("{}{}{}", root.certificate, client.certificate, intermediate.certificate);
    let parsed = PemFile::parse(all.into_bytes()).unwrap().certificates;
    let (_, leaf) = parse_x509_certificate(&parsed[1]).unwrap();
    let ordered = in_order(&parsed, leaf.public_key().raw).unwrap();
    assert_eq!(ordered, [parsed[1].clone(), parsed[2].clone(), parsed[0].clone()]);
    assert_eq!(in_order(&parsed, b"another key"), None);

    fs_err::write(&key_file, &root.key).unwrap();
    fs_err::write(&file, &client.certificate).unwrap();
    let paths = ClientCertificate { certificate: &file, key: &key_file };
    let error = check_client_certificate(paths).unwrap_err();
    let expected = format!(
        "cannot use `{}`: the private key does not belong to a certificate in `{}`",
        key_file.display(),
        file.display()
    );
    assert_eq!(chain(&error), expected);
}

#[test]
fn unusual_but_valid_forms_are_accepted() {
    let [client, ..] = chain_of_three();
    let pem = client.certificate.replace("\r\n", "\n");
    for text in [
        pem.clone(),
        format!("\u{feff}{pem}"),
        pem.replace('\n', "\r\n"),
        pem.replace('\n', "\r"),
        pem.replace('\n', " \n"),
        pem.trim_end().to_owned(),
        format!("Bag Attributes\n    friendlyName: x\nsubject=CN = x\n{pem}"),
        format!("{pem}-----BEGIN EC PARAMETERS-----\nQUJD\n-----END EC PARAMETERS-----\n"),
    ] {
        let file = PemFile::parse(text.clone().into_bytes()).unwrap();
        assert_eq!(file.certificates.len(), 1, "{text}");
    }
}

/// Regression: the errors of the library were shown alone, such as `no items found` or `missing
/// section end marker: [67, 69, …]`, and some faults were skipped silently.
#[test]
fn each_fault_has_its_line_and_a_hint() {
    let [client, ..] = chain_of_three();
    let (pem, key) = (client.certificate.replace("\r\n", "\n"), client.key.replace("\r\n", "\n"));
    let invalid = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
    let of_the_form = [
        (String::new(), "the file is empty"),
        ("\u{feff}\n \n".to_owned(), "the file is empty"),
        ("nonsense".to_owned(), "the file contains no line that begins with `-----BEGIN`"),
        (format!("  {}", pem.replace('\n', "\n  ")), "line 1 is indented"),
        (pem.replace('\n', "\\n"), "line 1 contains more than one line of a PEM file"),
        (format!("{}{pem}", pem.trim_end()), "contains more than one line of a PEM file"),
        (pem[..pem.len() / 2].to_owned(), "the part that begins in line 1 has no end"),
        (format!("# a\n{}{pem}", &pem[..60]), "contains more than one line of a PEM file"),
        (format!("\n{}\n{pem}", &pem[..60]), "the part that begins in line 2 has no end"),
        (
            format!("{pem}-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
            "cannot be decoded",
        ),
        (format!("\n{invalid}"), "the certificate that begins in line 2 cannot be parsed"),
    ];

    let of_the_parts = [
        (
            pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
            "the certificate that begins in line 1 has a form that only OpenSSL reads",
        ),
        (
            key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
            "the private key that begins in line 1 is encrypted",
        ),
        (
            key.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\n", 1),
            "the private key that begins in line 1 is encrypted",
        ),
        (
            key.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
            "the private key that begins in line 1 has the unsupported type `OPENSSH PRIVATE KEY`",
        ),
    ];

    for (text, expected) in of_the_form.into_iter().chain(of_the_parts) {
        let fault = PemFile::parse(text.clone().into_bytes()).unwrap_err();
        assert!(fault.to_string().contains(expected), "{expected}: {fault}");
        assert!(fault.hint().is_some(), "{fault}");
    }

    let key_only = PemFile::parse(key.clone().into_bytes()).unwrap().require_certificates();
    let message = key_only.unwrap_err().to_string();
    assert_eq!(message, "the file contains a private key, but no certificate");
    let certificate_only = PemFile::parse(pem.clone().into_bytes()).unwrap().require_key();
    let message = certificate_only.unwrap_err().to_string();
    assert_eq!(message, "the file contains a certificate, but no private key");
}

/// Regression: a key file that contained only a public key was reported as one without a
/// certificate.
#[test]
fn parts_of_other_types_are_described() {
    let [client, ..] = chain_of_three();
    let labeled = |label: &str| {
        let text = client.certificate.replace("CERTIFICATE", label);
        PemFile::parse(text.into_bytes()).unwrap()
    };

    for (label, found) in [
        ("CERTIFICATE REQUEST", "a certificate request"),
        ("PUBLIC KEY", "a public key"),
        ("PKCS7", "PKCS#7 data"),
        ("EC PARAMETERS", "other data"),
    ] {
        let no_certificate = format!("the file contains {found}, but no certificate");
        let no_key = format!("the file contains {found}, but no private key");
        for (fault, expected) in [
            (labeled(label).require_certificates().unwrap_err(), &no_certificate),
            (labeled(label).require_any().unwrap_err(), &no_certificate),
            (labeled(label).require_key().unwrap_err(), &no_key),
        ] {
            assert_eq!(fault.to_string(), *expected);
            assert!(fault.hint().is_some(), "{fault}");
        }
    }
}

#[test]
fn binary_formats_are_named() {
    let [client, ..] = chain_of_three();
    let file = PemFile::parse(client.certificate.into_bytes()).unwrap();
    let key = PemFile::parse(client.key.into_bytes()).unwrap().require_key().unwrap();
    let cases = [
        (file.certificates[0].to_vec(), "the file is a certificate in DER, not PEM"),
        (key.secret_der().to_vec(), "the file is a key in DER, not PEM"),
        (
            vec![0x30, 0x82, 0x0a, 0xff, 0x02, 0x01, 0x03, 0x30],
            "the file is PKCS#12 (PFX), not PEM",
        ),
        (
            [&[0x30, 0x80, 0xff][..], SIGNED_DATA.as_slice()].concat(),
            "the file is PKCS#7 in DER, not PEM",
        ),
        (
            "-----BEGIN".encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "the file is not UTF-8 but UTF-16: byte 2 is 0x00",
        ),
    ];

    for (bytes, expected) in cases {
        let fault = PemFile::parse(bytes).unwrap_err();
        assert_eq!(fault.to_string(), expected);
        assert!(fault.hint().is_some(), "{fault}");
    }
}

#[test]
fn authorities_are_checked_without_a_connection() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let [_, _, root] = chain_of_three();
    fs_err::write(&path, &root.certificate).unwrap();
    check_authorities(&path).unwrap();

    fs_err::write(&path, &root.key).unwrap();
    let error = chain(&check_authorities(&path).unwrap_err());
    assert!(error.ends_with("the file contains a private key, but no certificate"), "{error}");
    let missing = chain(&check_authorities(&directory.path().join("missing")).unwrap_err());
    assert!(missing.starts_with("cannot open "), "{missing}");
}
