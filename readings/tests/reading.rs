//! Reading out of a real PostgreSQL: every way to be let in, odd rows, and whatever may go wrong in the middle.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a story that goes wrong says where")]

use std::path::Path;
use std::sync::LazyLock;

use private_postgres::{Options, PrivatePostgres};
use readings::{Span, Store, StoreError};

static SERVER: LazyLock<PrivatePostgres> =
    LazyLock::new(|| PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}")));

const ALL: Span = Span { first_seq: 1, last_seq: u64::MAX, not_before: None };

#[derive(Debug, PartialEq)]
struct Read {
    seq: u64,
    tag: (i64, String, Option<String>),
    value: Option<f64>,
    text: Option<String>,
}

fn open(url: &str) -> Box<dyn Store> {
    readings::open(url, Path::new("/")).unwrap_or_else(|error| panic!("{error}"))
}

fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

fn read(store: &mut dyn Store, span: Span) -> Result<Vec<Read>, StoreError> {
    let mut rows = Vec::new();
    store.read(span, &mut |row| {
        rows.push(Read {
            seq: row.seq,
            tag: (row.tag_id, row.tag.to_owned(), row.unit.map(str::to_owned)),
            value: row.value,
            text: row.text.map(str::to_owned),
        });
    })?;
    Ok(rows)
}

/// Numbered readings, far too many for the buffers between a server and its client.
fn fill(server: &PrivatePostgres, url: &str, count: u64) {
    let sql = format!(
        "INSERT INTO tags (name, unit) VALUES ('a', 'C'), ('b', NULL);
         INSERT INTO readings SELECT n, to_timestamp(n), 1 + n % 2, n, 192, NULL FROM generate_series(1, {count}) n;
         UPDATE head SET last_seq = {count}"
    );
    server.sql(name(url), &sql);
}

/// What the connection that reads, busy or not, says of itself to the server.
fn of_reader(server: &PrivatePostgres, url: &str, what: &str) -> String {
    let from =
        "pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE query LIKE 'COPY%' AND datname = current_database()";
    server.sql(name(url), &format!("SELECT {what} FROM {from}"))
}

#[test]
fn every_way_to_be_let_in() {
    for authentication in ["trust", "password", "md5", "scram-sha-256"] {
        let options = Options { authentication: Some(authentication), ..Options::default() };
        let server = PrivatePostgres::start(&options).unwrap_or_else(|error| panic!("{error}"));
        let url = server.new_database();
        let mut late = open(&url);
        fill(&server, &url, 3);
        for url in [&url, &server.socket_url(name(&url))] {
            assert_eq!(read(open(url).as_mut(), ALL).unwrap().len(), 3, "{authentication}");
        }
        if authentication != "trust" {
            // The store is open already; the connection that reads is made now, and not let in.
            server.sql("postgres", "ALTER USER plant PASSWORD 'other'");
            let error = read(late.as_mut(), ALL).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, StoreError::Configuration(_)), "{error}");
            assert!(text.contains("password authentication failed") && text.contains("127.0.0.1"), "{text}");
            assert!(!text.contains("p@ss"), "{text}");
        }
    }
}

#[test]
fn tls_is_verified_on_the_connection_that_reads() {
    let certificate = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let made = certificate();
    let tls = Some((made.cert.pem(), made.signing_key.serialize_pem()));
    let server =
        PrivatePostgres::start(&Options { tls, ..Options::default() }).unwrap_or_else(|error| panic!("{error}"));
    let url = server.new_database();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, made.cert.pem()).unwrap();
    let with = |parameters: &str| open(&format!("{url}?{parameters}"));
    let mut verified = with(&format!("sslmode=verify-full&sslrootcert={}", authority.display()));
    fill(&server, &url, 100_000);
    for (mode, encrypted) in [("sslmode=require", "t"), ("sslmode=prefer", "t"), ("sslmode=disable", "f")] {
        let mut store = with(mode);
        assert_eq!(read(store.as_mut(), ALL).unwrap().len(), 100_000);
        assert!(of_reader(&server, &url, "ssl").lines().any(|ssl| ssl == encrypted), "{mode}");
    }
    std::fs::write(&authority, certificate().cert.pem()).unwrap();
    let error = read(verified.as_mut(), ALL).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)) && error.to_string().contains("TLS"), "{error}");
    std::fs::write(&authority, made.cert.pem()).unwrap();
    assert_eq!(read(verified.as_mut(), ALL).unwrap().len(), 100_000);
}

#[test]
fn odd_rows_and_ranges() {
    let url = SERVER.new_database();
    let mut store = open(&url);
    assert_eq!(read(store.as_mut(), ALL).unwrap(), []);
    fill(&SERVER, &url, 2);
    let rows =
        "(3, now(), 2, 'NaN', 0, NULL), (4, now(), 2, 'Infinity', 0, ''), (5, 'infinity', 2, '-Infinity', 0, 'ж'),
                (6, '-infinity', 1, NULL, 0, repeat('0123456789abcdef', 65536)), (7, now(), 1, 1, 0, NULL)";
    SERVER.sql(name(&url), &format!("INSERT INTO readings VALUES {rows}; UPDATE head SET last_seq = 7"));
    let (a, b) = ((1, "a".to_owned(), Some("C".to_owned())), (2, "b".to_owned(), None));
    let long = "0123456789abcdef".repeat(65_536);
    let row = |seq, tag: &(i64, String, Option<String>), value, text: Option<&str>| Read {
        seq,
        tag: tag.clone(),
        value,
        text: text.map(str::to_owned),
    };
    let expected = [
        row(1, &b, Some(1.0), None),
        row(2, &a, Some(2.0), None),
        row(3, &b, None, None),
        row(4, &b, None, Some("")),
        row(5, &b, None, Some("ж")),
        row(6, &a, None, Some(&long)),
        row(7, &a, Some(1.0), None),
    ];
    assert_eq!(read(store.as_mut(), ALL).unwrap(), expected);
    assert_eq!(read(store.as_mut(), Span::all(2, 4)).unwrap(), expected[1..4]);
    assert_eq!(read(store.as_mut(), Span::all(8, 20)).unwrap(), []);
    assert_eq!(read(store.as_mut(), Span::all(5, 4)).unwrap(), []);
}

#[test]
fn a_server_killed_in_the_middle_is_an_error_and_no_end() {
    let mut server = PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let url = server.new_database();
    let mut store = open(&url);
    fill(&server, &url, 600_000);
    let mut rows = 0;
    let outcome = store.read(ALL, &mut |_| {
        rows += 1;
        if rows == 10 {
            server.kill();
        }
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    assert!((10..600_000).contains(&rows), "{rows}");
    let error = read(store.as_mut(), ALL).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    server.start_again().unwrap();
    assert_eq!(read(open(&url).as_mut(), ALL).unwrap().len(), 600_000);
}

#[test]
fn a_statement_cancelled_or_a_connection_ended_is_an_error_and_the_next_read_works() {
    let url = SERVER.new_database();
    let mut store = open(&url);
    fill(&SERVER, &url, 600_000);
    // One that is ended while its client is slow cannot always say so.
    for (end, word) in [("pg_cancel_backend(pid)", "user request"), ("pg_terminate_backend(pid)", "")] {
        let mut rows = 0;
        let outcome = store.read(ALL, &mut |_| {
            rows += 1;
            if rows == 10 {
                assert_eq!(of_reader(&SERVER, &url, end), "t");
            }
        });
        let error = outcome.unwrap_err();
        assert!(matches!(error, StoreError::Unreachable(_)) && error.to_string().contains(word), "{error}");
        assert_eq!(read(store.as_mut(), ALL).unwrap().len(), 600_000);
    }
    assert_eq!(of_reader(&SERVER, &url, "pg_terminate_backend(pid)"), "t");
    let error = read(store.as_mut(), ALL).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    assert_eq!(read(store.as_mut(), Span::all(1, 5)).unwrap().len(), 5);
}

#[test]
fn a_missing_table_is_a_strange_schema() {
    let url = SERVER.new_database();
    let mut store = open(&url);
    fill(&SERVER, &url, 2);
    SERVER.sql(name(&url), "ALTER TABLE readings RENAME TO elsewhere");
    let error = read(store.as_mut(), ALL).unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)) && error.to_string().contains("readings"), "{error}");
    SERVER.sql(name(&url), "ALTER TABLE elsewhere RENAME COLUMN text TO words");
    SERVER.sql(name(&url), "ALTER TABLE elsewhere RENAME TO readings");
    let error = read(store.as_mut(), ALL).unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)) && error.to_string().contains("text"), "{error}");
    SERVER.sql(name(&url), "ALTER TABLE readings RENAME COLUMN words TO text");
    SERVER.sql(name(&url), "UPDATE readings SET tag = 77 WHERE seq = 2");
    let error = read(store.as_mut(), ALL).unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)) && error.to_string().contains("unknown tag 77"), "{error}");
    assert_eq!(read(store.as_mut(), Span::all(1, 1)).unwrap().len(), 1);
}

#[test]
fn no_statement_grows_old() {
    let url = SERVER.new_database();
    let mut store = open(&url);
    fill(&SERVER, &url, 2);
    let mut locker = SERVER
        .psql(name(&url))
        .args(["-c", "BEGIN; LOCK TABLE readings", "-c", "SELECT pg_sleep(60)"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while SERVER.sql(name(&url), "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted") == "0"
    {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let started = std::time::Instant::now();
    let error = read(store.as_mut(), ALL).unwrap_err();
    locker.kill().unwrap();
    locker.wait().unwrap();
    assert!(matches!(error, StoreError::Unreachable(_)) && error.to_string().contains("timeout"), "{error}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
