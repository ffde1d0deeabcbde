//! The syslog sink over RELP, against a real rsyslog and against a misbehaving receiver.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use crate::{
    support::{Workspace, counts, ids, records, rsyslog::Rsyslog},
    syslog::{cef_ids, tls_keys},
};

fn workspace(section: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace.sink("siem", &format!("type = \"syslog\"\n{section}"));
    workspace
}

fn relps(rsyslog: &Rsyslog, certificate: &str) -> String {
    format!("address = \"relps://127.0.0.1:{}\"\n{}", rsyslog.relps, tls_keys(rsyslog, certificate))
}

#[test]
fn delivers_every_message_once() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&format!("address = \"relp://127.0.0.1:{}\"", rsyslog.relp));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    assert_eq!(cef_ids(&rsyslog.expect(expected.len())), ids(&expected).collect::<Vec<_>>());
}

#[test]
fn delivers_with_a_window_of_one() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&format!(
        "address = \"relp://127.0.0.1:{}\"\nwindow = 1\nformat = \"json\"",
        rsyslog.relp
    ));
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file).len();
    assert_eq!(rsyslog.expect(expected).len(), expected);
}

#[test]
fn delivers_over_tls_with_a_client_certificate() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&relps(&rsyslog, "client"));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    assert_eq!(cef_ids(&rsyslog.expect(expected.len())), ids(&expected).collect::<Vec<_>>());
}

#[test]
fn a_rejected_client_certificate_delivers_nothing() {
    let rsyslog = Rsyslog::new();
    let workspace = workspace(&relps(&rsyslog, "rogue"));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("sink `siem`: 0 records delivered, then stopped:"),
        "{}",
        run.stderr
    );
    assert!(rsyslog.messages().is_empty());
}

/// When rsyslog is killed, its main queue is lost, but every message without a reply is sent again.
#[test]
fn resumes_after_repeated_receiver_crashes() {
    let mut rsyslog = Rsyslog::new();
    let mut workspace = workspace(&format!("address = \"relp://127.0.0.1:{}\"", rsyslog.relp));
    workspace.extra = "initial_backfill_days = 40".to_owned();
    let file = workspace.file_sink("local");

    let process = workspace.spawn(&["once"]);
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(100..400)));
        rsyslog.crash();
    }

    let mut run = process.end();
    for _ in 0..5 {
        // `once` fails if rsyslog does not restart in time.
        assert!(run.code == 0 || run.code == 1, "{}", run.stderr);
        if run.code == 0 {
            break;
        }
        run = workspace.run(&["once"]);
    }
    assert_eq!(run.code, 0, "{}", run.stderr);
    let expected = records(&file);
    let received = cef_ids(&rsyslog.messages());
    assert!(received.len() <= expected.len() + 4 * 128, "{} of {}", received.len(), expected.len());
}

/// A receiver that follows a script, and stores the messages to which it replied 200.
struct Misbehaving {
    port: u16,
    stored: Arc<Mutex<Vec<String>>>,
}

/// The fault on one connection, with the number of acknowledged messages after which it occurs.
#[derive(Clone, Copy)]
enum Fault {
    /// Closes the connection without a reply to the rest of the window.
    HangUp(usize),
    /// Reads one more message without a reply, and sends `serverclose`.
    ServerClose(usize),
    /// Replies 500.
    Reject(usize),
    /// Acknowledges all messages.
    None,
}

impl Misbehaving {
    fn new(script: Vec<Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stored = Arc::<Mutex<Vec<String>>>::default();
        let shared = Arc::clone(&stored);
        std::thread::spawn(move || {
            let script = script.into_iter().chain(std::iter::repeat(Fault::None));
            for (stream, fault) in listener.incoming().flatten().zip(script) {
                let closing = stream.try_clone().unwrap();
                let _ = serve(stream, fault, &shared);
                // A reset would discard replies that the sink has not read yet.
                let _ = closing.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut { closing }, &mut std::io::sink());
            }
        });
        Self { port, stored }
    }

    fn ids(&self) -> Vec<String> {
        let id = |message: &String| message.split(" externalId=").nth(1).unwrap()[..40].to_owned();
        self.stored.lock().unwrap().iter().map(id).collect()
    }
}

fn serve(stream: TcpStream, fault: Fault, stored: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let (mut expected, mut acknowledged) = (1, 0);

    loop {
        let (number, command, data) = read_frame(&mut reader)?;
        assert_eq!(number, expected, "transaction numbers begin at 1 and have no gaps");
        expected += 1;

        match command.as_str() {
            "open" => {
                assert!(data.contains("commands=syslog"));
                writer.write_all(b"1 rsp 22 200 OK\ncommands=syslog\n")?;
            }
            "close" => {
                return writer.write_all(format!("{number} rsp 0\n0 serverclose 0\n").as_bytes());
            }
            _ => {
                match fault {
                    Fault::HangUp(after) if acknowledged == after => return Ok(()),
                    Fault::ServerClose(after) if acknowledged == after => {
                        return writer.write_all(b"0 serverclose 0\n");
                    }
                    Fault::Reject(after) if acknowledged == after => {
                        writer.write_all(format!("{number} rsp 8 500 Full\n").as_bytes())?;
                        return Ok(());
                    }
                    _ => {}
                }

                stored.lock().unwrap().push(data);
                acknowledged += 1;
                writer.write_all(format!("{number} rsp 6 200 OK\n").as_bytes())?;
            }
        }
    }
}

/// Reads one frame: its transaction number, command and data.
fn read_frame(reader: &mut impl BufRead) -> std::io::Result<(u32, String, String)> {
    let mut field = |end: u8| {
        let mut bytes = Vec::new();
        reader.read_until(end, &mut bytes)?;
        if bytes.pop() != Some(end) {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        Ok(String::from_utf8(bytes).unwrap())
    };

    let (number, command) = (field(b' ')?, field(b' ')?);
    if command == "close" {
        field(b'\n')?;
        return Ok((number.parse().unwrap(), command, String::new()));
    }

    let length: usize = field(b' ')?.parse().unwrap();
    let mut data = vec![0; length + 1];
    reader.read_exact(&mut data)?;
    assert_eq!(data.pop(), Some(b'\n'));
    Ok((number.parse().unwrap(), command, String::from_utf8(data).unwrap()))
}

/// Messages that were acknowledged before the session broke are not sent again: a receiver that
/// stores only what it acknowledges has every record once.
#[test]
fn resends_only_unacknowledged_messages() {
    let script =
        vec![Fault::HangUp(3), Fault::ServerClose(700), Fault::Reject(333), Fault::HangUp(0)];
    let receiver = Misbehaving::new(script);
    let mut workspace = workspace(&format!("address = \"relp://127.0.0.1:{}\"", receiver.port));
    workspace.extra = "initial_backfill_days = 10".to_owned();
    let file = workspace.file_sink("local");

    let mut runs = 0;
    while workspace.run(&["once"]).code != 0 {
        runs += 1;
        assert!(runs < 5);
    }

    let expected = records(&file);
    assert!(receiver.ids() == ids(&expected).collect::<Vec<_>>(), "{}", receiver.ids().len());
    assert_eq!(counts(receiver.ids().iter().map(String::as_str)).len(), expected.len());
}

#[test]
fn reports_a_receiver_of_another_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let workspace = workspace(&format!("address = \"relp://127.0.0.1:{port}\""));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("the receiver does not speak RELP"), "{}", run.stderr);
}
