//! `import-config`: converts the configuration of the original script `GetSecureScoreAPI-S2S.ps1`.
//! Its file `ConfigForSecureScoreAPI.json` is a flat JSON object whose keys are not case-sensitive,
//! as in the script. The secret in that file never appears in the new configuration or in a
//! message.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use url::Url;

use super::{
    CommandFailure, ExitCode, args, output_file, print_data, print_explanation, print_message,
};
use crate::{
    error::Explanation,
    files,
    model::{DAYS_AT_SOURCE, REREAD_DAYS, TenantId},
    settings::toml_string,
};

/// The maximum size of the script's file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
const DEFAULT_SECRET_FILE: &str = "/etc/secure-score-forwarder/client-secret";

/// The keys that the script reads.
const KEYS: [&str; 8] = [
    "Description",
    "SSAPIAppID",
    "SSAPIAppSecret",
    "SSAPITenantDomain",
    "SSAPITenantGUID",
    "LoginURL",
    "ResourceAPI",
    "SecureScoreAPI",
];

/// The result of a conversion.
struct Converted {
    /// The new configuration in TOML.
    configuration: String,
    secret: Option<String>,
    warnings: Vec<String>,
}

/// Runs the command. Fails if the file cannot be read or converted, or if a file that would be
/// written exists.
pub(super) fn import_config(args: &args::ImportConfig) -> Result<ExitCode, CommandFailure> {
    let bytes = files::read_limited(&args.file, MAX_FILE_BYTES);
    let bytes = bytes.map_err(|error| CommandFailure::from_error(ExitCode::Usage, &error))?;
    let invalid = |reason: &str| {
        let message = format!("cannot convert `{}`: {reason}", args.file.display());
        CommandFailure::new(ExitCode::Usage, message)
    };
    let text = files::decode_text(bytes).map_err(|error| invalid(&error.to_string()))?;
    let secret_file =
        args.secret_file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SECRET_FILE));
    // The service does not run in the working directory of this command.
    let secret_file = std::path::absolute(secret_file)?;
    let converted = convert(&text, &secret_file).map_err(|reason| invalid(&reason))?;
    for warning in &converted.warnings {
        print_message(&format!("warning: {warning}"));
    }

    match (&args.secret_file, &converted.secret) {
        (Some(file), Some(secret)) => {
            write_new(file, &format!("{secret}\n"))?;
            print_message(&format!("wrote the application's secret to `{}`", file.display()));
        }
        (None, Some(_)) => {
            let explanation = Explanation::new("the application's secret was not written");
            print_explanation(&explanation.with_hint(format!(
                "write it to `{DEFAULT_SECRET_FILE}` (mode 0600), or pass --secret-file"
            )));
        }
        (_, None) => {}
    }

    match &args.write {
        Some(file) => write_new(file, &converted.configuration)?,
        None => print_data(&converted.configuration)?,
    }
    Ok(ExitCode::Done)
}

/// Converts the text of the script's configuration. The error is the reason, without the file name.
fn convert(text: &str, secret_file: &Path) -> Result<Converted, String> {
    let text = text.trim_start_matches('\u{feff}');
    let parsed: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)
        // The message of the parser is omitted because it may quote the secret.
        .map_err(|error| {
            format!("it is not valid JSON (line {}, column {})", error.line(), error.column())
        })?;
    // The template of the script has placeholders that begin with "YOUR ".
    let value = |name: &str| {
        let found = parsed.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let text = found?.1.as_str()?.trim();
        (!text.is_empty() && !text.starts_with("YOUR ")).then(|| text.to_owned())
    };

    let mut warnings = vec![
        "the original endpoint was removed from Microsoft Graph; the new configuration reads `secureScores`, which contains the same data and more".to_owned(),
        "the app now requires the application permission SecurityEvents.Read.All; Reports.Read.All is not sufficient".to_owned(),
    ];
    let unknown = parsed.keys().filter(|key| !KEYS.iter().any(|k| k.eq_ignore_ascii_case(key)));
    warnings.extend(unknown.map(|key| format!("ignored `{key}`, which the script does not read")));

    let client_id = value("SSAPIAppID").filter(|id| TenantId::parse(id).is_ok());
    let client_id = client_id.ok_or("`SSAPIAppID` is not an application ID")?;
    let guid = value("SSAPITenantGUID").filter(|id| TenantId::parse(id).is_ok());
    let domain = value("SSAPITenantDomain");
    let id = guid
        .or_else(|| domain.clone())
        .ok_or("neither `SSAPITenantGUID` nor `SSAPITenantDomain` is set")?;

    let days = initial_days(value("SecureScoreAPI").as_deref(), &mut warnings)?;
    let cloud = cloud(value("LoginURL").as_deref(), value("ResourceAPI").as_deref())?;

    let name = domain.unwrap_or_else(|| "tenant".to_owned());
    let mut out = String::from("# Converted from the configuration of the original script.\n\n");
    let _ = write!(
        out,
        "[state]\ndirectory = \"/var/lib/secure-score-forwarder\"\n\n[[tenants]]\nname = {}\nid = {}\ncloud = {}\ninitial_backfill_days = {}\n\n\
         [tenants.credential]\nkind = \"client_secret\"\nclient_id = {}\nclient_secret = {{ file = {} }}\n\n\
         # Records are written to standard output, as the original script does.\n[[sinks]]\nname = \"screen\"\ntype = \"stdout\"\n",
        toml_string(&name),
        toml_string(&id),
        toml_string(cloud),
        days,
        toml_string(&client_id),
        toml_string(&secret_file.display().to_string()),
    );
    Ok(Converted { configuration: out, secret: value("SSAPIAppSecret"), warnings })
}

/// The number of days that the first poll requests, from the URL of the script. Fails if the script
/// requests a period that does not exist.
fn initial_days(url: Option<&str>, warnings: &mut Vec<String>) -> Result<i64, String> {
    let (shortest, longest) = (i64::from(REREAD_DAYS), i64::from(DAYS_AT_SOURCE));
    let days = url.and_then(period).unwrap_or(longest);

    if !(1..=longest).contains(&days) {
        return Err(format!(
            "`SecureScoreAPI` has `period={days}`; the period must be from 1 to {longest} days"
        ));
    }
    if days < shortest {
        warnings.push(format!(
            "`period={days}` becomes `initial_backfill_days = {shortest}`, because every poll requests the newest {shortest} days"
        ));
    }
    Ok(days.max(shortest))
}

/// The number N in `period=N` of the URL, in days.
fn period(url: &str) -> Option<i64> {
    let (_, rest) = url.split_once("period=")?;
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
    digits.parse().ok()
}

/// The cloud to which the script's URLs belong.
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
            Err(format!("`LoginURL` belongs to an unknown cloud: `{login}`"))
        }
        _ => Ok("global"),
    }
}

/// Creates a file that only its owner can read. Fails if the file exists.
fn write_new(file: &Path, text: &str) -> Result<(), CommandFailure> {
    let written = output_file::create(file, text);
    written.map_err(|error| CommandFailure::from_error(ExitCode::Usage, &error))
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

    fn convert(text: &str) -> Result<Converted, String> {
        super::convert(text, Path::new("/etc/x/secret"))
    }

    #[test]
    fn converts_to_a_valid_configuration() {
        let converted = convert(ORIGINAL).unwrap();
        assert!(!converted.configuration.contains("canary"));
        assert_eq!(converted.secret.as_deref(), Some("canary"));

        let read = Configuration::parse("c.toml", &converted.configuration).unwrap();
        let tenant = &read.tenants[0];
        assert_eq!(
            (tenant.name.as_str(), tenant.initial_backfill_days),
            ("contoso.onmicrosoft.com", 9)
        );
        assert_eq!(tenant.access.tenant, "3f5c1d2e-0000-4000-8000-00000000c0de");
    }

    #[test]
    fn rejects_values_that_cannot_be_converted() {
        let error = |from: &str, to: &str| convert(&ORIGINAL.replace(from, to)).err().unwrap();
        assert_eq!(
            error("period=9", "period=91"),
            "`SecureScoreAPI` has `period=91`; the period must be from 1 to 90 days"
        );
        assert_eq!(
            error("period=9", "period=0"),
            "`SecureScoreAPI` has `period=0`; the period must be from 1 to 90 days"
        );
        assert_eq!(error("11111111-2222", "YOUR APPID"), "`SSAPIAppID` is not an application ID");
        assert!(error("login.windows.net", "login.chinacloudapi.cn").contains("an unknown cloud"));
    }

    #[test]
    fn short_periods_become_three_days() {
        for (period, days) in [(1, 3), (2, 3), (3, 3), (4, 4)] {
            let text = ORIGINAL.replace("period=9", &format!("period={period}"));
            let converted = convert(&text).unwrap();
            let read = Configuration::parse("c.toml", &converted.configuration).unwrap();
            assert_eq!(read.tenants[0].initial_backfill_days, days);
            let message = format!("`period={period}` becomes");
            let is_reported = converted.warnings.iter().any(|found| found.contains(&message));
            assert_eq!(is_reported, period < 3, "{period}");
        }
    }

    #[test]
    fn parse_errors_do_not_quote_the_secret() {
        let error = convert(&ORIGINAL.replace("\"canary\",", "\"canary\"")).err().unwrap();
        assert!(error.starts_with("it is not valid JSON") && !error.contains("canary"));
    }

    #[test]
    fn warns_about_unknown_keys() {
        let text = ORIGINAL.replace("\"Description\"", "\"Extra\"");
        let warnings = convert(&text).unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.contains("`Extra`")));
    }
}
