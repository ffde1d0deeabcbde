//! Replies over HTTP that are not from the receiver or that are incomplete, as proxies, balancers
//! and failing servers return them. Each fake reads a whole request first, so that the program
//! always sees the reply, and issues tokens like Entra, so that a sink reaches its receiver.

use std::io;

use super::{
    endpoint::entra_token,
    hostile::{Attack, Connection, read_until},
};

/// Replies that no HTTP sink may believe.
pub const INCOMPLETE_REPLIES: &[Attack] = &[
    head_only,
    head_without_a_length,
    accepted_without_a_length,
    half_of_a_body,
    half_of_the_chunks,
    half_of_the_json,
    damaged_compression,
    page_of_a_proxy,
    fragment_of_a_page,
    continue_and_close,
];

/// Replies that no sink may believe whose receiver has its own form of acknowledgement.
pub const FOREIGN_REPLIES: &[Attack] = &[
    head_only,
    head_without_a_length,
    accepted_without_a_length,
    half_of_a_body,
    half_of_the_chunks,
    half_of_the_json,
    damaged_compression,
    page_of_a_proxy,
    page_labeled_as_json,
    fragment_of_a_page,
    continue_and_close,
    empty_success,
    protobuf_without_a_length,
    old_protobuf_without_a_length,
    unknown_protobuf,
    other_json,
    array,
    trailing_garbage,
];

/// A success of every receiver: each sink finds its own members. Alone, it confirms no items.
const SUCCESS: &str =
    "{\"text\":\"Success\",\"code\":0,\"partialSuccess\":{},\"errors\":false,\"items\":[]}";
const PAGE: &str = "<!DOCTYPE html><html><title>Sign in</title></html>";
const JSON: &str = "content-type: application/json\r\n";
const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

fn head_only(connection: &mut dyn Connection) -> io::Result<()> {
    let length = SUCCESS.len();
    reply(connection, &format!("200 OK\r\n{JSON}content-length: {length}\r\n"), b"")
}

/// The end of the connection, which may be premature, is the only end of this body.
fn head_without_a_length(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, "200 OK\r\n", b"")
}

fn accepted_without_a_length(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, "202 Accepted\r\n", b"")
}

fn half_of_a_body(connection: &mut dyn Connection) -> io::Result<()> {
    let length = SUCCESS.len();
    let head = format!("200 OK\r\n{JSON}content-length: {length}\r\n");
    reply(connection, &head, &SUCCESS.as_bytes()[..length / 2])
}

fn half_of_the_chunks(connection: &mut dyn Connection) -> io::Result<()> {
    let chunk = format!("{:x}\r\n{SUCCESS}\r\n", SUCCESS.len());
    reply(connection, &format!("200 OK\r\n{JSON}transfer-encoding: chunked\r\n"), chunk.as_bytes())
}

/// A server without `Content-Length` ends its reply by closing the connection.
fn half_of_the_json(connection: &mut dyn Connection) -> io::Result<()> {
    let half = &SUCCESS.as_bytes()[..SUCCESS.len() - 1];
    reply(connection, &format!("200 OK\r\n{JSON}"), half)
}

fn damaged_compression(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, &format!("200 OK\r\n{JSON}content-encoding: gzip\r\n"), SUCCESS.as_bytes())
}

fn page_of_a_proxy(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, "200 OK\r\ncontent-type: text/html; charset=utf-8\r\n", PAGE.as_bytes())
}

fn page_labeled_as_json(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, &format!("200 OK\r\n{JSON}"), PAGE.as_bytes())
}

fn fragment_of_a_page(connection: &mut dyn Connection) -> io::Result<()> {
    let body = b"<p>blocked by policy</p>";
    let head = format!("200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n", body.len());
    reply(connection, &head, body)
}

fn continue_and_close(connection: &mut dyn Connection) -> io::Result<()> {
    if read_request(connection)? {
        connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    Ok(())
}

fn empty_success(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, "200 OK\r\ncontent-length: 0\r\n", b"")
}

fn protobuf_without_a_length(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, &format!("200 OK\r\n{PROTOBUF}"), b"")
}

fn old_protobuf_without_a_length(connection: &mut dyn Connection) -> io::Result<()> {
    if read_request(connection)? {
        let head = format!("HTTP/1.0 200 OK\r\n{PROTOBUF}\r\n");
        connection.write_all(head.as_bytes())?;
        connection.flush()?;
    }
    Ok(())
}

fn unknown_protobuf(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, &format!("200 OK\r\n{PROTOBUF}content-length: 4\r\n"), b"\x12\x02no")
}

fn other_json(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, &format!("200 OK\r\n{JSON}"), b"{\"status\":\"accepted\"}")
}

fn array(connection: &mut dyn Connection) -> io::Result<()> {
    reply(connection, &format!("200 OK\r\n{JSON}"), b"[\"Success\",0,null,null]")
}

fn trailing_garbage(connection: &mut dyn Connection) -> io::Result<()> {
    let body = format!("{SUCCESS}{PAGE}");
    reply(connection, &format!("200 OK\r\n{JSON}"), body.as_bytes())
}

/// Reads a request, and replies to it with this status, these headers and this body.
pub(super) fn reply(connection: &mut dyn Connection, head: &str, body: &[u8]) -> io::Result<()> {
    if read_request(connection)? {
        let head = format!("HTTP/1.1 {head}connection: close\r\n\r\n");
        connection.write_all(&[head.as_bytes(), body].concat())?;
        connection.flush()?;
    }
    Ok(())
}

/// Reads a whole request. Returns whether it is for the receiver; one for a token is answered.
fn read_request(connection: &mut dyn Connection) -> io::Result<bool> {
    let head = read_until(connection, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    connection.read_exact(&mut vec![0; length])?;

    let is_for_token = head.lines().next().is_some_and(|line| line.contains("/token "));
    if is_for_token {
        let (_, token) = entra_token("CANARY-5ecr3t-token");
        let head = format!("200 OK\r\n{JSON}content-length: {}\r\n", token.len());
        let reply = format!("HTTP/1.1 {head}connection: close\r\n\r\n{token}");
        connection.write_all(reply.as_bytes())?;
    }
    Ok(!is_for_token)
}
