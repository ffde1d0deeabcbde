//! `import-config`: the original script's configuration, brought over.
//!
//! Its keys are those of `ConfigForSecureScoreAPI.json` as the script GetSecureScoreAPI-S2S.ps1
//! reads them: by any letter case.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use url::Url;

use super::{Exit, Failed, args, print, say};
use crate::model::TenantId;

pub(super) fn import_config(args: &args::ImportConfig) -> Result<Exit, Failed> {
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Failed::new(Exit::Usage, format!("`{}`: {error}", args.file.display())))?;
    let secret_file = args.secret_file.clone().unwrap_or_else(|| PathBuf::from(SECRET_FILE));
    let brought = bring_over(&text, &secret_file).map_err(|reason| {
        Failed::new(Exit::Usage, format!("`{}`: {reason}", args.file.display()))
    })?;
    for warning in &brought.warnings {
        say(&format!("warning: {warning}"));
    }
    match (&args.secret_file, &brought.secret) {
        (Some(file), Some(secret)) => {
            write_new(file, &format!("{secret}\n"))?;
            say(&format!("the app's secret is in {}", file.display()));
        }
        (None, Some(_)) => say(&format!(
            "write the app's secret to {SECRET_FILE} (mode 0600), or say --secret-file"
        )),
        (_, None) => {}
    }
    match &args.write {
        Some(file) => write_new(file, &brought.configuration)?,
        None => print(&brought.configuration)?,
    }
    Ok(Exit::Done)
}

const SECRET_FILE: &str = "/etc/secure-score-forwarder/client-secret";

struct Brought {
    configuration: String,
    secret: Option<String>,
    warnings: Vec<String>,
}

fn bring_over(text: &str, secret_file: &Path) -> Result<Brought, String> {
    let text = text.trim_start_matches('\u{feff}');
    let parsed: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)
        // The parser's words might quote the secret.
        .map_err(|error| {
            format!("it is not JSON (line {}, column {})", error.line(), error.column())
        })?;
    let value = |name: &str| {
        let found = parsed.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let text = found?.1.as_str()?.trim();
        (!text.is_empty() && !text.starts_with("YOUR ")).then(|| text.to_owned())
    };
    let mut warnings = vec![
        "the original endpoint has been taken out of Graph; the configuration reads today's secureScores, which hold the same and more".to_owned(),
        "the app needs the application permission SecurityEvents.Read.All now; Reports.Read.All is not enough".to_owned(),
    ];
    let client_id = value("SSAPIAppID");
    let client_id = client_id.filter(|id| TenantId::parse(id).is_ok());
    let client_id = client_id.ok_or("`SSAPIAppID` is no application id")?;
    let guid = value("SSAPITenantGUID").filter(|id| TenantId::parse(id).is_ok());
    let domain = value("SSAPITenantDomain");
    let id = guid.or_else(|| domain.clone()).ok_or("it names no tenant")?;
    let known = [
        "Description",
        "SSAPIAppID",
        "SSAPIAppSecret",
        "SSAPITenantDomain",
        "SSAPITenantGUID",
        "LoginURL",
        "ResourceAPI",
        "SecureScoreAPI",
    ];
    for key in
        parsed.keys().filter(|key| !known.iter().any(|known| known.eq_ignore_ascii_case(key)))
    {
        warnings.push(format!("`{key}` is not a key of the script, and is left out"));
    }
    let days = value("SecureScoreAPI").as_deref().and_then(period);
    if let Some(days) = days.filter(|days| !(1..=90).contains(days)) {
        return Err(format!(
            "`SecureScoreAPI` asks for period={days}; Microsoft keeps 1 to 90 days"
        ));
    }
    let cloud = cloud(value("LoginURL").as_deref(), value("ResourceAPI").as_deref())?;
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let name = domain.unwrap_or_else(|| "tenant".to_owned());
    let mut out = String::from("# Brought over from the original script's configuration.\n\n");
    let _ = write!(
        out,
        "[state]\ndirectory = \"/var/lib/secure-score-forwarder\"\n\n[[tenants]]\nname = {}\nid = {}\ncloud = {}\ninitial_backfill_days = {}\n\n\
         [tenants.credential]\nkind = \"client_secret\"\nclient_id = {}\nclient_secret = {{ file = {} }}\n\n\
         # Where the records go: the script printed them.\n[[sinks]]\nname = \"screen\"\ntype = \"stdout\"\n",
        quoted(&name),
        quoted(&id),
        quoted(cloud),
        days.unwrap_or(90),
        quoted(&client_id),
        quoted(&secret_file.display().to_string()),
    );
    Ok(Brought { configuration: out, secret: value("SSAPIAppSecret"), warnings })
}

/// N of `period=N`.
fn period(url: &str) -> Option<i64> {
    let (_, rest) = url.split_once("period=")?;
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
    digits.parse().ok()
}

/// The cloud that the script's URLs belong to.
fn cloud(login: Option<&str>, resource: Option<&str>) -> Result<&'static str, String> {
    let host = |url: Option<&str>| {
        url.and_then(|url| Url::parse(url).ok()?.host_str().map(str::to_ascii_lowercase))
    };
    let (login, resource) = (host(login), host(resource));
    let global = ["login.windows.net", "login.microsoftonline.com", "login.microsoft.com"];
    match (login.as_deref(), resource.as_deref()) {
        (_, Some("dod-graph.microsoft.us")) => Ok("us-gov-dod"),
        (Some("login.microsoftonline.us"), _) | (_, Some("graph.microsoft.us")) => {
            Ok("us-gov-high")
        }
        (Some(login), _) if !global.contains(&login) => {
            Err(format!("`LoginURL` is of no cloud known: {login}"))
        }
        _ => Ok("global"),
    }
}

/// Writes a file that is not there yet, for nobody else to read.
fn write_new(file: &Path, text: &str) -> Result<(), Failed> {
    let mut options = std::fs::OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        Failed::new(Exit::Usage, format!("cannot write `{}`: {error}", file.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Configuration;

    const ORIGINAL: &str = r#"{
        "Description": "Global configuration file", "ssapiAppId": "11111111-2222-4333-8444-555555555555",
        "SSAPIAppSecret": "canary", "SSAPITenantDomain": "contoso.onmicrosoft.com",
        "SSAPITenantGUID": "3f5c1d2e-0000-4000-8000-00000000c0de", "LoginURL" : "https://login.windows.net",
        "ResourceAPI" : "https://graph.microsoft.com/",
        "SecureScoreAPI" : "https://graph.microsoft.com/stagingBeta/reports/getTenantSecureScores(period=9)/content" }"#;

    fn bring(text: &str) -> Result<Brought, String> {
        bring_over(text, Path::new("/etc/x/secret"))
    }

    #[test]
    fn what_comes_out_is_a_configuration() {
        let brought = bring(ORIGINAL).unwrap();
        assert!(!brought.configuration.contains("canary"));
        assert_eq!(brought.secret.as_deref(), Some("canary"));
        let read = Configuration::parse("c.toml", &brought.configuration).unwrap();
        let tenant = &read.tenants[0];
        assert_eq!(
            (tenant.name.as_str(), tenant.initial_backfill_days),
            ("contoso.onmicrosoft.com", 9)
        );
        assert_eq!(tenant.access.tenant, "3f5c1d2e-0000-4000-8000-00000000c0de");
    }

    #[test]
    fn what_cannot_be_brought_over_is_said() {
        let changed = |from: &str, to: &str| bring(&ORIGINAL.replace(from, to)).err();
        assert_eq!(
            changed("period=9", "period=91").unwrap(),
            "`SecureScoreAPI` asks for period=91; Microsoft keeps 1 to 90 days"
        );
        assert_eq!(
            changed("period=9", "period=0").unwrap(),
            "`SecureScoreAPI` asks for period=0; Microsoft keeps 1 to 90 days"
        );
        assert_eq!(
            changed("11111111-2222", "YOUR APPID").unwrap(),
            "`SSAPIAppID` is no application id"
        );
        assert!(
            changed("login.windows.net", "login.chinacloudapi.cn")
                .unwrap()
                .contains("no cloud known")
        );
        let broken = changed("\"canary\",", "\"canary\"").unwrap();
        assert!(broken.starts_with("it is not JSON") && !broken.contains("canary"));
        assert!(
            bring(&ORIGINAL.replace("\"Description\"", "\"Colour\""))
                .unwrap()
                .warnings
                .iter()
                .any(|w| w.contains("Colour"))
        );
    }
}
