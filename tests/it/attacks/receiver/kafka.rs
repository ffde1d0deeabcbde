//! Attacks of a Kafka broker in each phase of a connection with TLS and SASL.

use std::{io, path::Path};

use super::failure;
use crate::support::{
    Workspace,
    broker::{PASSWORD, USER},
    eventually,
    hostile::{Connection, FLOOD_BYTES, HostileServer, flood},
    limits::ObservedDaemon,
    rsyslog::write_pki,
    summaries,
};

/// The part of a connection in which the broker attacks. It serves the parts before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the handshake of TLS.
    Connected,
    /// The first request: the versions of the protocol.
    Versions,
    /// The negotiation of the mechanism of SASL.
    Mechanism,
    /// The response to the user name and the password.
    Login,
    /// The description of the cluster.
    Metadata,
}

const PHASES: [Phase; 5] =
    [Phase::Connected, Phase::Versions, Phase::Mechanism, Phase::Login, Phase::Metadata];

/// What the broker sends in the phase, for a request with this correlation ID.
type Behavior = fn(&mut dyn Connection, [u8; 4]) -> io::Result<()>;

fn close(_: &mut dyn Connection, _: [u8; 4]) -> io::Result<()> {
    Ok(())
}

fn another_protocol(connection: &mut dyn Connection, _: [u8; 4]) -> io::Result<()> {
    connection.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
}

fn garbage_in_a_frame(connection: &mut dyn Connection, id: [u8; 4]) -> io::Result<()> {
    respond(connection, id, &[0xff; 4_000])
}

/// A list with 8 million elements after two bytes, or 16 million after four, of which none follows.
fn a_long_list(connection: &mut dyn Connection, id: [u8; 4]) -> io::Result<()> {
    respond(connection, id, &[0, 0, 0, 0x7f, 0, 0xff, 0xff, 0xff])
}

fn a_frame_of_negative_length(connection: &mut dyn Connection, _: [u8; 4]) -> io::Result<()> {
    connection.write_all(&(-1_i32).to_be_bytes())?;
    flood(connection, b"x", FLOOD_BYTES)
}

/// A frame below the default limit of librdkafka, 100 MB.
fn a_large_frame(connection: &mut dyn Connection, id: [u8; 4]) -> io::Result<()> {
    connection.write_all(&99_000_000_i32.to_be_bytes())?;
    connection.write_all(&id)?;
    flood(connection, b"\0", FLOOD_BYTES)
}

fn the_largest_frame(connection: &mut dyn Connection, id: [u8; 4]) -> io::Result<()> {
    connection.write_all(&i32::MAX.to_be_bytes())?;
    connection.write_all(&id)?;
    flood(connection, b"\0", FLOOD_BYTES)
}

/// Sends a response: its length, the correlation ID, and the body.
fn respond(connection: &mut dyn Connection, id: [u8; 4], body: &[u8]) -> io::Result<()> {
    let length = i32::try_from(body.len() + id.len()).unwrap();
    connection.write_all(&[&length.to_be_bytes()[..], &id, body].concat())?;
    connection.flush()
}

/// Serves requests until the phase, and then attacks.
fn serve(connection: &mut dyn Connection, phase: Phase, behavior: Behavior) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        connection.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut request)?;
        let (key, version) = (u16_at(&request, 0), u16_at(&request, 2));
        let id = request[4..8].try_into().unwrap();

        let (current, body) = match key {
            18 => (Phase::Versions, versions(version)),
            17 => (Phase::Mechanism, b"\0\0\0\0\0\x01\0\x05PLAIN".to_vec()),
            // No error, no message, no data, and a session without an end.
            36 => (Phase::Login, [&[0, 0, 0xff, 0xff, 0, 0, 0, 0][..], &[0; 8]].concat()),
            _ => (Phase::Metadata, Vec::new()),
        };
        if current == phase || current == Phase::Metadata {
            return behavior(connection, id);
        }
        respond(connection, id, &body)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The response to the first request. The client repeats a request of another version with
/// version 0.
fn versions(version: u16) -> Vec<u8> {
    const UNSUPPORTED_VERSION: u8 = 35;
    if version > 0 {
        return vec![0, UNSUPPORTED_VERSION, 0, 0, 0, 0];
    }

    // The key, and the lowest and the highest version, of each request.
    let requests: [[u8; 3]; 8] = [
        [0, 3, 7],
        [1, 4, 11],
        [3, 0, 4],
        [10, 0, 1],
        [17, 0, 1],
        [18, 0, 0],
        [22, 0, 1],
        [36, 0, 1],
    ];
    let mut body = vec![0, 0, 0, 0, 0, requests.len() as u8];
    for [key, lowest, highest] in requests {
        body.extend([0, key, 0, lowest, 0, highest]);
    }
    body
}

/// A broker that behaves like this in the phase.
fn broker(pki: &Path, phase: Phase, behavior: Behavior) -> HostileServer {
    if phase == Phase::Connected {
        return HostileServer::new(move |connection: &mut dyn Connection| {
            behavior(connection, [0; 4])
        });
    }
    HostileServer::over_tls(pki, &[], move |connection: &mut dyn Connection| {
        serve(connection, phase, behavior)
    })
}

/// The name of the sink for a phase.
fn name(phase: Phase) -> String {
    format!("{phase:?}").to_lowercase()
}

/// A workspace with one sink for each of these brokers, with the certificate authority in `pki`.
fn workspace(pki: &Path, brokers: &[(Phase, HostileServer)]) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let password = workspace.secret("kafka-secret", PASSWORD);
    for (phase, broker) in brokers {
        let section = format!(
            "type = \"kafka\"\nbrokers = [\"127.0.0.1:{}\"]\ntopic = \"score\"\n\
             tls = {{ ca_file = \"{}\" }}\n\
             sasl = {{ mechanism = \"plain\", username = \"{USER}\", password = {password} }}",
            broker.port,
            pki.join("ca.pem").display()
        );
        workspace.sink(&name(*phase), &section);
    }
    workspace
}

/// Asserts that a daemon with one sink for each of these phases keeps its limits, and that every
/// sink reports a failure and nothing as sent.
fn assert_unharmed(phases: &[Phase], behavior: Behavior) {
    let pki = tempfile::tempdir().unwrap();
    write_pki(pki.path());
    let brokers = phases.iter().map(|phase| (*phase, broker(pki.path(), *phase, behavior)));
    let brokers: Vec<_> = brokers.collect();
    let mut workspace = workspace(pki.path(), &brokers);

    let mut daemon = ObservedDaemon::start(&mut workspace);
    for (phase, broker) in &brokers {
        eventually(&format!("{phase:?}: the attack has ended"), || broker.attacks() > 0);
        eventually(&format!("{phase:?}: the failure is reported"), || {
            daemon.assert_running();
            failure(&workspace, &name(*phase)).is_some()
        });
    }
    daemon.end();
}

/// Attack: a broker closes the connection in each phase.
#[test]
fn brokers_may_close_in_any_phase() {
    assert_unharmed(&PHASES, close);
}

/// Attack: a broker sends something else than Kafka in each phase.
#[test]
fn brokers_may_send_another_protocol() {
    assert_unharmed(&PHASES, another_protocol);
}

/// Contents with a number of elements that librdkafka 2.12.1 does not check before it uses it.
const UNCHECKED: [(Phase, Behavior); 2] =
    [(Phase::Metadata, garbage_in_a_frame), (Phase::Versions, a_long_list)];

/// Attack: a broker sends a frame with an invalid content in each phase.
#[test]
fn brokers_may_send_invalid_content() {
    let [(garbage, _), (list, _)] = UNCHECKED;
    let except = |left_out: Phase| -> Vec<Phase> {
        PHASES.into_iter().filter(|phase| *phase != left_out).collect()
    };
    assert_unharmed(&except(garbage), garbage_in_a_frame);
    assert_unharmed(&except(list), a_long_list);
}

/// Attack: a broker sends a number of elements that librdkafka does not check, which ends the
/// process; see `SECURITY.md`. Nothing is lost or counted as sent.
#[test]
fn unchecked_numbers_of_brokers_lose_nothing() {
    let pki = tempfile::tempdir().unwrap();
    write_pki(pki.path());
    for (phase, behavior) in UNCHECKED {
        let brokers = [(phase, broker(pki.path(), phase, behavior))];
        let mut workspace = workspace(pki.path(), &brokers);
        let file = workspace.file_sink("local");

        let _ = workspace.run(&["once"]);
        assert!(brokers[0].1.attacks() > 0);
        let status = workspace.status();
        let mut sinks = status["sinks"].as_array().unwrap().iter();
        let sink = sinks.find(|sink| sink["name"] == name(phase).as_str()).unwrap();
        assert_eq!(sink["sent"], 0);
        workspace.run_ok(&["state", "verify"]);

        // Without the sink, the next run completes what was interrupted.
        let configuration = workspace.configuration();
        let (before, after) = ("type = \"kafka\"\n", "type = \"kafka\"\ndiscard_backlog = true\n");
        workspace.literal = Some(configuration.replace(before, after));
        workspace.run_ok(&["once"]);
        assert!(summaries(&file) > 0);
    }
}

/// Attack: a broker announces a frame of a negative or of the largest length in each phase, and
/// sends without an end.
#[test]
fn brokers_may_send_invalid_lengths() {
    assert_unharmed(&PHASES, a_frame_of_negative_length);
    assert_unharmed(&PHASES, the_largest_frame);
}

/// Attack: the brokers of several clusters send large frames in each phase.
///
/// Regression: librdkafka allocated 100 MB for each of them.
#[test]
fn brokers_may_send_large_frames() {
    assert_unharmed(&PHASES, a_large_frame);
}
