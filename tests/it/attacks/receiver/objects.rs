//! Attacks of a store for objects.

use super::{assert_retried, failure, state_with, workspace};
use crate::support::{
    CANARY, Workspace,
    endpoint::Endpoint,
    eventually,
    hostile::{Connection, HTTP_FLOODS, HostileServer, flood, read_until},
    limits::ObservedDaemon,
};

/// A sink for a bucket of S3 at this port.
fn in_s3(port: u16) -> Workspace {
    let mut workspace = workspace("type = \"stdout\"");
    let key = workspace.secret("s3-secret", &format!("{CANARY}-s3"));
    workspace.clear_sinks().sink(
        "attacked",
        &format!(
            "type = \"object_store\"\nurl = \"s3://scores\"\nendpoint = \"http://127.0.0.1:{port}\"\nregion = \"eu-west-1\"\naccess_key_id = \"tests\"\nsecret_access_key = {key}"
        ),
    );
    workspace
}

/// Attack: a store sends headers or a body without an end, or announces a body of nine exabytes.
///
/// Regression: the body was stored, and the announced length was allocated, which ended the
/// process.
#[test]
fn floods_of_a_store_are_harmless() {
    for attack in HTTP_FLOODS {
        let server = HostileServer::new(*attack);
        let mut workspace = in_s3(server.port);
        let daemon = ObservedDaemon::start(&mut workspace);
        eventually("the attack has ended", || server.attacks() > 0);
        eventually("the failure is reported", || failure(&workspace, "attacked").is_some());
        daemon.end();
    }
}

/// Attack: a store confirms an object with a body without an end, or explains a rejection with one.
#[test]
fn bodies_of_a_store_are_limited() {
    for (status, expected, state) in [
        ("200 OK", "the body is larger than 65,536 bytes", "retrying"),
        ("403 Forbidden", "403 Forbidden: xxxx", "parked"),
    ] {
        let server = HostileServer::new(move |connection: &mut dyn Connection| {
            read_until(connection, b"\r\n\r\n")?;
            let head = format!("HTTP/1.1 {status}\r\netag: \"1\"\r\n\r\n");
            connection.write_all(head.as_bytes())?;
            flood(connection, b"x", 64 << 20)
        });
        assert_eq!(state_with(&mut in_s3(server.port), expected), state, "{status}");
    }
}

/// Attack: a store redirects the upload to a server in the network of the forwarder.
///
/// Regression: the redirect was followed, with the headers of the request, and the response of the
/// other server counted as an acknowledgement.
#[test]
fn redirects_of_a_store_are_not_followed() {
    let internal = Endpoint::new("");
    let location = internal.url.clone();
    let server = HostileServer::new(move |connection: &mut dyn Connection| {
        read_until(connection, b"\r\n\r\n")?;
        let headers = format!("location: {location}/scores/x\r\ncontent-length: 0");
        connection.write_all(format!("HTTP/1.1 302 Found\r\n{headers}\r\n\r\n").as_bytes())?;
        // Unread data would reset the connection, and the client would not read the response.
        std::io::copy(connection, &mut std::io::sink()).map(drop)
    });

    let mut workspace = in_s3(server.port);
    assert_eq!(state_with(&mut workspace, "302 Found"), "parked");
    assert!(internal.accepted().is_empty());
}

/// Attack: a store sends a response that is not complete.
#[test]
fn incomplete_responses_of_a_store_are_retried() {
    let server = HostileServer::new(|connection: &mut dyn Connection| {
        read_until(connection, b"\r\n\r\n")?;
        connection.write_all(b"HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 9\r\n\r\nx")?;
        std::io::copy(connection, &mut std::io::sink()).map(drop)
    });
    assert_retried(&mut in_s3(server.port), "cannot write object");
}
