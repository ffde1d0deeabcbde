//! A hostile tenant, or a server in the place of Microsoft Graph: texts, numbers and floods.

mod floods;
pub mod texts;
