//! Inputs that people and their tools prepare: files of spreadsheets, other encodings, certificates
//! in any order, addresses without a port, and long paths. `check` accepts what the service can
//! use, and reports the cause and the place of everything else.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::support::{OTHER, Process, Run, TENANT, Workspace, eventually, write};

/// A workspace whose tenants are in a CSV file with this content.
fn with_csv(content: &[u8]) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.tenants.clear();
    workspace.head = format!(
        "[credentials.app]\nkind = \"client_secret\"\n\
         client_id = \"11111111-2222-4333-8444-555555555555\"\n\
         client_secret = {{ file = \"{}\" }}\n",
        workspace.path("secret").display()
    );
    workspace.file_sink("local");
    let configuration = format!("tenants_file = \"tenants.csv\"\n{}", workspace.configuration());
    workspace.literal = Some(configuration);
    std::fs::write(workspace.path("tenants.csv"), content).unwrap();
    workspace
}

/// Regression: files that spreadsheets write in other countries were rejected, and the message
/// named another cause.
#[test]
fn files_of_spreadsheets_are_lists_of_tenants() {
    for text in [
        format!("\u{feff}name;id;credential;\r\na;{TENANT};app;\r\n;;;\r\nb;{OTHER};app;\r\n"),
        format!("sep=;\r\nname;id;credential\r\na;{TENANT};app\r\nb;{OTHER};app\r\n"),
        format!("name\tid\tcredential\na\t{TENANT}\tapp\n\nb\t{OTHER}\tapp\n"),
        format!("name,id,credential\r\"a\rb\",{TENANT},app\rb,{OTHER},app,,,\r"),
    ] {
        let run = with_csv(text.as_bytes()).run_ok(&["check"]);
        assert!(run.stdout.contains("is valid: 2 tenants, 1 sink"), "{text:?}: {}", run.stdout);
    }

    for (text, expected) in [
        (
            format!("name;id;credential\r\n\"a\r\n\r\nb\";{TENANT};app\r\nc;nonsense;app\r\n"),
            "tenants.csv:5:3: `nonsense` is neither a tenant GUID nor a domain",
        ),
        (
            format!("name,id,credential\na,{TENANT},app\n\"b,{OTHER},app\n"),
            "tenants.csv:3:1: the quotation mark at the beginning of this value is not closed",
        ),
    ] {
        let run = with_csv(text.as_bytes()).run(&["check"]);
        assert_eq!(run.code, 2, "{text:?}");
        assert!(run.stderr.contains(expected), "{text:?}: {}", run.stderr);
    }
}

/// Regression: the message was that of a parser, such as `key with no value, expected =`.
#[test]
fn other_encodings_are_named() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let csv = format!("name,id,credential\na,{TENANT},app\n");
    let run = with_csv(&utf16(&csv)).run(&["check"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    let message = "tenants.csv:1:2: the file is not UTF-8 but UTF-16: byte 2 is 0x00";
    assert!(run.stderr.contains(message), "{}", run.stderr);

    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let valid = workspace.configuration();
    for (content, message) in [
        (utf16(&format!("\u{feff}{valid}")), "the file is not UTF-8 but UTF-16: byte 1 is 0xff"),
        (
            valid.replace("name = \"contoso\"", "name = \u{201c}contoso\u{201d}").into_bytes(),
            "the file is not valid TOML: `\u{201c}` is a typographic quotation mark",
        ),
        (
            valid.replace("name = \"contoso\"", "name\u{a0}= \"contoso\"").into_bytes(),
            "the file is not valid TOML: the invisible character U+00A0 is not permitted here",
        ),
    ] {
        let mut command = workspace.command(&["check"]);
        std::fs::write(workspace.path("config.toml"), content).unwrap();
        let run = Run::of(command.output().unwrap());
        assert_eq!(run.code, 2, "{message}");
        assert!(run.stderr.contains(message), "{message}: {}", run.stderr);
        assert!(run.stderr.contains("\n  hint: "), "{}", run.stderr);
        assert!(!run.stderr.contains("--config"), "{}", run.stderr);
    }
}

/// Regression: a spreadsheet was called a text in UTF-16, and a row with too few fields, a comment
/// or a control character had the hint or the message of another fault.
#[test]
fn faults_of_tables_name_their_cause() {
    let spreadsheet = [&b"PK\x03\x04\x14"[..], &[0; 40], &[0xff; 9]].concat();
    let header = "name,id,credential\n";
    let cases = [
        (spreadsheet, "the file is not text but a ZIP archive", "export the table as CSV"),
        (
            format!("{header}a,{TENANT}\n").into_bytes(),
            "tenants.csv:2:1: the row and the header have different numbers of fields: 2 and 3",
            "add the missing fields",
        ),
        (
            format!("{header}# a comment\na,{TENANT},app\n").into_bytes(),
            "tenants.csv:2:1: the row and the header have different numbers of fields: 1 and 3",
            "remove the row",
        ),
        (
            format!("{header}a\0b,{TENANT},app\n").into_bytes(),
            "`name` contains a control character",
            "",
        ),
    ];

    for (content, message, hint) in cases {
        let run = with_csv(&content).run(&["check"]);
        assert_eq!(run.code, 2, "{message}");
        assert!(run.stderr.contains(message), "{message}: {}", run.stderr);
        assert!(run.stderr.contains(hint), "{hint}: {}", run.stderr);
    }
}

/// Regression: every address without a port had the same message as one with another fault, and
/// several that are not valid were accepted.
#[test]
fn faults_of_addresses_are_explained() {
    let some = [
        (
            "type = \"syslog\"\naddress = \"tls://siem.example.com\"",
            "`address` must be `tls://host:port`: it has no port",
            "add the port, such as `tls://siem.example.com:6514`",
        ),
        (
            "type = \"syslog\"\naddress = \"tcp://::1:514\"",
            "`address` must be `tcp://host:port`: an IPv6 address requires brackets",
            "",
        ),
        (
            "type = \"otlp\"\nurl = \"otel.example.com:4318\"",
            "`url` is not a URL: it does not begin with `https://`",
            "write the scheme before the host",
        ),
    ];

    let others = [
        (
            "type = \"splunk_hec\"\ntoken = { env = \"TOKEN\" }\nurl = \"https://h:8088/services/collector\"",
            "`url` must not have a path or a query; the paths of the collector are added",
            "remove everything after the host and the port",
        ),
        (
            "type = \"object_store\"\nurl = \"s3://scores/pre//fix/\"",
            "the prefix in `url` has a folder without a name (`//`)",
            "remove the additional slashes",
        ),
        (
            "type = \"file\"\npath = \"~/scores.jsonl\"",
            "`path` must be an absolute path",
            "write the path of the home directory instead of `~`",
        ),
    ];

    for (sink, message, hint) in some.into_iter().chain(others) {
        let mut workspace = Workspace::new();
        workspace.sink("a", sink);
        let run = workspace.run(&["check"]);
        assert_eq!(run.code, 2, "{sink}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{sink}: {}", run.stderr);
        assert!(run.stderr.contains(hint), "{sink}: {}", run.stderr);
    }

    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.head = "[admin]\nlisten = \"127.0.0.1\"".to_owned();
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("it has no port\n  hint: write `127.0.0.1:9633`"), "{run:?}");
}

/// Regression: `check` did not read the certificate files of sinks, so that their faults were found
/// when a connection was opened.
#[test]
fn certificate_files_are_checked() {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["authority".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let key = key.serialize_pem();
    let other_key = KeyPair::generate().unwrap().serialize_pem();

    let mut workspace = Workspace::new();
    let shown = |name: &str| workspace.path(name).display().to_string();
    let (ca_file, client, client_key) = (shown("ca.pem"), shown("client.pem"), shown("key-secret"));
    workspace.sink(
        "siem",
        &format!(
            "type = \"syslog\"\naddress = \"tls://127.0.0.1:6514\"\nca_file = \"{ca_file}\"\n\
             client_certificate = \"{client}\"\nclient_key = \"{client_key}\""
        ),
    );

    let check = |ca: &str, chain: &str, key: &str| {
        for (path, text) in [(&ca_file, ca), (&client, chain), (&client_key, key)] {
            write(path, text);
        }
        workspace.run(&["check"])
    };
    for chain in [
        format!("{certificate}{authority}"),
        format!("{authority}{certificate}"),
        format!("{key}{authority}{certificate}"),
    ] {
        let run = check(&authority, &chain, &format!("{certificate}{key}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
    }

    for (ca, chain, key, message) in [
        (&key, &certificate, &key, "the file contains a private key, but no certificate"),
        (&authority, &key, &key, "the file contains a private key, but no certificate"),
        (&authority, &certificate, &certificate, "the file contains a certificate, but no private"),
        (&authority, &certificate, &other_key, "the private key does not belong to a certificate"),
        (
            &authority,
            &certificate,
            &key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
            "the private key that begins in line 1 is encrypted",
        ),
        (
            &certificate[..100].to_owned(),
            &certificate,
            &key,
            "the part that begins in line 1 has no end",
        ),
    ] {
        let run = check(ca, chain, key);
        assert_eq!(run.code, 2, "{message}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{message}: {}", run.stderr);
        assert!(run.stderr.contains("config.toml:"), "{message}: {}", run.stderr);
    }
}

/// Regression: the daemon could not start in a state directory with a long path, because the path
/// of its control socket was too long. `check` had accepted the directory.
#[test]
fn long_state_directories_have_a_control_socket() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let long = workspace.path(&format!("{}/{}", "a".repeat(80), "b".repeat(80)));
    let variable = ("SECURE_SCORE_FORWARDER__STATE__DIRECTORY", long.display().to_string());
    let command = |args: &[&str]| {
        let mut command = workspace.command(args);
        command.env(variable.0, &variable.1);
        command
    };
    let run = |args: &[&str]| Run::of(command(args).output().unwrap());

    assert_eq!(run(&["check"]).code, 0);
    let daemon = Process::of(command(&["run"]));
    eventually("the daemon accepts commands", || run(&["reload"]).code == 0);
    assert!(long.join("control.sock").exists());
    drop(daemon);
}
