//! Other users of the host: permissions and kinds of the files with secrets and state.

mod exchanged_files;
mod shared_directories;

use std::{
    io::Read,
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        net::UnixStream,
    },
    path::Path,
    process::Command,
};

use rcgen::{CertificateParams, KeyPair};
use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::{Uid, geteuid},
    thread::set_thread_res_uid,
};
use serde_json::json;

use crate::support::{
    CANARY, Process, Run, Workspace, eventually, free_port,
    registration::{Registration, SCRIPTS, Script},
    write,
};

/// A user without any permission.
const OTHER_USER: u32 = 65_534;

fn set_mode(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a command that the attack might block, and asserts that it ends.
fn run(workspace: &Workspace, arguments: &[&str]) -> Run {
    let mut process = workspace.spawn(arguments);
    eventually("the command ends", || !process.is_running());
    process.end()
}

/// A workspace in which every kind of file with a secret is used, with the path of each.
fn workspace() -> (Workspace, Vec<(&'static str, String)>) {
    let mut workspace = Workspace::new();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    for (name, content) in [
        ("key-secret", key.as_str()),
        ("token-secret", "a.b.c"),
        ("hec-secret", CANARY),
        ("certificate.pem", certificate.as_str()),
        ("authorities.pem", certificate.as_str()),
    ] {
        write(workspace.path(name), content);
    }

    let shown = |name: &str| workspace.path(name).display().to_string();
    let files = ["secret", "key-secret", "token-secret", "hec-secret"];
    let files = files.map(|name| (name, shown(name))).to_vec();
    let credential = format!(
        "[credentials.federated]\nkind = \"workload_identity\"\n\
         client_id = \"11111111-2222-4333-8444-555555555555\"\ntoken_file = \"{}\"",
        shown("token-secret"),
    );
    let tls = format!(
        "type = \"syslog\"\naddress = \"tls://127.0.0.1:{}\"\nca_file = \"{}\"\n\
         client_certificate = \"{}\"\nclient_key = \"{}\"",
        free_port(),
        shown("authorities.pem"),
        shown("certificate.pem"),
        shown("key-secret"),
    );
    let hec = format!(
        "type = \"splunk_hec\"\nurl = \"https://127.0.0.1:{}\"\ntoken = {{ file = \"{}\" }}",
        free_port(),
        shown("hec-secret"),
    );

    workspace.head = credential;
    workspace.sink("tls", &tls);
    workspace.sink("hec", &hec);
    (workspace, files)
}

/// Another user replaces the content of a secret to which all users may write. Such a file is an
/// error, also for the daemon.
///
/// Regression: only a warning of `check` reported it.
#[test]
fn secrets_that_all_users_can_change_are_refused() {
    let (workspace, files) = workspace();
    workspace.run_ok(&["check", "--strict"]);

    for (name, path) in files {
        set_mode(&path, 0o602);
        let checked = run(&workspace, &["check"]);
        assert_eq!(checked.code, 2, "{name}: {}", checked.stderr);
        let named: Vec<&str> =
            checked.stderr.lines().filter(|line| line.contains(&format!("`{path}`"))).collect();
        assert!(named[0].starts_with("error: "), "{name}: {}", checked.stderr);
        assert!(named[0].contains("every user of this host can change"), "{named:?}");
        assert!(checked.stderr.contains("hint: run `chmod "), "{}", checked.stderr);
        assert_eq!(checked.stderr.matches("every user").count(), 1, "{}", checked.stderr);
        set_mode(&path, 0o600);
    }

    set_mode(workspace.path("secret"), 0o602);
    for command in ["once", "run"] {
        let ended = run(&workspace, &[command]);
        assert_eq!(ended.code, 2, "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains("every user of this host can change"), "{}", ended.stderr);
    }
}

/// Another user replaces a secret or a file of the configuration in a directory to which all users
/// can write. Its permissions are an error, and the secret is not used.
///
/// Regression: only the permissions of the file itself were examined.
#[test]
fn directories_that_all_users_can_change_are_refused() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let (secret, shared) = (workspace.path("secret"), workspace.path("shared"));
    std::fs::create_dir(&shared).unwrap();
    std::fs::rename(&secret, shared.join("secret")).unwrap();
    symlink("shared/secret", &secret).unwrap();
    workspace.run_ok(&["check", "--strict"]);

    set_mode(&shared, 0o777);
    for command in ["check", "once", "run"] {
        let ended = run(&workspace, &[command]);
        let message = format!("every user of this host can change `{}`", shared.display());
        assert_eq!(ended.code, 2, "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains(&message), "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains("hint: run `chmod o-w "), "{}", ended.stderr);
    }
    // Users can replace only their own files in a directory such as `/tmp`.
    set_mode(&shared, 0o1777);
    workspace.run_ok(&["check", "--strict"]);

    for name in ["tenants.d", "sinks.d"] {
        let directory = workspace.path(name);
        std::fs::create_dir_all(&directory).unwrap();
        set_mode(&directory, 0o1777);
        let checked = run(&workspace, &["check"]);
        // Root does not read such a configuration at all.
        let messages = ["every user of this host can change", "root does not use"]
            .map(|start| format!("{start} `{}`", directory.display()));
        assert_eq!(checked.code, 2, "{name}: {}", checked.stderr);
        let is_named = messages.iter().any(|message| checked.stderr.contains(message));
        assert!(is_named, "{name}: {}", checked.stderr);
        set_mode(&directory, 0o755);
    }
    workspace.run_ok(&["check", "--strict"]);
}

/// A secret of another user, who can change it. It is reported, and rejected where that is
/// required.
///
/// Regression: the owner of a secret was not examined.
#[test]
fn secrets_of_other_users_are_reported() {
    if !geteuid().is_root() {
        return;
    }
    let (workspace, files) = workspace();
    for (name, path) in files {
        chown(&path, Some(OTHER_USER), None).unwrap();
        let checked = workspace.run_ok(&["check"]);
        let warning = format!("the secret in `{path}` belongs to another user (ID {OTHER_USER})");
        assert!(checked.stderr.contains(&warning), "{name}: {}", checked.stderr);
        assert_eq!(workspace.run(&["check", "--strict"]).code, 2, "{name}");
        chown(&path, Some(0), None).unwrap();
    }
}

/// Another user prepares a FIFO or a link for the private key that a script creates, also after the
/// script has found that its name is free, or waits in a directory to which it can write. The
/// script fails, the key reaches no other user, and no application is created.
///
/// Regression: the shell script wrote the key to a FIFO that appeared after its check.
#[test]
fn registration_keys_are_written_to_no_planted_file() {
    for script in SCRIPTS {
        for (kind, plant) in [
            ("fifo", "mkfifo \"$1\""),
            ("link", "ln -s ../target \"$1\""),
            ("dangling", "ln -s ../missing \"$1\""),
            ("device", "ln -s /dev/full \"$1\""),
            ("directory", "ln -s .. \"$1\""),
        ] {
            let registration = Registration::new(&json!({}));
            write(registration.path("target"), "unchanged");
            let key = registration.key().display().to_string();
            let planting = format!("set -- '{key}'\n[ -e \"$1\" ] || [ -L \"$1\" ] || {plant}\n");
            if script == Script::Shell {
                // The script starts it after its check, and before it writes the key.
                let program =
                    format!("(\n{planting})\nPATH=\"${{PATH#*:}}\" exec openssl \"$@\"\n");
                registration.install("openssl", &program);
            } else {
                std::fs::create_dir(registration.path("out")).unwrap();
                set_mode(registration.path("out"), 0o755);
                assert!(Command::new("sh").args(["-c", &planting]).status().unwrap().success());
            }

            let run = registration.run(script, &[]);
            assert_ne!(run.code, 0, "{script:?}: {kind}: {run:?}");
            assert_eq!(registration.changes(), Vec::<String>::new(), "{script:?}: {kind}");
            assert_eq!(std::fs::read_to_string(registration.path("target")).unwrap(), "unchanged");
            assert!(!registration.path("missing").exists(), "{script:?}: {kind}");
            let names = std::fs::read_dir(registration.path("out")).unwrap().count();
            assert_eq!(names, 1, "{script:?}: {kind}: a copy of the key remains");
        }
    }
}

/// Another user who can write to the directory of a new private key can exchange it.
///
/// Regression: only root refused a directory, and only if it belonged to another user.
#[test]
fn registration_keys_need_a_private_directory() {
    for script in SCRIPTS {
        for (mode, code) in [(0o1777, 1), (0o777, 1), (0o775, 1), (0o702, 1), (0o755, 0)] {
            let registration = Registration::new(&json!({}));
            let out = registration.path("out");
            std::fs::create_dir(&out).unwrap();
            set_mode(&out, mode);
            let run = registration.run(script, &[]);
            assert_eq!(run.code, code, "{script:?}: {mode:o}: {run:?}");
            assert_eq!(registration.key().exists(), code == 0, "{script:?}: {mode:o}");
            if code != 0 {
                let message = format!("error: other users can write to `{}`", out.display());
                assert!(run.stderr.contains(&message), "{script:?}: {}", run.stderr);
                assert_eq!(registration.changes(), Vec::<String>::new(), "{script:?}: {mode:o}");
            }
        }
    }
}

/// Another user who can replace a directory above that of a new private key can replace the key.
///
/// Regression: only the directory itself was examined, and the key was written to a FIFO.
#[test]
fn registration_keys_need_private_ancestors() {
    for script in SCRIPTS {
        for (mode, code) in [(0o777, 1), (0o775, 1), (0o1777, 0), (0o755, 0)] {
            let registration = Registration::new(&json!({}));
            let above = registration.path("above");
            std::fs::create_dir_all(above.join("keys/real")).unwrap();
            symlink(above.join("keys/real"), registration.path("out")).unwrap();
            set_mode(&above, mode);

            let run = registration.run(script, &[]);
            assert_eq!(run.code, code, "{script:?}: {mode:o}: {run:?}");
            assert_eq!(registration.key().exists(), code == 0, "{script:?}: {mode:o}");
            if code != 0 {
                let message = format!("because they can write to `{}`", above.display());
                assert!(run.stderr.contains(&message), "{script:?}: {}", run.stderr);
                assert_eq!(registration.changes(), Vec::<String>::new(), "{script:?}: {mode:o}");
            }
        }
    }
}

/// Another user reads a secret. Its permissions are reported, and rejected where that is required.
#[test]
fn secrets_that_all_users_can_read_are_reported() {
    let (workspace, files) = workspace();
    for (name, path) in files {
        set_mode(&path, 0o604);
        let checked = workspace.run_ok(&["check"]);
        let warning = format!("every user of this host can read the secret in `{path}`");
        assert!(checked.stderr.contains(&warning), "{name}: {}", checked.stderr);
        assert_eq!(workspace.run(&["check", "--strict"]).code, 2, "{name}");
        set_mode(&path, 0o600);
    }
}

/// A FIFO in the place of a file blocks the process that opens it. It is an error at once.
///
/// Regression: the program waited for the writer of the FIFO, and a daemon did so in each poll.
#[test]
fn fifos_in_place_of_files_never_block() {
    let (workspace, files) = workspace();
    let others = ["authorities.pem", "certificate.pem"].map(|name| (name, String::new()));
    for (name, _) in files.into_iter().chain(others) {
        let (path, kept) = (workspace.path(name), workspace.path("kept-secret"));
        std::fs::rename(&path, &kept).unwrap();
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();

        let checked = run(&workspace, &["check"]);
        assert_eq!(checked.code, 2, "{name}: {}", checked.stderr);
        let error = format!("`{}`: it is not a regular file", path.display());
        assert!(checked.stderr.contains(&error), "{name}: {}", checked.stderr);
        // The other files are read only after a connection to their receiver was opened.
        let once = run(&workspace, &["once"]);
        if name == "secret" {
            assert!(once.stderr.contains("is not a regular file"), "{name}: {}", once.stderr);
        }

        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&kept, &path).unwrap();
    }
}

/// A device or a file without an end in the place of a file fills the memory. Its size is limited.
///
/// Regression: the file was read to its end.
#[test]
fn devices_and_huge_files_are_refused() {
    let (workspace, _) = workspace();
    let secret = workspace.path("secret");
    std::fs::remove_file(&secret).unwrap();
    symlink("/dev/zero", &secret).unwrap();
    let once = run(&workspace, &["once"]);
    assert_eq!(once.code, 2, "{}", once.stderr);
    assert!(once.stderr.contains("is not a regular file"), "{}", once.stderr);

    // A sparse file, which occupies no space.
    std::fs::remove_file(&secret).unwrap();
    std::fs::File::create(&secret).unwrap().set_len(1 << 36).unwrap();
    set_mode(&secret, 0o600);
    let once = run(&workspace, &["once"]);
    assert_eq!(once.code, 2, "{}", once.stderr);
    assert!(once.stderr.contains("is larger than 65536 bytes"), "{}", once.stderr);
}

/// Kubernetes mounts a secret as a link into a directory that it exchanges as a whole, readable for
/// the group. The rules for secrets permit that.
#[test]
fn mounted_secrets_are_accepted() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.file_sink("local");
    let secret = workspace.path("secret");
    let content = std::fs::read_to_string(&secret).unwrap();
    std::fs::remove_file(&secret).unwrap();
    for version in ["..2026_11_01-secret", "..2026_12_01-secret"] {
        std::fs::create_dir(workspace.path(version)).unwrap();
        write(workspace.path(version).join("secret"), &content);
        set_mode(workspace.path(version).join("secret"), 0o440);
    }
    symlink("..2026_11_01-secret", workspace.path("..data")).unwrap();
    symlink("..data/secret", &secret).unwrap();

    workspace.run_ok(&["check", "--strict"]);
    workspace.run_ok(&["once"]);
    symlink("..2026_12_01-secret", workspace.path("..data_tmp")).unwrap();
    std::fs::rename(workspace.path("..data_tmp"), workspace.path("..data")).unwrap();
    workspace.run_ok(&["once"]);
}

/// Another user plants a link or a FIFO where an administrator writes a report. Nothing behind it
/// changes, and nothing blocks.
///
/// Regression: the report was written through the link.
#[test]
fn reports_are_never_written_through_links() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    let (target, output) = (workspace.path("target"), workspace.path("report.html"));
    write(&target, "unchanged");
    let shown = output.display().to_string();
    for kind in ["link", "dangling", "fifo"] {
        match kind {
            "link" => symlink(&target, &output).unwrap(),
            "dangling" => symlink(workspace.path("new"), &output).unwrap(),
            _ => mkfifoat(CWD, &output, Mode::RUSR | Mode::WUSR).unwrap(),
        }
        for arguments in [vec!["report", "--output"], vec!["demo", "--days", "2", "--report"]] {
            let ended = run(&workspace, &[&arguments[..], &[shown.as_str()]].concat());
            let is_demo = arguments[0] == "demo";
            assert_eq!(ended.code, i32::from(!is_demo), "{kind}: {}", ended.stderr);
            let error = if kind == "fifo" { "a regular file" } else { "a symbolic link" };
            assert!(ended.stderr.contains(error), "{kind}: {}", ended.stderr);
        }
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "unchanged");
        assert!(!workspace.path("new").exists());
        std::fs::remove_file(&output).unwrap();
    }

    write(&output, "previous");
    set_mode(&output, 0o644);
    run(&workspace, &["report", "--output", &shown]);
    assert!(std::fs::read_to_string(&output).unwrap().contains("</html>"));
    assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o644);
}

/// A user of the service's group denies a change. The log names the command and the user.
///
/// Regression: only some changes were logged, and only with the ID of the user.
#[test]
fn requests_are_logged_with_command_and_user() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon delivers", || workspace.is_delivered());

    let commands: [&[&str]; 5] = [
        &["poll"],
        &["backfill", "--days", "2"],
        &["reload"],
        &["replay", "--sink", "local", "--from", "2020-01-01"],
        &["state", "prune"],
    ];
    for command in commands {
        workspace.run_ok(command);
    }
    daemon.signal("TERM");
    let log = daemon.end().stderr;

    let uid = geteuid().as_raw();
    let output = Command::new("id").args(["-un", &uid.to_string()]).output().unwrap();
    let known = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let user = if known.is_empty() { uid.to_string() } else { known };
    for command in ["poll", "backfill", "reload", "replay", "state prune"] {
        let fields = format!("command received command=\"{command}\" uid={uid} user=\"{user}\"");
        assert_eq!(log.matches(&fields).count(), 1, "{command}: {log}");
    }
}

/// Another user reaches the control socket, because its permissions were changed. It is rejected,
/// and the log names it without repeating each attempt.
///
/// Regression: a rejected user was not logged.
#[test]
fn rejected_callers_are_named() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    set_mode(workspace.path(""), 0o755);
    let directory = workspace.path("runtime");
    std::fs::create_dir(&directory).unwrap();
    set_mode(&directory, 0o755);
    let mut command = workspace.command(&["run"]);
    command.env("RUNTIME_DIRECTORY", &directory);
    let daemon = Process::of(command);

    let socket = directory.join("control.sock");
    eventually("the socket is bound", || socket.exists());
    eventually("another user can connect", || {
        set_mode(&socket, 0o666);
        connect_as_other_user(&socket).is_some()
    });
    for _ in 0..3 {
        let answer = connect_as_other_user(&socket).unwrap();
        assert!(answer.contains("permission denied"), "{answer}");
    }

    daemon.signal("TERM");
    let log = daemon.end().stderr;
    let line = format!("rejected a caller of the control socket uid={OTHER_USER} user=\"");
    let lines: Vec<&str> = log.lines().filter(|entry| entry.contains(&line)).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[1].contains("repeated="), "{log}");
}

/// The response of the daemon to a connection of another user; `None` if it cannot connect.
fn connect_as_other_user(socket: &Path) -> Option<String> {
    let connect = || {
        let user = Uid::from_raw(OTHER_USER);
        set_thread_res_uid(user, user, user).unwrap();
        let mut answer = String::new();
        UnixStream::connect(socket).ok()?.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    // The kernel has one identity per thread.
    std::thread::scope(|scope| scope.spawn(connect).join().unwrap())
}
