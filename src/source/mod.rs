//! The API's side: tokens, pages, and what may go wrong on the way. It brings bodies and leaves
//! their meaning to `wire`; of the checkpoint and the sinks it knows nothing.

mod auth;
mod clients;
mod cloud;
mod error;
mod graph;
mod memory_budget;
mod paging;
pub mod simulated;
mod throttle;
mod tokens;

pub use auth::{
    Ask, Certificate, ClientSecret, Credential, CredentialError, DeviceLogin, Host, Identity,
    LoginError, LoopbackLogin, ManagedIdentity, Prompt, Sealed, SealedError, User,
    WorkloadIdentity, from_environment, remedy,
};
pub use clients::{Clients, Reach};
pub use cloud::{Cloud, WITHOUT_THE_API};
pub use error::SourceError;
pub use graph::{Access, Api, Graph, PageRead, Probe, Step, expires_soon};
pub use paging::Collection;
pub use tokens::ResourceTokens;
