//! Whoever only opens connections keeps nobody out.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use end_to_end::plant::PIN;
use end_to_end::portal::ask;
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

/// Ends what runs beside a story, however that ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// This machine's own in its network: what comes from there is no loopback, as if another machine had sent it.
pub fn address_of_another_machine() -> IpAddr {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("this machine has an address in a network");
    socket.local_addr().unwrap().ip()
}

#[test]
fn a_flood_from_another_machine_leaves_the_operator_his_pages_and_his_pin() {
    let mut world = World::new(SQLITE);
    world.plant.set("PORTAL_BIND", "0.0.0.0");
    world.plant.start_and_wait();
    let here = world.plant.portal();
    let there = format!("{}:{}", address_of_another_machine(), here.rsplit(':').next().unwrap());
    let (over, refused) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        // Connections that say nothing, or never come to their point.
        scope.spawn(|| {
            let mut held = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(&there) else { continue };
                let _ = stream.write_all([&[0x16, 0x03, 0x01, 0x02][..], b"GET / HT", b""][held.len() % 3]);
                held.push(stream);
                if held.len() == 700 {
                    held.drain(..100);
                }
            }
        });
        // PINs that are tried out.
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let mut curl = std::process::Command::new("curl");
                    curl.args([
                        "-sk",
                        "-o",
                        "/dev/null",
                        "-w",
                        "%{http_code}",
                        "-m",
                        "10",
                        "-H",
                        "X-Config-Pin: 999999",
                    ]);
                    let said = run(curl
                        .args(["-H", "Content-Type: application/json", "-d", "{}"])
                        .arg(format!("https://{there}/api/session")));
                    refused.fetch_add(u32::from(said.output == "429"), Ordering::Relaxed);
                }
            });
        }
        let mut longest = Duration::ZERO;
        wait_for("the other machine to be locked out", Duration::from_secs(60), || {
            let started = Instant::now();
            assert_eq!(ask(&here, "GET", "/", "", "").unwrap().status, 200);
            assert_eq!(world.plant.update_status(PIN).status, 200, "the right PIN of the operator");
            longest = longest.max(started.elapsed());
            (refused.load(Ordering::Relaxed) > 20).then_some(())
        });
        println!("the operator waited {longest:?} at most");
        assert!(longest < Duration::from_secs(5), "the operator waited {longest:?}");
    });
    assert!(!world.plant.logs_have(PIN));
}
