//! RELP, against a real rsyslog, and against a receiver that misbehaves.

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
fn every_message_is_answered_and_none_is_repeated() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&format!("address = \"relp://127.0.0.1:{}\"", rsyslog.relp));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    assert_eq!(cef_ids(&rsyslog.expect(expected.len())), ids(&expected).collect::<Vec<_>>());
}

#[test]
fn a_window_of_one_works_too() {
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
fn over_tls_with_a_client_certificate() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&relps(&rsyslog, "client"));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    assert_eq!(cef_ids(&rsyslog.expect(expected.len())), ids(&expected).collect::<Vec<_>>());
}

#[test]
fn a_client_certificate_that_is_refused_delivers_nothing() {
    let rsyslog = Rsyslog::new();
    let workspace = workspace(&relps(&rsyslog, "rogue"));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("sink siem: 0 records delivered, then:"), "{}", run.stderr);
    assert!(rsyslog.messages().is_empty());
}

/// rsyslog's main queue is lost when it is killed; what it had not answered is not.
#[test]
fn a_receiver_that_is_killed_again_and_again() {
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
        // A crash may have come too late for its patience.
        assert!(run.code == 0 || run.code == 1, "{}", run.stderr);
        if run.code == 0 {
            break;
        }
        run = workspace.run(&["once"]);
    }
    assert_eq!(run.code, 0, "{}", run.stderr);
    let expected = records(&file);
    let got = cef_ids(&rsyslog.messages());
    assert!(got.len() <= expected.len() + 4 * 128, "{} of {}", got.len(), expected.len());
}

/// A receiver that answers as its script says, and keeps what it answered with 200.
struct Misbehaving {
    port: u16,
    taken: Arc<Mutex<Vec<String>>>,
}

/// What it does on one connection, after so many messages.
#[derive(Clone, Copy)]
enum Then {
    /// Hangs up, leaving the rest of the window unanswered.
    HangUp(usize),
    /// Takes one more without an answer, then says that it closes.
    ServerClose(usize),
    /// Answers 500.
    Refuse(usize),
    /// Goes on.
    Behave,
}

impl Misbehaving {
    fn new(script: Vec<Then>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::<Mutex<Vec<String>>>::default();
        let keep = Arc::clone(&taken);
        std::thread::spawn(move || {
            let script = script.into_iter().chain(std::iter::repeat(Then::Behave));
            for (stream, then) in listener.incoming().flatten().zip(script) {
                let closing = stream.try_clone().unwrap();
                let _ = serve(stream, then, &keep);
                // What it has answered must not be lost to a reset.
                let _ = closing.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut { closing }, &mut std::io::sink());
            }
        });
        Self { port, taken }
    }

    fn ids(&self) -> Vec<String> {
        let of = |message: &String| message.split(" externalId=").nth(1).unwrap()[..40].to_owned();
        self.taken.lock().unwrap().iter().map(of).collect()
    }
}

fn serve(stream: TcpStream, then: Then, taken: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let (mut expected, mut answered) = (1, 0);
    loop {
        let (number, command, data) = read_frame(&mut reader)?;
        assert_eq!(number, expected, "numbers have no gaps, and begin at 1");
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
                match then {
                    Then::HangUp(after) if answered == after => return Ok(()),
                    Then::ServerClose(after) if answered == after => {
                        return writer.write_all(b"0 serverclose 0\n");
                    }
                    Then::Refuse(after) if answered == after => {
                        writer.write_all(format!("{number} rsp 8 500 Full\n").as_bytes())?;
                        return Ok(());
                    }
                    _ => {}
                }
                taken.lock().unwrap().push(data);
                answered += 1;
                writer.write_all(format!("{number} rsp 6 200 OK\n").as_bytes())?;
            }
        }
    }
}

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

/// What was answered before the session broke is not sent again: a receiver that keeps only what
/// it answers sees every record once.
#[test]
fn after_a_broken_session_only_the_unanswered_go_out_again() {
    let script = vec![Then::HangUp(3), Then::ServerClose(700), Then::Refuse(333), Then::HangUp(0)];
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
fn a_port_that_speaks_something_else_parks_the_sink() {
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
