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
    AuthorizationRequest, Certificate, ClientSecret, Credential, CredentialError, DeviceLogin,
    LoginError, LoopbackLogin, ManagedIdentity, ManagedIdentityHost, ManagedIdentityId,
    RefreshTokenError, RefreshTokenStore, TokenRequestContext, UserCredential, WorkloadIdentity,
    from_environment, remedy,
};
pub use clients::{Clients, HttpOptions};
pub use cloud::{CLOUDS_WITHOUT_SECURE_SCORE, Cloud};
pub use error::SourceError;
pub use graph::{Access, Api, Graph, PageOutcome, Probe, ReadEvent, expires_soon};
pub use paging::Collection;
pub use tokens::ResourceTokens;
