//! Whoever only opens connections keeps nobody out.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use end_to_end::programs::run;
use end_to_end::wait_for;

use crate::{SQLITE, World};

#[test]
fn a_thousand_half_open_connections_do_not_keep_hq_out() {
    let world = World::running(SQLITE);
    let port = world.plant.agent_port();
    let mut held = Vec::new();
    for at in 0..1000 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if at % 2 == 0 {
            // The start of a handshake that never goes on.
            stream.write_all(&[0x16, 0x03, 0x01, 0x02]).unwrap();
        }
        held.push(stream);
    }
    let started = Instant::now();
    world.headquarters.pull(port);
    let took = started.elapsed();
    // The program's own start and its key are in this, too.
    assert!(took < Duration::from_secs(2), "a pull took {took:?}");
    drop(held);
}

#[test]
fn slow_headers_are_cut_off() {
    let world = World::running(SQLITE);
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", world.plant.agent_port())]);
    openssl.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut client = openssl.spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"GET /auth/challenge HTTP/1.1\r\n").unwrap();
    let started = Instant::now();
    wait_for("the connection to be cut off", Duration::from_secs(30), || {
        // One header line after the other, never the last.
        let _ = input.write_all(b"X-Slow: 1\r\n");
        client.try_wait().unwrap().map(|_| ())
    });
    assert!(started.elapsed() > Duration::from_secs(5), "cut off too soon");
}

#[test]
fn addresses_that_are_not_allowed_get_no_answer() {
    let mut world = World::new(SQLITE);
    world.plant.set("AGENT_ALLOW", "10.0.0.0/8, 192.168.7.9");
    world.plant.start_and_wait();
    let port = world.plant.agent_port();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(run(&mut world.headquarters.sync_client(port)).code, Some(69));
}
