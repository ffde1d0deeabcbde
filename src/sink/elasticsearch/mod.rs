//! Elasticsearch and OpenSearch, by `_bulk`. Acknowledgement: for every record of its own, 201, or 409 where
//! a document of that id is there already: the `event_id` is the document's id, so that what is
//! sent again changes nothing. (An id is unique within one backing index of a data stream: what is
//! sent again after a rollover is there twice.)
//!
//! Source: Elasticsearch's and OpenSearch's reference of the bulk API. HTTP 200 says nothing; each
//! item has its status.

mod answer;
mod config;
mod service;

pub(super) use config::{KEYS, read};
