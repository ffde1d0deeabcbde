//! Replies that seem to be from a store for objects, although nothing was stored: statuses that
//! mean that an object exists, but only together with the code of a store, and an error with HTTP
//! 200.

use std::io;

use super::{
    false_replies::reply,
    hostile::{Attack, Connection},
};

/// Replies that no sink for objects may believe, and that can pass.
pub const STORE_REPLIES: &[Attack] = &[
    page_with_409,
    page_with_412,
    empty_409,
    empty_412,
    conditional_conflict,
    aborted_operation,
    container_being_deleted,
    existing_object_without_confirmation,
    existing_blob_without_confirmation,
    error_with_200,
    json_with_200,
    slow_request,
];

const XML: &str = "content-type: application/xml\r\n";
const HTML: &str = "content-type: text/html\r\n";
const CONFLICT: &str = "409 Conflict";
const CONDITION: &str = "412 Precondition Failed";

fn page_with_409(connection: &mut dyn Connection) -> io::Result<()> {
    send(connection, CONFLICT, HTML, "<html>conflict</html>")
}

fn page_with_412(connection: &mut dyn Connection) -> io::Result<()> {
    send(connection, CONDITION, HTML, "<html>blocked</html>")
}

fn empty_409(connection: &mut dyn Connection) -> io::Result<()> {
    send(connection, CONFLICT, "", "")
}

fn empty_412(connection: &mut dyn Connection) -> io::Result<()> {
    send(connection, CONDITION, "", "")
}

fn conditional_conflict(connection: &mut dyn Connection) -> io::Result<()> {
    send_code(connection, CONFLICT, "ConditionalRequestConflict")
}

fn aborted_operation(connection: &mut dyn Connection) -> io::Result<()> {
    send_code(connection, CONFLICT, "OperationAborted")
}

fn container_being_deleted(connection: &mut dyn Connection) -> io::Result<()> {
    send_code(connection, CONFLICT, "ContainerBeingDeleted")
}

/// The same reply to the request for the metadata of the object confirms nothing.
fn existing_object_without_confirmation(connection: &mut dyn Connection) -> io::Result<()> {
    send_code(connection, CONDITION, "PreconditionFailed")
}

fn existing_blob_without_confirmation(connection: &mut dyn Connection) -> io::Result<()> {
    send_code(connection, CONFLICT, "BlobAlreadyExists")
}

fn error_with_200(connection: &mut dyn Connection) -> io::Result<()> {
    let body = "<Error><Code>SlowDown</Code><Message>wait</Message></Error>";
    send(connection, "200 OK", &format!("{XML}etag: \"1\"\r\n"), body)
}

fn json_with_200(connection: &mut dyn Connection) -> io::Result<()> {
    let headers = "content-type: application/json\r\netag: W/\"1\"\r\n";
    send(connection, "200 OK", headers, "{\"status\":\"accepted\"}")
}

fn slow_request(connection: &mut dyn Connection) -> io::Result<()> {
    send_code(connection, "400 Bad Request", "RequestTimeout")
}

fn send_code(connection: &mut dyn Connection, status: &str, code: &str) -> io::Result<()> {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>not stored</Message></Error>"
    );
    send(connection, status, XML, &body)
}

/// Replies with a complete body.
fn send(
    connection: &mut dyn Connection,
    status: &str,
    headers: &str,
    body: &str,
) -> io::Result<()> {
    let head = format!("{status}\r\n{headers}content-length: {}\r\n", body.len());
    reply(connection, &head, body.as_bytes())
}
