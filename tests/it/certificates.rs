//! Signing in with a certificate: every format, expiring, replaced and unusable certificates.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secure_score_forwarder::source::{Certificate, CertificateChain, SourceError};
use serde_json::json;

use crate::{
    auth::{APP, against, certificate, cloud, openssl, path, register, request_token},
    support::{
        CANARY, OTHER, Run, TENANT,
        entra::Entra,
        registration::{Registration, SCRIPTS},
        write,
    },
};

#[test]
fn signs_in_with_pem_and_pfx() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    let pem = certificate(&workspace, "app-secret.pem", 365);
    register(&entra, &pem);
    let section = |file: &Path, more: &str| {
        Some(format!(
            "[tenants.credential]\nkind = \"certificate\"\nclient_id = \"{APP}\"\ncertificate = \"{}\"\n{more}",
            file.display()
        ))
    };

    workspace.credential = section(&pem, "");
    workspace.run_ok(&["once"]);

    // The key is in a separate file.
    let key = format!("private_key = \"{}\"", workspace.path("key-secret.pem").display());
    workspace.credential = section(&workspace.path("cert.pem"), &key);
    workspace.run_ok(&["once"]);

    // A PFX with the encryption of OpenSSL 3, and one with the encryption of older versions.
    for kind in [
        &["-certpbe", "AES-256-CBC", "-keypbe", "AES-256-CBC"][..],
        &["-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
    ] {
        let pfx = workspace.path("app-secret.pfx");
        let password = format!("pass:{CANARY}");
        openssl(
            &[
                &[
                    "pkcs12",
                    "-export",
                    "-in",
                    path(&pem),
                    "-out",
                    path(&pfx),
                    "-passout",
                    &password,
                ],
                kind,
            ]
            .concat(),
        );

        let reference = workspace.secret("pfx-secret", CANARY);
        workspace.credential = section(&pfx, &format!("password = {reference}\nsend_chain = true"));
        workspace.run_ok(&["once"]);

        let wrong = workspace.secret("wrong-secret", "wrong");
        workspace.credential = section(&pfx, &format!("password = {wrong}"));
        let run = workspace.run(&["check"]);
        assert_eq!(run.code, 2);
        assert!(
            run.stderr.contains("neither PEM nor a PFX file that the password decrypts"),
            "{}",
            run.stderr
        );
    }

    let last = entra.token_requests().pop().unwrap().1;
    let header =
        URL_SAFE_NO_PAD.decode(last["client_assertion"].split('.').next().unwrap()).unwrap();
    assert!(String::from_utf8(header).unwrap().contains("\"x5c\":["));
}

#[test]
fn prints_a_hint_for_an_unregistered_certificate() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    let pem = certificate(&workspace, "app-secret.pem", 365);
    workspace.credential = Some(format!(
        "[tenants.credential]\nkind = \"certificate\"\nclient_id = \"{APP}\"\ncertificate = \"{}\"",
        pem.display()
    ));
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("AADSTS700027"), "{}", run.stdout);
    assert!(run.stdout.contains("upload this certificate"), "{}", run.stdout);
}

#[test]
fn reports_a_certificate_that_expires_soon() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    let pem = certificate(&workspace, "app-secret.pem", 10);
    register(&entra, &pem);
    workspace.credential = Some(format!(
        "[tenants.credential]\nkind = \"certificate\"\nclient_id = \"{APP}\"\ncertificate = \"{}\"",
        pem.display()
    ));
    let run = workspace.run_ok(&["check"]);
    assert!(
        run.stderr.contains("warning: the credential `tenant contoso` is valid until `"),
        "{}",
        run.stderr
    );
    workspace.run_ok(&["once"]);
    let observed = |phase: &str| -> i64 {
        rusqlite::Connection::open(workspace.state().join("checkpoint.db"))
            .unwrap()
            .query_row(
                "SELECT count(*) FROM entry WHERE kind = 2 AND what = 'credential_expiring' AND phase = ?1",
                [phase],
                |row| row.get(0),
            )
            .unwrap()
    };
    assert_eq!((observed("begin"), observed("end")), (1, 0));

    let pem = certificate(&workspace, "app-secret.pem", 365);
    register(&entra, &pem);
    workspace.run_ok(&["once"]);
    assert_eq!((observed("begin"), observed("end")), (1, 1));
}

#[test]
fn rereads_a_certificate_when_its_file_changes() {
    let entra = Entra::new();
    let workspace = against(&entra);
    let pem = certificate(&workspace, "app-secret.pem", 365);
    register(&entra, &pem);
    let credential = Certificate::new(APP.into(), pem.clone(), None, None, CertificateChain::Omit);
    let cloud = cloud(&entra.url);
    let token = || request_token(&credential, &cloud, TENANT);

    token().unwrap();
    let first = entra.token_requests().len();
    certificate(&workspace, "app-secret.pem", 300);
    assert!(
        matches!(token(), Err(SourceError::TokenRejected(_))),
        "the new certificate is not registered yet"
    );
    register(&entra, &pem);
    token().unwrap();

    let header = |index: usize| {
        entra.token_requests()[index].1["client_assertion"].split('.').next().unwrap().to_owned()
    };
    assert_ne!(header(first - 1), header(first + 1));
}

#[test]
fn check_rejects_unusable_certificates() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    let pem = certificate(&workspace, "app-secret.pem", 365);
    let ec = workspace.path("ec-secret.pem");
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        path(&ec),
        "-out",
        path(&workspace.path("ec.pem")),
    ]);

    let complete = std::fs::read_to_string(&pem).unwrap();
    let key_end = complete.find("-----BEGIN CERTIFICATE").unwrap();
    let other = certificate(&workspace, "other-secret.pem", 365);
    let other = std::fs::read_to_string(other).unwrap();
    let other_certificate = &other[other.find("-----BEGIN CERTIFICATE").unwrap()..];

    for (content, reason) in [
        (complete[..key_end].to_owned(), "the file contains no certificate"),
        (complete[key_end..].to_owned(), "the file contains no private key"),
        (
            complete[..key_end].to_owned() + other_certificate,
            "the key does not belong to the certificate",
        ),
        (std::fs::read_to_string(&ec).unwrap() + &complete[key_end..], "the key is not an RSA key"),
        ("nonsense".to_owned(), "neither PEM nor a PFX"),
    ] {
        let file = workspace.path("bad-secret.pem");
        write(&file, &content);
        workspace.credential = Some(format!(
            "[tenants.credential]\nkind = \"certificate\"\nclient_id = \"{APP}\"\ncertificate = \"{}\"",
            file.display()
        ));
        let run = workspace.run(&["check"]);
        assert_eq!(run.code, 2);
        assert!(run.stderr.contains(reason), "{reason}: {}", run.stderr);
    }

    // The key and the certificates can be in any order.
    write(workspace.path("bad-secret.pem"), &format!("{other_certificate}{complete}"));
    workspace.run_ok(&["check"]);
}

/// Regression: one tenant's expired certificate kept the daemon from starting.
#[test]
fn an_expired_certificate_affects_only_its_tenant() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    certificate(&workspace, "old-secret.pem", 1);

    // `openssl ca` can issue a certificate that has expired.
    let (key, cert) = (workspace.path("key-secret.pem"), workspace.path("expired.pem"));
    let (ca, serial) = (workspace.path("ca.cnf"), workspace.path("serial"));
    write(workspace.path("index.txt"), "");
    write(&serial, "01\n");
    let directory = workspace.path("").display().to_string();
    write(
        &ca,
        &format!(
            "[ca]\ndefault_ca = c\n[c]\ndatabase = {directory}/index.txt\nserial = {directory}/serial\nnew_certs_dir = {directory}\ndefault_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n"
        ),
    );

    let request = workspace.path("request.pem");
    openssl(&["req", "-new", "-key", path(&key), "-subj", "/CN=x", "-out", path(&request)]);
    openssl(&[
        "ca",
        "-batch",
        "-config",
        path(&ca),
        "-selfsign",
        "-keyfile",
        path(&key),
        "-in",
        path(&request),
        "-startdate",
        "20200101000000Z",
        "-enddate",
        "20210101000000Z",
        "-out",
        path(&cert),
        "-notext",
    ]);

    let both = std::fs::read_to_string(&key).unwrap() + &std::fs::read_to_string(&cert).unwrap();
    write(workspace.path("expired-secret.pem"), &both);

    let configuration = workspace.configuration();
    let other = format!(
        "\n[[tenants]]\nname = \"fabrikam\"\nid = \"{OTHER}\"\ncloud = {{ login_url = \"{0}\", graph_url = \"{0}\" }}\n\
         [tenants.credential]\nkind = \"certificate\"\nclient_id = \"{APP}\"\ncertificate = \"{1}\"\n",
        entra.url,
        workspace.path("expired-secret.pem").display()
    );
    let mut command = workspace.command(&["once"]);
    write(workspace.path("config.toml"), &(configuration + &other));
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("warning: `tenant fabrikam`: the certificate in"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("expired on `2021-01-01"), "{}", run.stderr);
    assert!(run.stderr.contains("tenant `contoso`: 3 new days"), "{}", run.stderr);
    workspace.extra.clear();
}

/// Regression: only root could read the key that the script created, and the service failed.
#[test]
fn register_app_shares_the_key_with_the_service() {
    use std::os::unix::fs::PermissionsExt;

    let command = "as root, run: install -m 640 -g secure-score-forwarder secure-score-forwarder.pem /etc/secure-score-forwarder/secure-score-forwarder.pem";
    for script in SCRIPTS {
        let register = |registration: &Registration| {
            let run = registration.run(script, &[]);
            assert_eq!(run.code, 0, "{script:?}: {run:?}");
            let mode = std::fs::metadata(registration.key()).unwrap().permissions().mode();
            (run.stdout + &run.stderr, mode & 0o777)
        };

        let (output, mode) = register(&Registration::new(&json!({})));
        assert_eq!(mode, 0o600, "{script:?}");
        assert!(output.contains(command), "{script:?}: {output}");

        let registration = Registration::new(&json!({}));
        write(registration.path("groups.exists"), "");
        let (output, mode) = register(&registration);
        assert_eq!(mode, 0o640, "{script:?}");
        assert!(!output.contains(command), "{script:?}: {output}");
        let changed = std::fs::read_to_string(registration.path("groups")).unwrap();
        let key = registration.key().display().to_string();
        assert_eq!(changed, format!("secure-score-forwarder {key}\n"), "{script:?}");
    }
}
