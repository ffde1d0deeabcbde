//! `login`: a user signs in, and the refresh token is stored where the daemon reads it. While a
//! daemon is running, it receives the token over its control socket and stores it itself. The token
//! never appears in output.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::{
    CommandFailure, ExitCode, args, block_on, browser,
    daemon_client::{request, unexpected_response},
    lock_holder, print, print_explanation, print_message,
    selection::selected_tenant,
};
use crate::{
    config::{Configuration, NamedCredential},
    daemon::{Event, Request},
    error::Explanation,
    foreign_text::{ForeignText, PeerSecrets},
    source::{
        Access, Api, AuthorizationRequest, Clients, Cloud, DeviceLogin, LoginError, LoopbackLogin,
        PlaintextPolicy, TokenRequestContext, UserCredential,
    },
    state_directory::Holder,
};

/// Runs the command. Fails if the credential is not unique, if its token could only be stored
/// unencrypted and `--plaintext` is not set, or if the user does not complete the sign-in.
pub(super) fn login(config: &Path, args: &args::LoginArgs) -> Result<ExitCode, CommandFailure> {
    let configuration = Configuration::load(config)?;
    let (named, user) = select_credential(&configuration, args)?;
    if !user.has_key() && !args.plaintext {
        let explanation = Explanation::new(format!(
            "cannot encrypt the refresh token: no `token_key` is configured for `{}`",
            named.name
        ));
        return Err(CommandFailure::new(
            ExitCode::Usage,
            explanation.with_hint(
                "set `token_key` to a reference to at least 32 random characters, or pass --plaintext",
            ),
        ));
    }

    let holder = lock_holder(&configuration.state_directory);
    if holder.is_none() {
        // Faults are reported before the user signs in. A daemon has already read the key.
        configuration.check_secrets()?;
    }

    let clients = Clients::new(&configuration.http)?;
    let (cloud, permissions) = requirements(&configuration, named)?;
    let sent = PeerSecrets::of_tenant();
    let (tenant, claims) = (&user.home, None);
    let context = TokenRequestContext { clients: &clients, cloud, tenant, claims, sent: &sent };
    let prompt =
        AuthorizationRequest { context, client_id: &user.client_id, permissions: &permissions };
    let signed_in =
        if args.device_code { block_on(by_device(prompt))? } else { block_on(by_browser(prompt))? };
    let token =
        signed_in.map_err(|error| CommandFailure::from_error(ExitCode::Incomplete, &error))?;

    let plaintext = PlaintextPolicy::from_flag(args.plaintext);
    match holder {
        Some(holder) => store_through_daemon(&holder, named, &token, plaintext)?,
        None => block_on(user.accept(token, plaintext))?
            .map_err(|error| CommandFailure::from_error(ExitCode::Incomplete, &error))?,
    }
    print_message(&format!("signed in for `{}`; stored the refresh token", named.name));
    Ok(ExitCode::Done)
}

/// The credential to sign in for: the one that the arguments select, or the only one of kind
/// `user`.
fn select_credential<'a>(
    configuration: &'a Configuration,
    args: &args::LoginArgs,
) -> Result<(&'a NamedCredential, &'a UserCredential), CommandFailure> {
    let tenant = args.tenant.as_deref().map(|pattern| selected_tenant(configuration, pattern));
    // A credential in the section of a tenant has a name of this form.
    let of_tenant = tenant.transpose()?.map(|plan| format!("tenant {}", plan.name));
    let requested = args.credential.clone().or(of_tenant);
    let users: Vec<_> = configuration
        .credentials
        .iter()
        .filter_map(|named| Some((named, named.credential.user()?)))
        .collect();
    let matching: Vec<_> = users
        .iter()
        .filter(|(named, _)| requested.as_ref().is_none_or(|name| *name == named.name))
        .collect();
    if let [one] = matching.as_slice() {
        return Ok(**one);
    }

    if users.is_empty() {
        let message = "the configuration has no credential with `kind = \"user\"`";
        return Err(CommandFailure::new(ExitCode::Usage, message));
    }
    let names: Vec<_> = users.iter().map(|(named, _)| named.name.as_str()).collect();
    let (message, hint) = if matching.is_empty() {
        (
            "the configuration has no such credential with `kind = \"user\"`",
            format!("use one of: {}", names.join(", ")),
        )
    } else {
        (
            "the configuration has several credentials with `kind = \"user\"`",
            format!("pass --credential or --tenant to select one of: {}", names.join(", ")),
        )
    };
    Err(CommandFailure::new(ExitCode::Usage, Explanation::new(message).with_hint(hint)))
}

/// The cloud and the delegated permissions that the tenants of a credential require.
fn requirements<'a>(
    configuration: &'a Configuration,
    named: &NamedCredential,
) -> Result<(&'a Cloud, Vec<&'static str>), CommandFailure> {
    let uses_credential =
        |access: &&Access| access.credential.user().is_some_and(|user| user.name == named.name);
    let accesses: Vec<_> =
        configuration.tenants.iter().map(|t| &t.access).filter(uses_credential).collect();
    let Some(first) = accesses.first() else {
        let message = format!("no tenant uses the credential `{}`", named.name);
        return Err(CommandFailure::new(ExitCode::Usage, message));
    };

    let permissions =
        [(Api::SecureScores, "SecurityEvents.Read.All"), (Api::LegacyReports, "Reports.Read.All")];
    let required =
        permissions.iter().filter(|(api, _)| accesses.iter().any(|access| access.api == *api));
    Ok((&first.cloud, required.map(|(_, permission)| *permission).collect()))
}

async fn by_browser(prompt: AuthorizationRequest<'_>) -> Result<SecretString, LoginError> {
    let login = LoopbackLogin::begin(prompt).await?;
    print_message("open this page in a browser on this host, and sign in:");
    // Standard output contains only the URL, so that a script can open it.
    let _ = print(&format!("{}\n", login.url));
    let explanation = Explanation::new("waiting for the sign-in");
    print_explanation(&explanation.with_hint("pass --device-code on a host without a browser"));
    browser::open(login.url.as_str());
    login.finish(prompt).await
}

async fn by_device(prompt: AuthorizationRequest<'_>) -> Result<SecretString, LoginError> {
    let login = DeviceLogin::begin(prompt).await?;
    print_message("open this page on any device, and enter the code:");
    let shown = format!("{} {}", login.verification_uri, login.user_code);
    let _ = print(&format!("{}\n", ForeignText::new(&shown).escaped()));
    login.finish(prompt).await
}

/// Sends the refresh token to the daemon, which stores it.
fn store_through_daemon(
    holder: &Holder,
    named: &NamedCredential,
    token: &SecretString,
    plaintext: PlaintextPolicy,
) -> Result<(), CommandFailure> {
    let sign_in = Request::SignedIn {
        credential: named.name.clone(),
        refresh_token: token.expose_secret().to_owned(),
        plaintext,
    };
    match request(holder, &sign_in)? {
        Event::Done { .. } => Ok(()),
        _ => Err(unexpected_response()),
    }
}
