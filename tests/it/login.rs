//! `login`: a user signs in with a browser or a device code, and the refresh token is stored.

use std::process::Command;

use crate::{
    auth::{APP, against},
    support::{CANARY, OTHER, Run, Workspace, entra::Entra, eventually, remove_profile, write},
};

/// A key that seals the stored token.
pub const TOKEN_KEY: &str = "correct horse battery staple again";

/// The section of a user's credential, with or without a key that seals the stored token.
pub fn user(workspace: &Workspace, key: bool) -> String {
    let key = if key {
        format!("token_key = {}", workspace.secret("token-secret", TOKEN_KEY))
    } else {
        String::new()
    };
    format!("[credentials.me]\nkind = \"user\"\nclient_id = \"{APP}\"\n{key}")
}

/// Signs in as a browser does. Returns the output of the command, and the page that the user sees.
pub fn sign_in(workspace: &Workspace, args: &[&str]) -> (Run, String) {
    use std::io::{BufRead, BufReader};
    let mut child = workspace.command(&[&["login"], args].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = lines.next().unwrap().unwrap();
    let page = crate::support::runtime().block_on(async {
        let browser = reqwest::Client::builder().no_proxy().build().unwrap();
        browser.get(url).send().await.unwrap().text().await.unwrap()
    });
    (Run::of(child.wait_with_output().unwrap()), page)
}

#[test]
fn seals_and_replaces_the_refresh_token() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.head = user(&workspace, true);
    workspace.credential = Some("credential = \"me\"".to_owned());
    // The token of one user is redeemed in each customer's tenant.
    workspace.tenants.push(("fabrikam", OTHER));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("no user is signed in for the credential `me`\n  hint: run `secure-score-forwarder login --credential me`"), "{}", run.stderr);

    let (run, page) = sign_in(&workspace, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(page.contains("<h1>You are signed in</h1>"), "{page}");
    let (home, form) = entra.token_requests().pop().unwrap();
    assert_eq!(
        (home.as_str(), form["grant_type"].as_str()),
        ("organizations", "authorization_code")
    );

    let run = workspace.run_ok(&["once"]);
    assert!(
        run.stderr.contains("tenant `contoso`: 3 new days")
            && run.stderr.contains("tenant `fabrikam`: 3 new days"),
        "{}",
        run.stderr
    );
    workspace.run_ok(&["once"]);

    let redeemed: Vec<(String, String)> = entra
        .token_requests()
        .into_iter()
        .filter(|(_, form)| form["grant_type"] == "refresh_token")
        .map(|(tenant, form)| (tenant, form["refresh_token"].clone()))
        .collect();
    assert_eq!(redeemed.len(), 4);
    let mut tokens: Vec<&String> = redeemed.iter().map(|(_, token)| token).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 4, "each use replaces the token");
    assert!(redeemed.iter().any(|(tenant, _)| tenant == OTHER));

    let kept = std::fs::read_to_string(workspace.state().join("tokens/me.token")).unwrap();
    assert!(kept.starts_with("secure-score-forwarder sealed token 1\n"));
}

/// A real browser follows the redirect back to the forwarder.
#[test]
fn a_real_browser_completes_the_sign_in() {
    use std::io::{BufRead, BufReader};

    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.head = user(&workspace, true);
    workspace.credential = Some("credential = \"me\"".to_owned());
    let mut child = workspace.command(&["login"]).spawn().unwrap();
    let url = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();

    let browser = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .args([
            "--no-first-run",
            "--disable-component-update",
            "--disable-sync",
            "--no-proxy-server",
        ])
        // The browser contacts no other host.
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost")
        .arg(format!("--user-data-dir={}", workspace.path("chromium-secret").display()))
        .args(["--dump-dom", &url])
        .output()
        .expect("cannot start chromium: run `tests/run --all`");

    let page = String::from_utf8_lossy(&browser.stdout);
    assert!(
        page.contains("<h1>You are signed in</h1>"),
        "{page}{}",
        String::from_utf8_lossy(&browser.stderr)
    );

    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    // The history of the browser contains the code, so the profile is removed.
    remove_profile(&workspace.path("chromium-secret"));
}

#[test]
fn a_daemon_receives_a_device_code_sign_in() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.head = user(&workspace, true);
    workspace.credential = Some("credential = \"me\"".to_owned());
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon holds the checkpoint", || {
        workspace.run(&["status"]).stdout.contains("the daemon is running")
    });
    let run = workspace.run_ok(&["login", "--device-code"]);
    assert_eq!(run.stdout, "http://localhost/device ABCD-EFGH\n");
    assert_eq!(entra.state.lock().unwrap().device_polls, 3);
    let run = workspace.run_ok(&["backfill", "--days", "5"]);
    assert!(run.stderr.contains("tenant `contoso`: 5 new days"), "{}", run.stderr);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    workspace.run_ok(&["once"]);
}

#[test]
fn reports_why_a_sign_in_was_rejected() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.head = user(&workspace, true);
    workspace.credential = Some("credential = \"me\"".to_owned());
    entra.state.lock().unwrap().denied = Some("AADSTS53003: <b>Access</b> has been blocked.");
    let (run, page) = sign_in(&workspace, &["--credential", "me"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("AADSTS53003") && run.stderr.contains("Conditional Access policy"),
        "{}",
        run.stderr
    );
    assert!(page.contains("You are not signed in") && page.contains("&lt;b&gt;Access"), "{page}");
}

#[test]
fn stores_an_unsealed_token_only_with_plaintext() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.head = user(&workspace, false);
    workspace.credential = Some("credential = \"me\"".to_owned());
    let run = workspace.run(&["login"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("no `token_key` is configured for `me`")
            && run.stderr.contains("--plaintext"),
        "{}",
        run.stderr
    );
    let (run, _) = sign_in(&workspace, &["--plaintext"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    workspace.run_ok(&["once"]);
    let kept = workspace.state().join("tokens/me.token");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&kept).unwrap().contains(CANARY), "the token is not sealed");
    std::fs::remove_file(kept).unwrap();
}

/// Regression: a token that was stored in plaintext stayed so, although `token_key` was configured
/// later. It is now encrypted before it is used.
#[test]
fn a_plaintext_token_is_encrypted_once_possible() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.head = user(&workspace, false);
    workspace.credential = Some("credential = \"me\"".to_owned());
    assert_eq!(sign_in(&workspace, &["--plaintext"]).0.code, 0);
    let kept = workspace.state().join("tokens/me.token");
    let text = || std::fs::read_to_string(&kept).unwrap();
    assert!(text().contains(CANARY));

    // With a key that can be guessed, the token is not used.
    workspace.head = user(&workspace, true);
    write(workspace.path("token-secret"), "short");
    let requests = entra.token_requests().len();
    assert_eq!(workspace.run(&["once"]).code, 2);
    assert_eq!(entra.token_requests().len(), requests);

    write(workspace.path("token-secret"), TOKEN_KEY);
    let run = workspace.run_ok(&["once", "--log", "warn"]);
    let message = "encrypted a refresh token that was stored in plaintext";
    assert!(run.stderr.contains(message), "{}", run.stderr);
    assert!(text().starts_with("secure-score-forwarder sealed token 1\n"));
    assert!(!text().contains(CANARY));
    let run = workspace.run_ok(&["once", "--log", "warn"]);
    assert!(!run.stderr.contains(message), "{}", run.stderr);
}

#[test]
fn an_expired_sign_in_must_be_repeated() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.head = user(&workspace, true);
    workspace.credential = Some("credential = \"me\"".to_owned());
    assert_eq!(sign_in(&workspace, &[]).0.code, 0);
    // A new provider rejects the refresh token, because it has not issued it.
    let later = Entra::new();
    let moved = workspace.configuration().replace(&entra.url, &later.url);
    let mut command = workspace.command(&["once"]);
    write(workspace.path("config.toml"), &moved);
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("AADSTS700082") && run.stderr.contains("run `login` again"),
        "{}",
        run.stderr
    );
}
