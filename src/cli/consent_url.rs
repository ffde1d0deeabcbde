//! `consent-url`: prints the link that an administrator opens to grant the permission that the
//! application requires. The command only reads the configuration: it sends no request and reads no
//! secret. A tenant whose credential has no client ID, such as a managed identity, has no such
//! link.

use std::path::Path;

use url::Url;

use super::{
    CommandFailure, ExitCode, args, print, print_explanation, print_message,
    selection::selected_tenants,
};
use crate::{
    config::{Configuration, TenantPlan},
    error::Explanation,
    source::Access,
};

/// The redirect URI that `deploy/register-app.sh` and `deploy/register-app.ps1` register. No server
/// answers there: the browser's address bar shows the result of the consent.
pub(super) const REDIRECT_URI: &str = "http://localhost";

/// The ID of `SecurityEvents.Read.All` as an application permission (app role) of Microsoft Graph.
/// It is the only one that the registration scripts request and grant. See decision 0061.
const APP_ROLE: &str = "bf394140-e372-4bf9-a898-299cfc7564e5";

/// Prints one link per tenant, after the name of the tenant if there are several. Returns `Usage`
/// if a tenant has no such link. Fails if a pattern matches no tenant.
pub(super) fn consent_url(
    config: &Path,
    args: &args::ConsentUrl,
) -> Result<ExitCode, CommandFailure> {
    let configuration = Configuration::load(config)?;
    check_redirect(&args.redirect_uri)?;
    let tenants = selected_tenants(&configuration, &args.tenant)?;

    let mut exit = ExitCode::Done;
    for tenant in &tenants {
        match link(&tenant.access, &args.redirect_uri) {
            Some(link) if tenants.len() == 1 => print(&format!("{link}\n"))?,
            Some(link) => print(&format!("{}\t{link}\n", tenant.name))?,
            None => {
                print_explanation(&no_consent_page(tenant));
                exit = ExitCode::Usage;
            }
        }
    }

    if exit == ExitCode::Done && is_local(&args.redirect_uri) {
        print_message(
            "after consent, the browser shows that `localhost` cannot be reached; the consent was granted if the address of this page contains `admin_consent=True`",
        );
    }
    Ok(exit)
}

fn is_local(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| url.scheme() == "http" && url.host_str() == Some("localhost"))
}

/// Entra accepts only HTTPS for web applications, except for localhost.
fn check_redirect(uri: &str) -> Result<(), CommandFailure> {
    if is_local(uri) || Url::parse(uri).is_ok_and(|url| url.scheme() == "https") {
        return Ok(());
    }
    let message = format!("`{uri}` cannot be a redirect URI of the application");
    let hint = "use https://, or http://localhost";
    Err(CommandFailure::new(ExitCode::Usage, Explanation::new(message).with_hint(hint)))
}

/// The URL of the admin consent page of an application in a tenant; `None` if the credential has no
/// client ID, such as a managed identity. See
/// <https://learn.microsoft.com/entra/identity-platform/v2-admin-consent>.
///
/// `redirect_uri` is part of the link unchanged, because Entra compares it as text.
fn link(access: &Access, redirect_uri: &str) -> Option<Url> {
    let client_id = access.credential.client_id()?;
    let mut url = access.cloud.login_url.clone();
    url.set_path(&format!("/{}/adminconsent", access.tenant));
    url.query_pairs_mut()
        .append_pair("client_id", client_id)
        .append_pair("redirect_uri", redirect_uri);
    Some(url)
}

fn no_consent_page(tenant: &TenantPlan) -> Explanation {
    let message = format!(
        "tenant `{}`: a managed identity receives its permission through an app role assignment, not through consent",
        tenant.name
    );
    let hint = format!(
        "run `az rest --method post --url {}v1.0/servicePrincipals/IDENTITY_OBJECT_ID/appRoleAssignments --body '{{\"principalId\":\"IDENTITY_OBJECT_ID\",\"resourceId\":\"GRAPH_OBJECT_ID\",\"appRoleId\":\"{APP_ROLE}\"}}'`",
        tenant.access.cloud.graph_url
    );
    Explanation::new(message).with_hint(hint)
}
