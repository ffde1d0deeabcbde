//! A browser or a scanner that reaches the admin server.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use crate::{
    admin::send,
    support::{Process, Workspace, eventually, free_port},
};

/// A daemon with an admin server on a free port.
fn daemon() -> (Workspace, Process, SocketAddr) {
    let mut workspace = Workspace::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    workspace.head = format!("[admin]\nlisten = \"{address}\"\n{}", workspace.head);
    workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the server responds", || TcpStream::connect(address).is_ok());
    (workspace, daemon, address)
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) =
        send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    (status, body)
}

/// Regression: 64 connections that sent nothing silenced the health endpoints.
#[test]
fn idle_connections_never_silence_health() {
    let (_workspace, daemon, address) = daemon();
    // What a client sends before it stops.
    for beginning in ["", "GET /healthz HTTP/1.1\r\nHost: 127", "GET / HTTP/1.1\r\nx: "] {
        let idle: Vec<TcpStream> = (0..200)
            .map(|_| {
                let mut stream = TcpStream::connect(address).unwrap();
                let _ = stream.write_all(beginning.as_bytes());
                stream
            })
            .collect();

        for path in ["/healthz", "/readyz", "/metrics"] {
            let began = Instant::now();
            assert_eq!(get(address, path).0, 200, "{beginning} {path}");
            assert!(began.elapsed() < Duration::from_secs(4), "{beginning} {path}");
        }
        drop(idle);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Regression: clients that never read their response held all connections for 30 seconds.
#[test]
fn slow_readers_never_silence_health() {
    let (_workspace, daemon, address) = daemon();
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let unread: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(request.as_bytes());
            stream
        })
        .collect();

    let began = Instant::now();
    assert_eq!(get(address, "/healthz"), (200, "alive\n".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(4));
    drop(unread);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// A head without an end, and an unexpected body, are not stored.
#[test]
fn endless_requests_are_cut_off() {
    let (_workspace, daemon, address) = daemon();
    for beginning in ["GET /", "GET / HTTP/1.1\r\nHost: localhost\r\nx: "] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(beginning.as_bytes()).unwrap();
        let chunk = [b'a'; 4_096];
        let sent = (0..256).take_while(|_| stream.write_all(&chunk).is_ok()).count();
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        assert!(sent < 256 || response.starts_with(b"HTTP/1.1 4"), "{beginning} {sent}");
    }
    assert_eq!(get(address, "/healthz").0, 200);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Where local users are not trusted, the server listens only on a Unix socket.
#[test]
fn a_unix_socket_replaces_the_port() {
    use std::os::unix::fs::PermissionsExt;

    let mut workspace = Workspace::new();
    let socket = workspace.path("admin.sock");
    let listen = format!("unix:{}", socket.display());
    workspace.head = format!("[admin]\nlisten = \"{listen}\"\n{}", workspace.head);
    workspace.file_sink("local");
    let get = |path: &str| -> Option<String> {
        let mut stream = UnixStream::connect(&socket).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        Some(response)
    };
    assert_eq!(workspace.run(&["check"]).code, 0);
    assert!(!socket.exists());

    // The second daemon replaces the socket of the first one, which was killed.
    let first = workspace.spawn(&["run"]);
    eventually("the first server responds", || get("/healthz").is_some());
    first.kill();
    let daemon = workspace.spawn(&["run"]);
    eventually("the server responds", || {
        get("/healthz").is_some_and(|response| response.starts_with("HTTP/1.1 200"))
    });
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(get("/").unwrap().contains("<title>"));
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    // A file that is not a socket is never replaced.
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "unchanged").unwrap();
    let check = workspace.run(&["check"]);
    assert_eq!(check.code, 2, "{}", check.stderr);
    let run = workspace.run(&["run"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert_eq!(std::fs::read(&socket).unwrap(), b"unchanged");
}
