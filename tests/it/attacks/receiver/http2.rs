//! Attacks with HTTP/2 (RFC 9113): frames that the client must answer, store or skip, without an
//! end.

use std::io;

use super::{failure, workspace};
use crate::support::{
    Workspace, eventually,
    hostile::{Attack, Connection, FLOOD_BYTES, HostileServer, flood},
    limits::ObservedDaemon,
    rsyslog::write_pki,
};

/// The bytes of a flood of small frames. If the client stored only 40 bytes for each of them, it
/// would exceed its memory.
const SMALL_FRAMES: usize = 64 << 20;

// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xfa;

const END_HEADERS: u8 = 4;
/// The stream of the first request.
const REQUEST: u32 = 1;
/// `:status: 500`, an entry of the static table of HPACK.
const STATUS_500: u8 = 0x8e;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Begins the connection, and reads until the headers of a request have arrived.
fn accept_request(connection: &mut dyn Connection) -> io::Result<()> {
    connection.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    connection.read_exact(&mut [0; 24])?;
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        connection.read_exact(&mut vec![0; length as usize])?;
        if head[3] == HEADERS {
            return Ok(());
        }
    }
}

/// Sends copies of a frame after a request has arrived.
fn flood_frames(connection: &mut dyn Connection, frame: &[u8], bytes: usize) -> io::Result<()> {
    accept_request(connection)?;
    flood(connection, frame, bytes)
}

/// See [`flood_frames`]; the headers of the response, with status 500, precede the flood.
fn flood_response(connection: &mut dyn Connection, frames: &[u8], bytes: usize) -> io::Result<()> {
    accept_request(connection)?;
    connection.write_all(&frame(HEADERS, END_HEADERS, REQUEST, &[STATUS_500]))?;
    flood(connection, frames, bytes)
}

fn pings(connection: &mut dyn Connection) -> io::Result<()> {
    flood_frames(connection, &frame(PING, 0, 0, &[0; 8]), SMALL_FRAMES)
}

fn empty_settings(connection: &mut dyn Connection) -> io::Result<()> {
    flood_frames(connection, &frame(SETTINGS, 0, 0, &[]), SMALL_FRAMES)
}

/// Each frame sets the sizes of the table of headers and of the windows to their maximum.
fn large_settings(connection: &mut dyn Connection) -> io::Result<()> {
    let table = [0, 1, 0xff, 0xff, 0xff, 0xff];
    let window = [0, 4, 0x7f, 0xff, 0xff, 0xff];
    let payload = [table, window].concat().repeat(1_000);
    flood_frames(connection, &frame(SETTINGS, 0, 0, &payload), FLOOD_BYTES)
}

fn window_updates(connection: &mut dyn Connection) -> io::Result<()> {
    flood_frames(connection, &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), SMALL_FRAMES)
}

fn resets(connection: &mut dyn Connection) -> io::Result<()> {
    flood_frames(connection, &frame(RST_STREAM, 0, REQUEST, &[0, 0, 0, 8]), SMALL_FRAMES)
}

fn unknown_frames(connection: &mut dyn Connection) -> io::Result<()> {
    flood_frames(connection, &frame(UNKNOWN, 0, 0, &[b'x'; 16_000]), FLOOD_BYTES)
}

fn continuations(connection: &mut dyn Connection) -> io::Result<()> {
    accept_request(connection)?;
    connection.write_all(&frame(HEADERS, 0, REQUEST, &[STATUS_500]))?;
    flood(connection, &frame(CONTINUATION, 0, REQUEST, &[]), SMALL_FRAMES)
}

/// A header of 4,000 bytes in the dynamic table, and 12,000 references to it in one frame.
fn expanding_headers(connection: &mut dyn Connection) -> io::Result<()> {
    // A literal with indexing: a name of one byte, and a value whose length is 127 + 3,873.
    let mut block = vec![STATUS_500, 0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    block.extend([b'v'; 4_000]);
    block.extend([0xbe; 12_000]);
    flood_frames(connection, &frame(HEADERS, END_HEADERS, REQUEST, &block), FLOOD_BYTES)
}

/// Responses with status 103, after which another one may follow.
fn informational_responses(connection: &mut dyn Connection) -> io::Result<()> {
    let block = [0x08, 3, b'1', b'0', b'3'];
    flood_frames(connection, &frame(HEADERS, END_HEADERS, REQUEST, &block), SMALL_FRAMES)
}

fn pushed_responses(connection: &mut dyn Connection) -> io::Result<()> {
    // A promised stream, `:method: GET`, `:path: /` and `:scheme: https`.
    let payload = [0, 0, 0, 2, 0x82, 0x84, 0x87];
    flood_frames(connection, &frame(PUSH_PROMISE, END_HEADERS, REQUEST, &payload), SMALL_FRAMES)
}

fn empty_data(connection: &mut dyn Connection) -> io::Result<()> {
    flood_response(connection, &frame(DATA, 0, REQUEST, &[]), SMALL_FRAMES)
}

fn single_bytes(connection: &mut dyn Connection) -> io::Result<()> {
    flood_response(connection, &frame(DATA, 0, REQUEST, b"x"), SMALL_FRAMES)
}

/// Ignores the limits of flow control.
fn data_above_the_window(connection: &mut dyn Connection) -> io::Result<()> {
    flood_response(connection, &frame(DATA, 0, REQUEST, &[b'x'; 16_000]), FLOOD_BYTES)
}

/// The last frame of a connection, with 16 KiB of text that the client shows in its error.
fn closes_with_a_text(connection: &mut dyn Connection) -> io::Result<()> {
    accept_request(connection)?;
    let payload = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &[0x1b; 16_000]].concat();
    connection.write_all(&frame(GOAWAY, 0, 0, &payload))?;
    connection.flush()?;
    // The client closes the connection.
    io::copy(connection, &mut io::sink()).map(drop)
}

/// A sink over HTTPS with one attack, and the directory of its certificates.
fn attacked(attack: Attack) -> (Workspace, HostileServer, tempfile::TempDir) {
    let pki = tempfile::tempdir().unwrap();
    write_pki(pki.path());
    let server = HostileServer::over_tls(pki.path(), &["h2"], attack);
    let workspace = workspace(&format!(
        "type = \"http\"\nurl = \"https://127.0.0.1:{}\"\nca_file = \"{}\"",
        server.port,
        pki.path().join("ca.pem").display()
    ));
    (workspace, server, pki)
}

/// Asserts that an attack neither fills the memory nor delays a health check, and that the sink
/// reports a failure and nothing as sent. Returns the message.
fn assert_unharmed(attack: Attack) -> String {
    let (mut workspace, server, _pki) = attacked(attack);
    let daemon = ObservedDaemon::start(&mut workspace);
    eventually("the attack has ended", || server.attacks() > 0);
    eventually("the failure is reported", || failure(&workspace, "attacked").is_some());
    let (_, message) = failure(&workspace, "attacked").unwrap();
    daemon.end();
    message
}

/// Attack: a server sends frames that belong to the connection, which the client must answer or
/// skip.
#[test]
fn floods_of_control_frames_are_harmless() {
    let attacks: [Attack; 6] =
        [pings, empty_settings, large_settings, window_updates, resets, unknown_frames];
    for attack in attacks {
        assert_unharmed(attack);
    }
}

/// Attack: the headers of a response have no end, or expand to many times their size.
#[test]
fn floods_of_headers_are_harmless() {
    let attacks: [Attack; 4] =
        [continuations, expanding_headers, informational_responses, pushed_responses];
    for attack in attacks {
        assert_unharmed(attack);
    }
}

/// Attack: the body of a response has no end, consists of empty frames, or ignores flow control.
#[test]
fn floods_of_data_are_harmless() {
    let attacks: [Attack; 3] = [empty_data, single_bytes, data_above_the_window];
    for attack in attacks {
        assert_unharmed(attack);
    }
}

/// Attack: a server closes the connection with a long text and control characters, which the error
/// of the client contains.
///
/// Regression: the message had 64 KiB, in the log, the checkpoint and the status.
#[test]
fn texts_of_closed_connections_are_cut() {
    let message = assert_unharmed(closes_with_a_text);
    let cause = message.strip_prefix("no response from the receiver: ").unwrap();
    assert!(cause.chars().count() <= 300, "{message}");
    assert!(!message.contains('\u{1b}'), "{message}");
}
