//! Modbus TCP, against pymodbus, and against a device that lies.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use end_to_end::python::{self, Server};
use end_to_end::wait_for;

use crate::gathering::SOON;
use crate::{SQLITE, World};

fn device(port: u16) -> Server {
    let environment = python::environment("modbus", &["pymodbus==3.8.6"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories/modbus_server.py");
    Server::start(&environment, Path::new(script), &[&port.to_string()])
}

fn source(name: &str, port: u16, tags: &str) -> String {
    format!(
        "[[modbus]]\nname = \"{name}\"\naddress = \"127.0.0.1:{port}\"\ntimeout_seconds = 0.5\n\n\
         [[modbus.group]]\nperiod_seconds = 0.2\n{tags}\n"
    )
}

fn tag(name: &str, keys: &str) -> String {
    format!("[[modbus.group.tag]]\nname = \"{name}\"\n{keys}\n")
}

#[test]
fn every_table_type_and_byte_order_is_read_from_a_real_device() {
    let device = device(0);
    let cases = [
        ("holding", "address = 9", "63"),
        ("input", "address = 9\ntable = \"input\"", "62"),
        ("coil_on", "address = 9\ntable = \"coil\"", "1"),
        ("coil_off", "address = 10\ntable = \"coil\"", "0"),
        ("discrete", "address = 10\ntable = \"discrete\"", "1"),
        ("other_unit", "address = 9\nunit_id = 2", "64"),
        ("int16", "address = 100\ntype = \"int16\"\nscale = 0.1", "-12.3"),
        ("int32", "address = 101\ntype = \"int32\"", "-70000"),
        ("uint32", "address = 103\ntype = \"uint32\"", "4000000000"),
        ("int64", "address = 105\ntype = \"int64\"", "-5000000000"),
        ("uint64", "address = 109\ntype = \"uint64\"", "1125899906842624"),
        ("float32", "address = 113\ntype = \"float32\"\nunit = \"C\"", "21.5"),
        ("text", "address = 119\ntype = \"text\"\nlength = 8", "Press 7"),
        ("bit", "address = 123\ntype = \"bool\"\nbit = 3", "1"),
        ("cdab", "address = 126\ntype = \"float32\"\nbyte_order = \"CDAB\"", "21.5"),
        ("badc", "address = 128\ntype = \"float32\"\nbyte_order = \"BADC\"", "21.5"),
        ("dcba", "address = 130\ntype = \"float32\"\nbyte_order = \"DCBA\"", "21.5"),
    ];
    let tags: String = cases.iter().map(|(name, keys, _)| tag(name, keys)).collect();
    let tags = tags + &tag("nan", "address = 124\ntype = \"float32\"") + &tag("beyond", "address = 900");
    let world = World::with_sources(&source("plc", device.port, &tags));
    let shown = world.gather_once();
    let line = |name: &str| {
        let line = shown.iter().find(|line| line.trim_start().starts_with(&format!("plc.{name} ")));
        line.unwrap_or_else(|| panic!("no line of {name}: {shown:#?}"))
    };
    for (name, _, value) in cases {
        assert!(line(name).contains(&format!(" {value} ")) && line(name).contains(" good "), "{}", line(name));
    }
    assert!(line("nan").contains(" bad ") && line("float32").contains(" C "));
    // One that the device does not have makes no other bad.
    assert!(line("beyond").contains(" bad ") && line("beyond").contains("the device says"), "{}", line("beyond"));
}

#[test]
fn a_device_that_goes_away_is_bad_once_and_good_again_and_holds_no_other_up() {
    let mut world = World::new(SQLITE);
    let (gone, stays) = (device(0), device(0));
    let port = gone.port;
    // A third swallows everything that it is sent.
    let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let hole = black_hole.local_addr().unwrap().port();
    let tags = tag("value", "address = 9");
    let text = source("gone", port, &tags) + &source("stays", stays.port, &tags) + &source("hole", hole, &tags);
    world.set_sources(&text);
    world.plant.start_and_wait();
    wait_for("readings", SOON, || (world.stored_of("gone.value").len() > 5).then_some(()));
    drop(gone);
    wait_for("a bad reading", SOON, || {
        world
            .stored_of("gone.value")
            .last()
            .is_some_and(|(_, value, quality, _)| (*quality, *value) == (0, None))
            .then_some(())
    });
    let problems = wait_for("what is wrong to be said", SOON, || {
        let collected = world.plant.status()?.collected?;
        let error = collected.sources.get("gone")?.error.clone()?;
        (!collected.sources["gone"].up).then_some(error)
    });
    assert!(problems.contains(&port.to_string()), "{problems}");
    let from = Instant::now();
    let before = world.stored_of("stays.value").len();
    wait_for("some seconds of the others", SOON, || (from.elapsed() > Duration::from_secs(4)).then_some(()));
    let polled = world.stored_of("stays.value").len() - before;
    let expected = from.elapsed().as_secs_f64() / 0.2;
    assert!((polled as f64 - expected).abs() < expected * 0.25 + 3.0, "{polled} of {expected:.0}");
    let bad = world.stored_of("gone.value").iter().filter(|(_, _, quality, _)| *quality == 0).count();
    assert_eq!(bad, 1, "told once");
    assert_eq!(world.stored_of("hole.value").len(), 1, "and so is silence");
    let _back = device(port);
    wait_for("good readings again", SOON, || {
        world
            .stored_of("gone.value")
            .last()
            .is_some_and(|(_, value, quality, _)| (*quality, *value) == (192, Some(63.0)))
            .then_some(())
    });
}

/// A device that answers each request as it is told: with the transaction that it was asked, and what it makes of it.
pub fn liar(answer: impl Fn(usize, [u8; 12]) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut asked = 0;
        for stream in listener.incoming().flatten() {
            let mut stream: TcpStream = stream;
            let mut request = [0; 12];
            while stream.read_exact(&mut request).is_ok() {
                asked += 1;
                for piece in answer(asked, request) {
                    if stream.write_all(&piece).is_err() {
                        break;
                    }
                }
            }
        }
    });
    port
}

type Lie = fn([u8; 12]) -> Vec<Vec<u8>>;

/// The right answer to a request for one register.
pub fn right(request: [u8; 12], value: u16) -> Vec<u8> {
    let mut answer = request[..5].to_vec();
    answer.extend([5, request[6], request[7], 2]);
    answer.extend(value.to_be_bytes());
    answer
}

#[test]
fn no_late_foreign_or_broken_answer_is_taken_for_the_one_asked_for() {
    let lies: [(&str, Lie); 6] = [
        ("late", |request| {
            // Behind the timeout: it lies in the socket when the next request is sent.
            std::thread::sleep(Duration::from_millis(700));
            vec![right(request, 666)]
        }),
        ("foreign", |request| {
            let mut answer = right(request, 666);
            answer[1] ^= 0x55;
            vec![answer]
        }),
        ("other_function", |request| {
            let mut answer = right(request, 666);
            answer[7] = 4;
            vec![answer]
        }),
        ("short", |request| vec![right(request, 666)[..9].to_vec()]),
        ("garbage", |_| vec![vec![0xff; 300]]),
        ("longer", |request| {
            let mut answer = right(request, 666);
            (answer[5], answer[8]) = (7, 4);
            answer.extend([2, 0x9a]);
            vec![answer]
        }),
    ];
    let mut text = String::new();
    for (name, lie) in lies {
        // Every third answer is a lie.
        let port = liar(move |asked, request| if asked % 3 == 0 { lie(request) } else { vec![right(request, 7)] });
        text += &source(name, port, &tag("value", "address = 0"));
    }
    let busy = liar(|_, request| vec![vec![request[0], request[1], 0, 0, 0, 3, request[6], request[7] | 0x80, 6]]);
    text += &source("busy", busy, &tag("value", "address = 0"));
    let mut world = World::with_sources(&text);
    world.plant.start_and_wait();
    for (name, _) in lies {
        let tag = format!("{name}.value");
        let stored = wait_for(&format!("the lies of {name}"), SOON, || {
            let stored = world.stored_of(&tag);
            let bad = stored.iter().filter(|(_, _, quality, _)| *quality == 0).count();
            (bad >= 2 && stored.len() > 6).then_some(stored)
        });
        assert!(stored.iter().all(|(_, value, _, _)| value.is_none_or(|value| value == 7.0)), "{name}: {stored:?}");
    }
    let busy = world.stored_of("busy.value");
    assert!(busy.len() == 1 && busy[0].2 == 0, "{busy:?}");
}
