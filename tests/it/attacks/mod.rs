//! Attacks against the program, one module per adversary of the threat model in `SECURITY.md`. A
//! test states the attack, and what the program guarantees against it. Start reading at the module
//! of an adversary.

mod browser;
mod customers;
mod directory_user;
mod local_users;
mod network;
mod receiver;
mod service_user;
mod supply_chain;
mod tenant;
