//! The status page of a fleet with a failure of each kind fits a desktop, a tablet, a phone and
//! paper, and what needs an operator is on its first screen and its first sheet.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpStream},
};

use secure_score_forwarder::{clock, model::Day, source::simulated::start};

use super::send;
use crate::support::{
    CANARY, Workspace,
    browser::{PAPERS, lowest_edges, measure, on_paper},
    endpoint::Endpoint,
    eventually, free_port, runtime, simulation,
};

/// The widths of a desktop, a tablet and two phones, in CSS pixels.
const SCREENS: [u32; 4] = [1_280, 768, 500, 360];
/// The height of the first screen, in CSS pixels.
const SCREEN_HEIGHT: u32 = 900;
/// The height of Letter without the margins of 12 mm, in CSS pixels. A4 is higher.
const PAPER_HEIGHT: u32 = 965;

/// The number of simulated tenants.
const TENANTS: usize = 24;
/// What the page contains as soon as every failure has occurred.
const FAILURES: [&str; 9] = [
    "AADSTS7000215",
    "AADSTS90002",
    "`unknown.example`",
    "tenant `unreachable`: ",
    "credential `expiring`",
    ">parked<",
    ">rejected records<",
    ">retrying<",
    "data-l=\"Cause\"",
];

/// The addresses that a configuration refers to.
struct Addresses {
    /// Of the status page.
    page: SocketAddr,
    /// The URL of the simulated API.
    api: String,
    /// The URL of the endpoint that rejects requests.
    endpoint: String,
    /// The port of a receiver that is not running.
    closed: u16,
}

/// A configuration with a failure of each kind.
fn configuration(workspace: &Workspace, addresses: &Addresses, ids: &[String]) -> String {
    let (state, page) = (workspace.state(), addresses.page);
    let mut text = format!(
        "[state]\ndirectory = \"{}\"\n[admin]\nlisten = \"{page}\"\n[source]\nrequests_per_second = 1000\n",
        state.display()
    );

    let expires = Day::of(clock::now()).plus(9);
    for (name, secret, keys) in [
        ("app", "client", String::new()),
        ("wrong", "wrong", String::new()),
        ("expiring", "client", format!("expires = \"{expires}\"\n")),
    ] {
        let secret = workspace.secret(&format!("{name}-secret"), &format!("{CANARY}-{secret}"));
        let _ = write!(
            text,
            "[credentials.{name}]\nkind = \"client_secret\"\nclient_id = \"11111111-2222-4333-8444-555555555555\"\nclient_secret = {secret}\n{keys}"
        );
    }

    text + &sinks(workspace, addresses) + &tenants(addresses, ids)
}

/// A healthy sink, and one each that is retrying, parked, or has dead letters.
fn sinks(workspace: &Workspace, addresses: &Addresses) -> String {
    let Addresses { endpoint, closed, .. } = addresses;
    let file = workspace.path("local.jsonl");
    let sections = [
        ("local", format!("type = \"file\"\npath = \"{}\"", file.display())),
        ("siem", format!("type = \"syslog\"\naddress = \"relp://127.0.0.1:{closed}\"")),
        ("denied", format!("type = \"http\"\nurl = \"{endpoint}/denied\"")),
        (
            "rejected",
            format!(
                "type = \"http\"\nurl = \"{endpoint}/rejected\"\nbatch_records = 1\ntenants = [\"t1\"]"
            ),
        ),
    ];

    let mut text = String::new();
    for (name, keys) in sections {
        let _ = write!(text, "[[sinks]]\nname = \"{name}\"\n{keys}\nrecords = [\"summary\"]\n");
    }
    text
}

/// Healthy tenants, one of which has a long name, and one with each failure.
fn tenants(addresses: &Addresses, ids: &[String]) -> String {
    let long_name = "Name".repeat(25);
    let nowhere = format!("http://127.0.0.1:{}", addresses.closed);
    let unknown = "99999999-0000-4000-8000-00000000c0de";
    let api = addresses.api.as_str();

    let mut text = String::new();
    for (index, id) in ids.iter().enumerate() {
        let number = format!("t{index}");
        let (name, id, credential, url) = match index {
            2 => ("wrong", id.as_str(), "wrong", api),
            3 => ("expiring", id.as_str(), "expiring", api),
            4 => ("unknown-id", unknown, "app", api),
            5 => ("unknown-domain", "unknown.example", "app", api),
            6 => ("unreachable", id.as_str(), "app", nowhere.as_str()),
            7 => (long_name.as_str(), id.as_str(), "app", api),
            _ => (number.as_str(), id.as_str(), "app", api),
        };
        let _ = write!(
            text,
            "[[tenants]]\nname = \"{name}\"\nid = \"{id}\"\ncredential = \"{credential}\"\ninitial_backfill_days = 3\ncloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n"
        );
    }
    text
}

/// The status page as soon as every failure has occurred and all other tenants are healthy.
fn page_of_a_fleet() -> String {
    let runtime = runtime();
    let simulation = simulation().with_tenants(TENANTS - 2);
    let ids = simulation.tenants.clone();
    let (api, serving) = runtime.block_on(start(simulation, 0)).unwrap();
    runtime.spawn(serving);

    let endpoint = Endpoint::new("");
    endpoint.rule(|request| match request.path.as_str() {
        "/denied" => Some((401, "no".to_owned())),
        _ => Some((422, "the field `score` is missing".to_owned())),
    });

    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let addresses = Addresses {
        page: address,
        api: format!("http://{api}"),
        endpoint: endpoint.url.clone(),
        closed: free_port(),
    };
    let mut workspace = Workspace::against(&addresses.api);
    workspace.literal = Some(configuration(&workspace, &addresses, &ids));

    let daemon = workspace.spawn(&["run"]);
    let mut page = String::new();
    eventually("every failure has occurred", || {
        if TcpStream::connect(address).is_err() {
            return false;
        }
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
        page = send(address, &request).2;
        // The tenants with failures, and those that are polled.
        let is_polled = page.contains(&format!("{} of {TENANTS} tenants are current", TENANTS - 4));
        is_polled && FAILURES.iter().all(|failure| page.contains(failure))
    });
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    page
}

/// Regression: the next poll of a tenant was cut off on paper, and the cause of a change was
/// outside the screen of a phone. The conditions filled several screens of a phone.
#[test]
fn a_fleet_fits_screens_and_paper() {
    let page = page_of_a_fleet();
    let paper = on_paper(&page);

    let columns = ["[data-l='Backlog, log entries']", "[data-l='Next poll']", "[data-l='Cause']"];
    assert_eq!(measure(&page, &SCREENS, &columns), "fits");
    assert_eq!(measure(&paper, &PAPERS, &columns), "fits");

    // An error needs an operator; a warning may be below the first screen of a phone.
    let errors = lowest_edges(&page, &SCREENS, "#conditions tr:has(.failing)");
    assert!(errors.iter().all(|edge| *edge <= SCREEN_HEIGHT), "{errors:?}");
    let desktop = lowest_edges(&page, &SCREENS[..1], "#conditions");
    assert!(desktop[0] <= SCREEN_HEIGHT, "{desktop:?}");

    let sheets = lowest_edges(&paper, &PAPERS, "#conditions");
    assert!(sheets.iter().all(|edge| *edge <= PAPER_HEIGHT), "{sheets:?}");
}
