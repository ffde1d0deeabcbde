//! Hints for the error codes of Entra's token endpoint (`AADSTS…`).
//!
//! Microsoft documents the codes for diagnosis and may change them. Nothing may depend on them
//! except whether a request is retried and which hint is printed.

/// The hint for an `AADSTS` code, if the code is known.
pub(in crate::source) fn aadsts_hint(code: u32) -> Option<&'static str> {
    HINTS.iter().find(|(codes, _)| codes.contains(&code)).map(|(_, hint)| *hint)
}

/// Whether a code reports a temporary failure, so that the same request may succeed later.
pub(in crate::source) fn is_transient_code(code: u32) -> bool {
    TRANSIENT.contains(&code)
}

/// Codes of temporary failures at Entra.
const TRANSIENT: &[u32] = &[90_055, 50_033, 90_006, 90_012, 90_024, 90_033, 90_090, 50_087];

/// Groups of codes, each with its hint.
const HINTS: &[(&[u32], &str)] = &[
    // The client secret is invalid.
    (&[7_000_215], "copy the secret's value, not its ID, or create a new secret"),
    // The client secret has expired.
    (&[7_000_222], "create a new client secret, or use a certificate: the secret has expired"),
    // The tenant does not contain the application.
    (
        &[700_016, 700_011],
        "check the tenant and the client ID, run `consent-url`, and ask an administrator of the tenant to open the link and consent",
    ),
    // The application is disabled.
    (&[7_000_112, 70_001], "enable the app under enterprise applications in the tenant"),
    // The application has no service principal in the tenant.
    (
        &[7_000_229],
        "run `consent-url`, and ask an administrator of the tenant to open the link and consent",
    ),
    // The tenant does not exist in this cloud.
    (&[90_002, 900_023], "check the tenant ID, and set `cloud` to the cloud of the tenant"),
    // The tenant belongs to another cloud.
    (&[90_038, 900_382, 900_432], "set `cloud` to the cloud of the tenant"),
    // The signature of the assertion is invalid.
    (
        &[700_027],
        "upload this certificate to the app registration, or use the registered certificate",
    ),
    // The assertion is not valid yet, or has expired.
    (
        &[700_024, 500_133, 50_013],
        "synchronize the clock of this host with NTP, and check that the federated token file is renewed",
    ),
    // The certificate is not registered.
    (&[50_012, 700_030], "upload the certificate to the app registration"),
    // A public client sent a credential.
    (
        &[700_025],
        "set `kind = \"user\"`, or register the app as a confidential client instead of a public client",
    ),
    // A confidential client sent no credential.
    (
        &[7_000_218],
        "enable \"Allow public client flows\" in the app registration, or configure a secret or certificate",
    ),
    // No federated credential matches the token.
    (
        &[70_021, 700_211, 700_212, 700_213, 7_002_137, 7_002_138],
        "compare the issuer, subject and audience of the token with those of the app's federated credential, including letter case",
    ),
    // A token of this type cannot be a federated credential.
    (
        &[700_229],
        "use the token of an application or a managed identity as the federated credential",
    ),
    // The scope is invalid.
    (&[70_011, 28_002, 1_002_012], "check `cloud`: Entra rejects the scope"),
    // The tenant does not contain the resource.
    (
        &[500_011, 650_057, 650_052],
        "check `cloud`: Graph is not available to the tenant at this address",
    ),
    // An administrator has not granted the permission.
    (
        &[65_001, 90_094, 90_095, 650_056],
        "run `consent-url`, and ask an administrator of the tenant to open the link and grant SecurityEvents.Read.All",
    ),
    // The customer has not authorized the app of the partner.
    (
        &[90_099],
        "ask the customer to consent to the partner's app, or grant consent through Partner Center",
    ),
    // The app is registered for a single tenant, or the configured tenant is `common`.
    (
        &[50_194, 9_001_023, 90_130],
        "set the ID of the app's home tenant, or register the app as multi-tenant",
    ),
    // The sign-in requires multi-factor authentication.
    (&[50_072, 50_074, 50_076, 50_078, 50_079], "run `login` again and complete the second factor"),
    // A Conditional Access policy blocks the sign-in.
    (
        &[53_000, 53_001, 53_002, 53_003, 53_004, 530_032, 530_035, 50_131],
        "ask the tenant's administrator to exempt the app from the Conditional Access policy; if the policy blocks device codes, run `login` without --device-code",
    ),
    // Entra considers the account to be at risk.
    (
        &[530_034],
        "ask an administrator of the partner's home tenant to dismiss the account's user risk",
    ),
    // The refresh token has expired or was revoked.
    (
        &[70_000, 70_008, 700_082, 50_173, 70_043, 50_089],
        "run `login` again: the sign-in expired or was revoked",
    ),
    // The redirect URI is not registered.
    (
        &[50_011],
        "add `http://localhost` as a mobile and desktop redirect URI to the app registration",
    ),
    // The code has expired, or was used twice.
    (
        &[70_016, 70_018, 70_019, 54_005],
        "run `login` again: the code was not used in time, or was used twice",
    ),
    // The password is wrong; the user is unknown, locked, disabled, or has an expired password.
    (&[50_126], "check the user name and the password"),
    (&[50_034], "check the user name: the tenant has no such user"),
    (&[50_053], "wait until the user's account is unlocked, or ask its administrator"),
    (&[50_055], "change the user's expired password, then run `login` again"),
    (&[50_057], "ask the administrator to enable the user's account"),
    // Entra has detected a request loop.
    (&[50_196], "wait an hour: Entra detected a request loop"),
    (TRANSIENT, "wait: Entra is busy, and the request is retried"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Codes that operators are known to encounter, and a phrase of the hint for each.
    const KNOWN_CODES: &[(&[u32], &str)] = &[
        (&[7_000_215], "value"),
        (&[7_000_222], "expired"),
        (&[700_016, 700_011], "client ID"),
        (&[7_000_112, 70_001], "enable"),
        (&[7_000_229], "consent"),
        (&[90_002, 900_023], "tenant ID"),
        (&[90_038, 900_382, 900_432], "`cloud`"),
        (&[700_027], "upload"),
        (&[700_024, 500_133, 50_013], "NTP"),
        (&[50_012, 700_030], "upload"),
        (&[700_025], "public client"),
        (&[7_000_218], "Allow public client flows"),
        (
            &[70_021, 700_211, 700_212, 700_213, 7_002_137, 7_002_138],
            "issuer, subject and audience",
        ),
        (&[700_229], "managed identity"),
        (&[70_011, 28_002, 1_002_012], "cloud"),
        (&[500_011, 650_057, 650_052], "cloud"),
        (&[65_001, 90_094, 90_095, 650_056], "consent-url"),
        (&[90_099], "Partner Center"),
        (&[50_194, 9_001_023, 90_130], "multi-tenant"),
        (&[50_076, 50_079, 50_074, 50_072, 50_078], "second factor"),
        (&[53_000, 53_001, 53_002, 53_003, 53_004, 530_032, 530_035, 50_131], "exempt"),
        (&[530_034], "user risk"),
        (&[70_008, 700_082, 50_173, 70_043, 50_089, 70_000], "`login` again"),
        (&[50_011], "http://localhost"),
        (&[70_016, 70_018, 70_019, 54_005], "in time"),
        (&[50_126, 50_034, 50_053, 50_055, 50_057], "user"),
        (&[50_196], "an hour"),
        (&[90_055, 50_033, 90_006, 90_012, 90_024, 90_033, 90_090, 50_087], "retried"),
    ];

    #[test]
    fn has_a_hint_for_known_codes() {
        for (codes, phrase) in KNOWN_CODES {
            for code in *codes {
                assert!(aadsts_hint(*code).is_some_and(|hint| hint.contains(*phrase)), "{code}");
            }
        }
        assert_eq!(aadsts_hint(1), None);
    }

    #[test]
    fn lists_no_code_twice() {
        let mut seen = HashSet::new();
        assert!(HINTS.iter().flat_map(|(codes, _)| *codes).all(|code| seen.insert(code)));
    }
}
