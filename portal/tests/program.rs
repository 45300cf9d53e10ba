//! The executable as its supervisor and its administrator know it.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

fn root_with(config: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("config")).unwrap();
    std::fs::write(root.path().join("config/config.txt"), config).unwrap();
    root
}

fn portal(root: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portal"));
    command.arg("--root").arg(root.path());
    command
}

fn refusal(config: &str) -> Output {
    portal(&root_with(config)).output().unwrap()
}

#[test]
fn without_a_certificate_this_machine_alone_is_served() {
    let root = root_with("PORTAL_BIND = 0.0.0.0\nPORTAL_PORT = 0\n");
    let mut child = portal(&root).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let port = said.rsplit(':').next().unwrap().trim_end_matches('/');
    let mut here = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(here, "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    here.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("portal/cert.pem") && log.contains("openssl"), "{log}");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = refusal(&format!("PORTAL_PORT = {}\n", taken.local_addr().unwrap().port()));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("set another PORTAL_PORT") && said.lines().count() == 1, "{said}");
}

/// A portal that its supervisor has told how the plant is.
struct Supervised {
    root: tempfile::TempDir,
    child: Child,
    supervisor: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

fn supervised(config: &str) -> Supervised {
    let root = root_with(config);
    let mut child = portal(&root)
        .env(daemon::SUPERVISED, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut supervisor = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let service = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"service\"")).unwrap();
    lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"ready\"")).unwrap();
    let address = service.split("http://").nth(1).unwrap().trim_end_matches(['"', '}']).to_owned();
    writeln!(supervisor, r#"{{"status":{{"version":"7.8.9","phase":"trial","pending_version":null,"children":[],"metrics_address":null,"spool_readings":0,"collected":null,"exported":null,"licensed":true,"problems":[],"started_at":null}}}}"#).unwrap();
    Supervised { root, child, supervisor, lines, address }
}

#[test]
fn a_pin_goes_to_the_supervisor_and_nowhere_else() {
    const PIN: &str = "471147114711";
    let Supervised { root: _root, mut child, mut supervisor, mut lines, address } =
        supervised("PORTAL_PORT = 0\nLOG_LEVEL = trace\n");
    let mut question = || lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"ask\"")).unwrap();

    let mut apply = TcpStream::connect(&address).unwrap();
    let body = format!(r#"{{"pin":"{PIN}","manifest_sha256":"aa11"}}"#);
    let head = format!("Host: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    write!(apply, "POST /api/update/apply HTTP/1.1\r\nConnection: close\r\n{head}\r\n{body}").unwrap();
    let asked = question();
    let expected = format!(r#"{{"approve":{{"pin":"{PIN}","caller":"local","manifest_sha256":"aa11"}}}}"#);
    assert!(asked.contains(&expected), "{asked}");
    writeln!(supervisor, r#"{{"answer":{{"request":1,"answer":{{"wrong_pin":{{"tries_left":2}}}}}}}}"#).unwrap();
    let mut answer = String::new();
    apply.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(r#""tries_left":2"#), "{answer}");

    let mut progress = TcpStream::connect(&address).unwrap();
    write!(progress, "GET /api/update/progress HTTP/1.1\r\nHost: {address}\r\nX-Config-Pin: {PIN}\r\n\r\n").unwrap();
    assert!(question().contains(&format!(r#"{{"pin":{{"pin":"{PIN}","caller":"local"}}}}"#)));
    writeln!(supervisor, r#"{{"answer":{{"request":2,"answer":"done"}}}}"#).unwrap();
    progress.read_exact(&mut [0; 12]).unwrap();

    drop(supervisor);
    assert!(child.wait().unwrap().success());
    let (mut rest, mut log) = (String::new(), String::new());
    progress.read_to_string(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("listening"), "{log}");
    for text in [answer, rest, log] {
        assert!(!text.contains(PIN), "the PIN got out: {text}");
    }
}

#[test]
fn a_supervised_portal_says_where_it_is_shows_what_it_hears_and_goes_with_its_supervisor() {
    let Supervised { root: _root, mut child, supervisor, lines: _lines, address } = supervised("PORTAL_PORT = 0\n");
    let mut events = TcpStream::connect(&address).unwrap();
    write!(events, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("7.8.9 (on trial)") {
        let mut buffer = [0; 4096];
        let read = events.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the feed ended");
        heard.extend_from_slice(&buffer[..read]);
    }

    drop(supervisor);
    assert!(child.wait().unwrap().success());
    // The open feed has ended in an orderly way.
    events.read_to_end(&mut heard).unwrap();
}
