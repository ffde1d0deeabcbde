//! What to do about the errors of Entra's token endpoint, in plain words.
//!
//! The codes are for people; Microsoft may change them, so nothing is decided by them but the
//! sentence that is printed.

/// The remedy for an `AADSTS` code, if it has one of its own.
pub fn remedy(code: u32) -> Option<&'static str> {
    Some(match code {
        7_000_215 => {
            "the client secret is wrong: copy the secret's value, not its id, or make a new one"
        }
        7_000_222 => "the client secret has expired: make a new one, or use a certificate",
        700_016 | 700_011 => {
            "the app is not known in this tenant: check the tenant and the client id, and that an administrator of the tenant has consented"
        }
        7_000_112 | 70_001 => {
            "the app is disabled in this tenant: enable the enterprise application"
        }
        7_000_229 => {
            "the app has no service principal in this tenant: an administrator of the tenant must consent"
        }
        90_002 | 900_023 => "there is no such tenant in this cloud: check its id, and `cloud`",
        90_038 | 900_382 | 900_432 => "the tenant is in another cloud: correct `cloud`",
        700_027 | 50_012 | 700_030 => {
            "the certificate is not the one the app knows: upload it to the app registration"
        }
        700_024 | 500_133 | 50_013 => {
            "the assertion's time is not now: set the clock of this host by NTP"
        }
        700_025 => {
            "the app is a public client and must send no credential: register it as a confidential one"
        }
        7_000_218 => "the app wants a credential: allow public client flows, or configure one",
        70_011 | 28_002 | 1_002_012 => "the scope is refused: check `cloud`",
        500_011 | 650_057 | 650_052 => {
            "Graph is not known to the tenant under this address: check `cloud`"
        }
        65_001 | 90_094 | 90_095 | 650_056 => {
            "nobody has consented: an administrator of the tenant must grant the app SecurityEvents.Read.All"
        }
        90_099 => {
            "the partner's app is not authorised in the customer's tenant: consent there first"
        }
        50_194 | 9_001_023 | 90_130 => "the app is not multi-tenant, or this is not its tenant",
        50_072 | 50_074 | 50_076 | 50_078 | 50_079 => "the sign-in wants a second factor",
        53_000..=53_004 | 530_032 | 530_035 | 50_131 => {
            "Conditional Access refuses it: ask the tenant's administrator to exempt the app"
        }
        50_196 => "Entra sees a loop of requests: wait an hour",
        90_055 | 50_033 | 90_006 | 90_012 | 90_024 | 90_033 | 90_090 | 50_087 => {
            "Entra is busy: it will be tried again"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn the_common_mistakes_have_a_remedy() {
        for (code, word) in [
            (7_000_215, "value"),
            (7_000_222, "expired"),
            (700_016, "client id"),
            (90_002, "no such tenant"),
            (65_001, "SecurityEvents.Read.All"),
            (53_003, "Conditional Access"),
            (700_024, "NTP"),
            (900_432, "cloud"),
        ] {
            assert!(remedy(code).unwrap().contains(word), "{code}");
        }
        assert_eq!(remedy(1), None);
    }
}
