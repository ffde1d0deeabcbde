//! `consent-url`: the link by which an administrator grants what the app needs.

use std::path::Path;

use url::Url;

use super::{Exit, Failed, args, print};
use crate::error::Explanation;
use crate::{config::Configuration, source::Access};

pub(super) fn consent_url(config: &Path, args: &args::ConsentUrl) -> Result<Exit, Failed> {
    let configuration = Configuration::load(config)?;
    let wanted = |name: &str| args.tenant.as_deref().is_none_or(|tenant| tenant == name);
    let tenants: Vec<_> = configuration.tenants.iter().filter(|t| wanted(&t.name)).collect();
    if tenants.is_empty() {
        return Err(super::no_tenant(&configuration, args.tenant.as_deref().unwrap_or_default()));
    }
    let mut exit = Exit::Done;
    for tenant in &tenants {
        let line = match link(&tenant.access) {
            Some(link) if tenants.len() == 1 => format!("{link}\n"),
            Some(link) => format!("{}\t{link}\n", tenant.name),
            None => {
                super::say_explained(&Explanation::new(format!(
                    "tenant {}: a managed identity is granted its permission by an app role assignment, not by consent",
                    tenant.name
                )).with_hint(format!(
                    "run `az rest --method post --url {}v1.0/servicePrincipals/IDENTITY_OBJECT_ID/appRoleAssignments --body '{{\"principalId\":\"IDENTITY_OBJECT_ID\",\"resourceId\":\"GRAPH_OBJECT_ID\",\"appRoleId\":\"{ROLE}\"}}'`",
                    tenant.access.cloud.graph_url
                )));
                exit = Exit::Usage;
                continue;
            }
        };
        print(&line)?;
    }
    Ok(exit)
}

/// SecurityEvents.Read.All as an application permission.
const ROLE: &str = "bf394140-e372-4bf9-a898-299cfc7564e5";

/// The consent page of an app in a tenant; `None` where no app is configured that one could
/// consent to.
fn link(access: &Access) -> Option<Url> {
    let client_id = access.credential.client_id()?;
    let mut url = access.cloud.login_url.clone();
    url.set_path(&format!("/{}/adminconsent", access.tenant));
    url.query_pairs_mut()
        .append_pair("client_id", client_id)
        .append_pair("redirect_uri", "http://localhost");
    Some(url)
}
