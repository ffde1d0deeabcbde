//! `login`: somebody signs in, and the refresh token goes where the daemon finds it.

use std::{io::IsTerminal, path::Path, process::Stdio};

use secrecy::{ExposeSecret, SecretString};

use super::{Exit, Failed, act_as_owner, args, block_on, print, say};
use crate::{
    config::{Configuration, NamedCredential},
    daemon::{self, Event, Request},
    error::Explanation,
    source::{
        Access, Api, Ask, Clients, Cloud, DeviceLogin, LoginError, LoopbackLogin, Prompt, User,
    },
};

pub(super) fn login(config: &Path, args: &args::Login) -> Result<Exit, Failed> {
    let configuration = Configuration::load(config)?;
    let (named, user) = chosen(&configuration, args)?;
    if !user.has_key() && !args.plaintext {
        let explanation = Explanation::new(format!(
            "no `token_key` is configured for `{}` to seal the refresh token with",
            named.name
        ));
        return Err(Failed::new(
            Exit::Usage,
            explanation.with_hint(
                "set `token_key` to a reference to a long random text, or pass --plaintext",
            ),
        ));
    }
    let holder = super::holder_of(&configuration.state_directory);
    if holder.is_none() {
        // Before anybody takes the trouble to sign in. A daemon has its key itself.
        configuration.check_secrets()?;
        act_as_owner(&configuration.state_directory)?;
    }
    let clients = Clients::new(&configuration.reach)?;
    let (cloud, permissions) = needs(&configuration, named)?;
    let ask = Ask { clients: &clients, cloud, tenant: &user.home, claims: None };
    let prompt = Prompt { ask, client_id: &user.client_id, permissions: &permissions };
    let signed_in =
        if args.device_code { block_on(by_device(prompt))? } else { block_on(by_browser(prompt))? };
    let token = signed_in.map_err(|error| Failed::of(Exit::Incomplete, &error))?;
    match holder {
        Some(holder) => hand_over(&holder, named, &token, args.plaintext)?,
        None => block_on(user.accept(token, args.plaintext))?
            .map_err(|error| Failed::of(Exit::Incomplete, &error))?,
    }
    say(&format!(
        "signed in for `{}`; the refresh token is kept, and replaced at each use",
        named.name
    ));
    Ok(Exit::Done)
}

/// The credential that somebody signs in for.
fn chosen<'a>(
    configuration: &'a Configuration,
    args: &args::Login,
) -> Result<(&'a NamedCredential, &'a User), Failed> {
    let wanted =
        args.credential.clone().or(args.tenant.as_ref().map(|name| format!("tenant {name}")));
    let users: Vec<_> = configuration
        .credentials
        .iter()
        .filter_map(|named| Some((named, named.credential.user()?)))
        .collect();
    let fitting =
        users.iter().filter(|(named, _)| wanted.as_ref().is_none_or(|w| *w == named.name));
    match fitting.collect::<Vec<_>>().as_slice() {
        [one] => Ok(**one),
        fitting => {
            let names = users.iter().map(|(named, _)| named.name.as_str()).collect::<Vec<_>>();
            let message = match (names.as_slice(), fitting.len()) {
                ([], _) => "the configuration has no credential of kind = \"user\"".to_owned(),
                (_, 0) => format!("no such user; there are: {}", names.join(", ")),
                _ => format!("say which, by --credential or --tenant: {}", names.join(", ")),
            };
            Err(Failed::new(Exit::Usage, message))
        }
    }
}

/// The cloud and the permissions of the tenants that use a credential.
fn needs<'a>(
    configuration: &'a Configuration,
    named: &NamedCredential,
) -> Result<(&'a Cloud, Vec<&'static str>), Failed> {
    let uses =
        |access: &&Access| access.credential.user().is_some_and(|user| user.name == named.name);
    let of: Vec<_> = configuration.tenants.iter().map(|t| &t.access).filter(uses).collect();
    let Some(first) = of.first() else {
        let message = format!("no tenant uses the credential `{}`", named.name);
        return Err(Failed::new(Exit::Usage, message));
    };
    let permissions =
        [(Api::SecureScores, "SecurityEvents.Read.All"), (Api::LegacyReports, "Reports.Read.All")];
    let wanted = permissions.iter().filter(|(api, _)| of.iter().any(|access| access.api == *api));
    Ok((&first.cloud, wanted.map(|(_, permission)| *permission).collect()))
}

async fn by_browser(prompt: Prompt<'_>) -> Result<SecretString, LoginError> {
    let login = LoopbackLogin::begin(prompt).await?;
    say("Open this page in a browser on this host, and sign in:");
    // To standard output, so that a script can open it.
    let _ = print(&format!("{}\n", login.url));
    say("(on a host without a browser, use --device-code)");
    open_browser(login.url.as_str());
    login.finish(prompt).await
}

async fn by_device(prompt: Prompt<'_>) -> Result<SecretString, LoginError> {
    let login = DeviceLogin::begin(prompt).await?;
    say("On any device, open this page and type the code:");
    let _ = print(&format!("{} {}\n", login.verification_uri, login.user_code));
    login.finish(prompt).await
}

/// Where somebody sits before a screen, the page opens by itself.
fn open_browser(url: &str) {
    let has_screen =
        std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some();
    if has_screen && std::io::stderr().is_terminal() {
        let quiet = || Stdio::null();
        // Without one, the link on the screen does.
        let _ = std::process::Command::new("xdg-open")
            .arg(url)
            .stdin(quiet())
            .stdout(quiet())
            .stderr(quiet())
            .spawn();
    }
}

fn hand_over(
    holder: &crate::checkpoint::Holder,
    named: &NamedCredential,
    token: &SecretString,
    plaintext: bool,
) -> Result<(), Failed> {
    let request = Request::SignedIn {
        credential: named.name.clone(),
        refresh_token: token.expose_secret().to_owned(),
        plaintext,
    };
    match daemon::send_request(super::socket_of(holder)?, &request, |_| {})? {
        Event::Done { .. } => Ok(()),
        Event::Error(message) => Err(Failed::new(Exit::Incomplete, message)),
        _ => Err(Failed::new(Exit::Incomplete, "the daemon did not take it".to_owned())),
    }
}
