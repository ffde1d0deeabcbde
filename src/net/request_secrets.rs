//! The secrets of an HTTP request, which the sender removes from the response.
//!
//! Every header that is marked as sensitive is a secret; other credentials are found by the names
//! of headers and of the fields of a form. A secret URL must be added by the sender, because most
//! URLs are not secret. Start reading at [`request_secrets`]. See decision 0086.

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
};

use crate::foreign_text::SentSecrets;

/// Headers that libraries send with a credential and do not always mark as sensitive.
const CREDENTIAL_HEADERS: [&str; 4] = [
    "x-amz-security-token",
    "x-aws-ec2-metadata-token",
    "x-identity-header",
    "x-ms-encryption-key",
];

/// The headers of [`CREDENTIAL_HEADERS`] with a token that a service has issued.
const TOKEN_HEADERS: [&str; 2] = ["x-amz-security-token", "x-aws-ec2-metadata-token"];

/// The secrets in the headers, the query and the form of a request. Those in other headers than
/// [`TOKEN_HEADERS`] are taken for secrets from the configuration.
pub(crate) fn request_secrets(request: &reqwest::Request) -> SentSecrets {
    let body = request.body().and_then(reqwest::Body::as_bytes);
    parts_secrets(request.headers(), request.url().query(), body)
}

/// Like [`request_secrets`], for the parts of a request of another library.
pub(crate) fn parts_secrets(
    headers: &HeaderMap,
    query: Option<&str>,
    body: Option<&[u8]>,
) -> SentSecrets {
    let mut secrets = SentSecrets::default();
    for (name, value) in headers {
        let text = String::from_utf8_lossy(value.as_bytes());
        if TOKEN_HEADERS.contains(&name.as_str()) {
            secrets.add_temporary(text.trim());
        } else if *name == COOKIE {
            secrets.add_cookies(&text);
        } else if value.is_sensitive() || is_credential(name) {
            secrets.add_header(&text);
        }
    }

    secrets.add_form(query.unwrap_or_default());
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if content_type.starts_with(b"application/x-www-form-urlencoded") {
        secrets.add_form(&String::from_utf8_lossy(body.unwrap_or_default()));
    }
    secrets
}

fn is_credential(name: &HeaderName) -> bool {
    *name == AUTHORIZATION
        || *name == PROXY_AUTHORIZATION
        || CREDENTIAL_HEADERS.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net;

    #[test]
    fn credentials_are_found_in_all_places() {
        let client = net::client(None).unwrap();
        let mut sensitive = HeaderValue::from_static("custom-canary");
        sensitive.set_sensitive(true);
        let request = client
            .post("https://h.example/?sig=query-canary&comp=public-value")
            .bearer_auth("bearer-canary")
            .header("X-Custom", sensitive)
            .header("X-Amz-Security-Token", "session-canary")
            .header("X-Public", "public-header")
            .header("Cookie", "session=cookie-canary")
            .form(&[("client_secret", "form canary+"), ("client_id", "public-client")])
            .build()
            .unwrap();

        let secrets = request_secrets(&request);
        for text in [
            "query-canary",
            "bearer-canary",
            "custom-canary",
            "session-canary",
            "cookie-canary",
            "form canary+",
            "form+canary%2B",
        ] {
            assert_eq!(secrets.redact(text), "[redacted]", "{text}");
        }
        for text in ["public-value", "public-header", "public-client", "Bearer", "client_secret"] {
            assert_eq!(secrets.redact(text), text);
        }
    }
}
