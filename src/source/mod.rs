//! The API's side: tokens, pages, and what may go wrong on the way. It brings bodies and leaves
//! their meaning to `wire`; of the checkpoint and the sinks it knows nothing.

mod aadsts;
mod error;
mod graph;
pub mod simulated;
mod token;

pub use aadsts::remedy;
pub use error::SourceError;
pub use graph::{Access, Collection, Graph, Next};

use url::Url;

/// A Microsoft cloud: where tokens come from, and where Graph is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    pub login_url: Url,
    pub graph_url: Url,
}

/// The clouds that have the API, by the name that the configuration gives them.
pub const CLOUDS: [(&str, &str, &str); 3] = [
    ("global", "https://login.microsoftonline.com", "https://graph.microsoft.com"),
    ("us-gov-high", "https://login.microsoftonline.us", "https://graph.microsoft.us"),
    ("us-gov-dod", "https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
];

impl Cloud {
    /// A cloud by name; `None` if there is none of that name.
    pub fn named(name: &str) -> Option<Self> {
        let (_, login, graph) = CLOUDS.into_iter().find(|(known, ..)| *known == name)?;
        Some(Self { login_url: login.parse().ok()?, graph_url: graph.parse().ok()? })
    }
}
