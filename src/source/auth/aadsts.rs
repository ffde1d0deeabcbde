//! What to do about the errors of Entra's token endpoint, in plain words.
//!
//! The codes are for people; Microsoft may change them, so nothing is decided by them but the
//! sentence that is printed.

/// The remedy for an `AADSTS` code, if it has one of its own.
pub fn remedy(code: u32) -> Option<&'static str> {
    REMEDIES.iter().find(|(codes, _)| codes.contains(&code)).map(|(_, remedy)| *remedy)
}

/// Whether a code says that the same request may well succeed in a moment.
pub(in crate::source) fn is_passing(code: u32) -> bool {
    PASSING.contains(&code)
}

const PASSING: &[u32] = &[90_055, 50_033, 90_006, 90_012, 90_024, 90_033, 90_090, 50_087];

/// Codes, and what to do about them.
const REMEDIES: &[(&[u32], &str)] = &[
    (
        &[7_000_215],
        "the client secret is wrong: copy the secret's value, not its id, or make a new one",
    ),
    (&[7_000_222], "the client secret has expired: make a new one, or use a certificate"),
    (
        &[700_016, 700_011],
        "the app is not known in this tenant: check the tenant and the client id, and that an administrator of the tenant has consented (`consent-url` prints the link)",
    ),
    (&[7_000_112, 70_001], "the app is disabled in this tenant: enable the enterprise application"),
    (
        &[7_000_229],
        "the app has no service principal in this tenant: an administrator of the tenant must consent (`consent-url` prints the link)",
    ),
    (&[90_002, 900_023], "there is no such tenant in this cloud: check its id, and `cloud`"),
    (&[90_038, 900_382, 900_432], "the tenant is in another cloud: correct `cloud`"),
    (
        &[700_027],
        "the assertion's signature is not the app's: upload this certificate to the app registration, or use the key that belongs to it",
    ),
    (
        &[700_024, 500_133, 50_013],
        "the assertion's time is not now: set the clock of this host by NTP; of a federated token, see that its file is kept fresh",
    ),
    (
        &[50_012, 700_030],
        "the certificate is not one that the app knows: upload it to the app registration",
    ),
    (
        &[700_025],
        "the app is a public client and must send no credential: use kind = \"user\", or register it as a confidential one",
    ),
    (
        &[7_000_218],
        "the app wants a credential: switch on \"Allow public client flows\" in its registration, or configure a secret or certificate",
    ),
    (
        &[70_021, 700_211, 700_212, 700_213, 7_002_137, 7_002_138],
        "no federated credential of the app matches: compare issuer, subject and audience of the token with the app registration, letter case too",
    ),
    (
        &[700_229],
        "only a token of an application or a managed identity can serve as federated credential",
    ),
    (&[70_011, 28_002, 1_002_012], "the scope is refused: check `cloud`"),
    (
        &[500_011, 650_057, 650_052],
        "Graph is not known to the tenant under this address: check `cloud`",
    ),
    (
        &[65_001, 90_094, 90_095, 650_056],
        "nobody has consented: an administrator of the tenant must grant the app SecurityEvents.Read.All (`consent-url` prints the link)",
    ),
    (
        &[90_099],
        "the partner's app is not authorised in the customer's tenant: consent there, or by Partner Center, first",
    ),
    (
        &[50_194, 9_001_023, 90_130],
        "the app is not multi-tenant, or this is not its tenant: name the tenant's own id",
    ),
    (
        &[50_072, 50_074, 50_076, 50_078, 50_079],
        "the sign-in wants a second factor: run `login` again",
    ),
    (
        &[53_000, 53_001, 53_002, 53_003, 53_004, 530_032, 530_035, 50_131],
        "Conditional Access refuses it: ask the tenant's administrator to exempt the app; where the device code is refused, `login` without --device-code",
    ),
    (
        &[530_034],
        "the partner's account is blocked as risky: its administrator must clear the risk",
    ),
    (
        &[70_000, 70_008, 700_082, 50_173, 70_043, 50_089],
        "the sign-in has expired or was revoked: run `login` again",
    ),
    (
        &[50_011],
        "the redirect is not registered: add `http://localhost` as a mobile and desktop application",
    ),
    (
        &[70_016, 70_018, 70_019, 54_005],
        "the code was not used in time, or used twice: run `login` again",
    ),
    (&[50_126], "user name or password is wrong"),
    (&[50_034], "there is no such user in this tenant"),
    (&[50_053], "the user's account is locked: wait, or ask its administrator"),
    (&[50_055], "the user's password has expired: change it, then run `login` again"),
    (&[50_057], "the user's account is disabled"),
    (&[50_196], "Entra sees a loop of requests: wait an hour"),
    (PASSING, "Entra is busy: it will be tried again"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// One word of the remedy of every code that people are known to meet.
    #[test]
    fn every_code_has_its_remedy() {
        for (codes, word) in [
            (&[7_000_215][..], "value"),
            (&[7_000_222], "expired"),
            (&[700_016, 700_011], "client id"),
            (&[7_000_112, 70_001], "enable"),
            (&[7_000_229], "consent"),
            (&[90_002, 900_023], "no such tenant"),
            (&[90_038, 900_382, 900_432], "another cloud"),
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
            (&[530_034], "risky"),
            (&[70_008, 700_082, 50_173, 70_043, 50_089, 70_000], "`login` again"),
            (&[50_011], "http://localhost"),
            (&[70_016, 70_018, 70_019, 54_005], "in time"),
            (&[50_126, 50_034, 50_053, 50_055, 50_057], "user"),
            (&[50_196], "an hour"),
            (&[90_055, 50_033, 90_006, 90_012, 90_024, 90_033, 90_090, 50_087], "tried again"),
        ] {
            for code in codes {
                assert!(remedy(*code).is_some_and(|text| text.contains(word)), "{code}");
            }
        }
        assert_eq!(remedy(1), None);
    }

    #[test]
    fn no_code_stands_twice() {
        let mut seen = HashSet::new();
        assert!(REMEDIES.iter().flat_map(|(codes, _)| *codes).all(|code| seen.insert(code)));
    }
}
