//! Reads Microsoft Graph: tokens, pages, and the errors of both.
//!
//! The module returns response bodies, and [`crate::wire`] parses them. It must never depend on the
//! checkpoint or on a sink. Start reading at [`Graph`], which reads one tenant; every way to sign
//! in implements [`Credential`].

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod auth;
mod clients;
mod cloud;
mod error;
mod graph;
mod headers;
mod memory_budget;
mod pages;
mod paging;
#[allow(clippy::arithmetic_side_effects, reason = "it calculates only with its own numbers")]
pub mod simulated;
mod throttle;
mod tokens;

pub use auth::{
    AuthorizationRequest, Certificate, CertificateChain, ClientSecret, Credential, CredentialError,
    DeviceLogin, KeyPairError, LoginError, LoopbackLogin, ManagedIdentity, ManagedIdentityHost,
    ManagedIdentityId, PlaintextPolicy, RefreshTokenError, RefreshTokenStore, TokenRequestContext,
    UserCredential, WorkloadIdentity, from_environment,
};
pub use clients::{Clients, GraphHttpOptions};
pub use cloud::{CLOUDS_WITHOUT_SECURE_SCORE, Cloud};
pub use error::{SourceError, text_without_secrets, without_secrets};
pub use graph::{Access, Api, Graph, PartialBody, Probe, expires_soon};
pub use pages::{PageOutcome, ReadEvent};
pub use paging::Collection;
pub use tokens::ResourceTokens;
