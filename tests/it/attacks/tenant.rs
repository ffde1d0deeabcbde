//! A hostile tenant, or a server in the place of Microsoft Graph: texts, numbers and floods.

mod crowd;
mod floods;
mod secrets;
pub mod texts;
