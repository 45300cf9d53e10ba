//! One suite for every kind of store: what is told here of SQLite holds for PostgreSQL, word for word.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a story that goes wrong says where")]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use protocol::export::Gap;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use readings::{Appended, Batch, Quality, Reading, Retirement, Rollup, Span, Store, StoreError, Trend, TrendQuery};

static SERVER: LazyLock<PrivatePostgres> =
    LazyLock::new(|| PrivatePostgres::start(&Options::default()).unwrap_or_else(|error| panic!("{error}")));

/// A database that opens as often as one likes, and is gone with this.
struct Database {
    folder: tempfile::TempDir,
    url: String,
}

impl Database {
    fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), url: "sqlite:plant.db".into() }
    }

    fn postgres() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), url: SERVER.new_database() }
    }

    fn open(&self) -> Box<dyn Store> {
        readings::open(&self.url, self.folder.path()).unwrap_or_else(|error| panic!("{error}"))
    }
}

macro_rules! on_both {
    ($($story:ident)*) => {
        mod on_sqlite { $(#[test] fn $story() { super::$story(&super::Database::sqlite()); })* }
        mod on_postgres { $(#[test] fn $story() { super::$story(&super::Database::postgres()); })* }
    };
}

on_both! {
    two_that_start_at_once_lay_one_schema
    what_goes_in_comes_out
    a_batch_is_stored_once_however_often_it_is_tried
    a_position_behind_the_writers_is_refused
    writers_at_once_leave_no_hole_and_what_was_seen_stays
    a_reading_that_arrives_late_is_found_by_its_time
    a_new_epoch_begins_once_and_moves_the_position
    an_edited_migration_is_refused
    old_batches_go_from_the_old_end_and_whoever_lacks_them_is_told
    a_batch_of_a_wrong_clock_neither_goes_early_nor_holds_the_others_back
    a_gap_grows_for_a_day
    what_could_not_be_accepted_is_told_with_the_batch_that_came_next
    rollups_come_to_what_the_readings_come_to_whoever_writes
    a_trend_loses_no_peak_and_knows_hours_when_minutes_are_gone
    history_of_one_tag_is_read_alone
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(1_771_754_400_000_000 + second * 1_000_000).unwrap()
}

fn reading(tag: &str, second: i64, value: f64) -> Reading {
    Reading {
        time: at(second),
        tag: tag.into(),
        value: Some(value),
        unit: Some("C".into()),
        quality: Quality::GOOD,
        text: None,
    }
}

fn append(store: &mut dyn Store, writer: &str, from: u64, readings: &[Reading]) -> Result<Appended, StoreError> {
    store.append(&Batch { writer, from, to: from + 1, readings, gaps: &[] })
}

fn all(store: &mut dyn Store) -> Vec<(u64, Reading)> {
    let head = store.head().unwrap();
    read(store, Span::all(head.first_seq, head.last_seq))
}

fn read(store: &mut dyn Store, span: Span) -> Vec<(u64, Reading)> {
    let mut found = Vec::new();
    store
        .read(span, &mut |row| {
            let reading = Reading {
                time: row.time,
                tag: row.tag.into(),
                value: row.value,
                unit: row.unit.map(Arc::from),
                quality: row.quality,
                text: row.text.map(str::to_owned),
            };
            found.push((row.seq, reading));
        })
        .unwrap();
    assert_eq!(store.count(span).unwrap(), found.len() as u64);
    found
}

fn two_that_start_at_once_lay_one_schema(database: &Database) {
    let epochs: Vec<String> = std::thread::scope(|scope| {
        let starts: Vec<_> =
            (0..4).map(|_| scope.spawn(|| database.open().head().unwrap().epoch().to_owned())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
}

fn what_goes_in_comes_out(database: &Database) {
    let mut store = database.open();
    let odd =
        Reading { time: Timestamp::parse("0001-01-01T00:00:00Z").unwrap(), unit: None, ..reading("odd", 0, -1e-300) };
    let late = Reading { time: Timestamp::parse("9999-12-31T23:59:59.999999Z").unwrap(), ..reading("a", 0, 1e308) };
    let text =
        Reading {
            value: None, text: Some("дверь \"A\"\u{1}🚪".into()), quality: Quality::BAD, ..reading("a", 1, 0.0)
        };
    let long = Reading { text: Some("x".repeat(10_000)), tag: "t".repeat(10_000).into(), ..reading("", 2, 5e-324) };
    let not =
        Reading { value: Some(f64::NAN), text: Some("nul\0".into()), unit: Some("".into()), ..reading("n", 3, 0.0) }
            .normalised();
    assert_eq!((not.value, not.text.as_deref(), not.unit.as_deref()), (None, Some("nul\u{fffd}"), None));
    let readings = [odd, late, text, long, not];
    assert_eq!(append(store.as_mut(), "collector", 0, &readings).unwrap(), Appended::Stored { last_seq: 5 });
    let found = all(database.open().as_mut());
    assert_eq!(found, (1..).zip(readings).collect::<Vec<_>>());
    assert!(reading("zero", 0, -0.0).normalised().value.unwrap().is_sign_positive());
}

fn a_batch_is_stored_once_however_often_it_is_tried(database: &Database) {
    let mut store = database.open();
    let batch = [reading("a", 0, 1.0), reading("b", 0, 2.0)];
    assert_eq!(append(store.as_mut(), "collector", 0, &batch).unwrap(), Appended::Stored { last_seq: 2 });
    assert_eq!(append(store.as_mut(), "collector", 0, &batch).unwrap(), Appended::AlreadyStored);
    assert_eq!(append(database.open().as_mut(), "collector", 0, &batch).unwrap(), Appended::AlreadyStored);
    assert_eq!(append(store.as_mut(), "import", 0, &batch).unwrap(), Appended::Stored { last_seq: 4 });
    assert_eq!(append(store.as_mut(), "collector", 1, &batch).unwrap(), Appended::Stored { last_seq: 6 });
    assert_eq!((store.position("collector").unwrap(), store.position("import").unwrap()), (2, 1));
    assert_eq!(store.position("nobody").unwrap(), 0);
    assert_eq!(all(store.as_mut()).len(), 6);
}

fn a_position_behind_the_writers_is_refused(database: &Database) {
    let mut store = database.open();
    let error = append(store.as_mut(), "collector", 7, &[reading("a", 0, 1.0)]).unwrap_err();
    assert!(matches!(error, StoreError::Position { expected: 7, found: 0, .. }), "{error}");
    assert_eq!(all(store.as_mut()), []);
}

/// Writers in turn, a reader in between: what it saw of the order never changes behind it.
fn writers_at_once_leave_no_hole_and_what_was_seen_stays(database: &Database) {
    const WRITERS: usize = 4;
    const BATCHES: usize = 25;
    let pulled = std::thread::scope(|scope| {
        let write = |writer| {
            scope.spawn(move || {
                let (name, mut store) = (format!("writer{writer}"), database.open());
                for batch in 0..BATCHES {
                    let readings: Vec<_> = (0..=batch % 3).map(|at| reading(&name, batch as i64, at as f64)).collect();
                    append(store.as_mut(), &name, batch as u64, &readings).unwrap();
                }
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let mut store = database.open();
        let mut pulled: Vec<(u64, Reading)> = Vec::new();
        loop {
            let last_round = writers.iter().all(std::thread::ScopedJoinHandle::is_finished);
            let head = store.head().unwrap();
            let from = pulled.last().map_or(1, |(seq, _)| seq + 1);
            pulled.extend(read(store.as_mut(), Span::all(from, head.last_seq)));
            if last_round {
                return pulled;
            }
        }
    });
    assert_eq!(pulled, all(database.open().as_mut()));
    assert!(pulled.iter().map(|(seq, _)| *seq).eq(1..=pulled.len() as u64), "a hole in the order");
    let expected: usize = (0..BATCHES).map(|batch| batch % 3 + 1).sum::<usize>() * WRITERS;
    assert_eq!(pulled.len(), expected);
}

fn a_reading_that_arrives_late_is_found_by_its_time(database: &Database) {
    let mut store = database.open();
    append(store.as_mut(), "collector", 0, &[reading("a", 0, 0.0), reading("a", 10, 1.0)]).unwrap();
    append(store.as_mut(), "collector", 1, &[reading("a", 20, 2.0), reading("a", 21, 3.0)]).unwrap();
    append(store.as_mut(), "collector", 2, &[reading("a", 22, 4.0)]).unwrap();
    append(store.as_mut(), "collector", 3, &[reading("a", 1, 5.0)]).unwrap();
    append(store.as_mut(), "collector", 4, &[reading("a", 30, 6.0)]).unwrap();
    let spans = store.spans_since(at(10), 5).unwrap();
    let values: Vec<_> =
        spans.iter().flat_map(|span| read(store.as_mut(), *span)).map(|(_, reading)| reading.value.unwrap()).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(spans, [Span { not_before: Some(at(10)), ..Span::all(1, 2) }, Span::all(3, 5)]);
}

fn a_new_epoch_begins_once_and_moves_the_position(database: &Database) {
    let mut store = database.open();
    append(store.as_mut(), "collector", 0, &[reading("a", 0, 0.0), reading("a", 1, 1.0), reading("a", 2, 2.0)])
        .unwrap();
    let before = store.head().unwrap();
    store.begin_epoch(before.epoch(), 2, "collector", 40).unwrap();
    store.begin_epoch(before.epoch(), 2, "collector", 50).unwrap();
    let after = store.head().unwrap();
    assert_eq!((after.epochs.len(), store.position("collector").unwrap()), (2, 40));
    let ranges = after.epoch_ranges(1, 3);
    assert_eq!((ranges[0].last_seq, ranges[1].first_seq, ranges[1].last_seq), (1, 2, 3));
    assert_eq!(after.locate(before.epoch(), 3), Some(1));
    assert_eq!(after.locate(after.epoch(), 3), Some(3));
    assert_eq!(after.locate("elsewhere", 3), None);
    append(store.as_mut(), "collector", 40, &[reading("a", 3, 3.0)]).unwrap();
    assert_eq!(store.head().unwrap().last_seq, 4);
}

fn an_edited_migration_is_refused(database: &Database) {
    drop(database.open());
    let edit = "UPDATE schema_migrations SET sha256 = 'other'";
    match database.url.strip_prefix("sqlite:") {
        Some(path) => {
            let connection = rusqlite::Connection::open(database.folder.path().join(path)).unwrap();
            assert_eq!(connection.execute(edit, []).unwrap(), 1);
        }
        None => assert_eq!(SERVER.sql(database.url.rsplit('/').next().unwrap(), edit), ""),
    }
    let Err(error) = readings::open(&database.url, database.folder.path()) else { panic!("opened") };
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
}

#[test]
fn postgres_speaks_tls_and_verifies_when_asked() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let server = PrivatePostgres::start(&Options {
        tls: Some((made.cert.pem(), made.signing_key.serialize_pem())),
        ..Options::default()
    })
    .unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, made.cert.pem()).unwrap();
    let url = server.new_database();
    let open = |parameters: String| readings::open(&format!("{url}?{parameters}"), folder.path());
    for parameters in ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={}", authority.display())]
    {
        open(parameters).unwrap_or_else(|error| panic!("{error}")).head().unwrap();
        let name = url.rsplit('/').next().unwrap();
        let encrypted = server.sql(name, "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'plantlink'");
        // The connection above may be closing at this moment; what counts is that it was made at all.
        assert!(["0", "1"].contains(&encrypted.as_str()));
    }
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&authority, other.cert.pem()).unwrap();
    let Err(error) = open(format!("sslmode=verify-full&sslrootcert={}", authority.display())) else {
        panic!("a foreign authority was believed")
    };
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    let Err(error) = readings::open(&format!("{}?sslmode=require", SERVER.new_database()), folder.path()) else {
        panic!("no TLS there")
    };
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[test]
fn a_wrong_url_says_what_is_wrong_and_never_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let good = SERVER.new_database();
    let wrong_password = good.replace("p%40ss", "secret");
    let wrong_database = good.rsplit_once('/').unwrap().0.to_owned() + "/nowhere";
    for (url, kind, word) in [
        ("mysql://h/db", "configuration", "sqlite:data/plant.db"),
        ("sqlite:no/such/folder/plant.db", "configuration", "no/such/folder"),
        (wrong_password.as_str(), "configuration", "password authentication failed"),
        (wrong_database.as_str(), "configuration", "nowhere"),
        ("postgres://plant:secret@127.0.0.1:1/db", "unreachable", "127.0.0.1:1"),
    ] {
        let Err(error) = readings::open(url, folder.path()) else { panic!("{url}") };
        let found = match error {
            StoreError::Configuration(_) => "configuration",
            StoreError::Unreachable(_) => "unreachable",
            _ => "other",
        };
        let text = error.to_string();
        assert!(found == kind && text.contains(word) && !text.contains("secret"), "{url}: {found}: {text}");
    }
}

const DAY: i64 = 24 * 60 * 60;

/// Everything older than ten days goes, up to `through_seq`; today is day 100.
fn retire(store: &mut dyn Store, through_seq: u64, reason: &'static str) -> u64 {
    let retirement = Retirement { through_seq, before: at(90 * DAY), now: at(100 * DAY), reason };
    std::iter::repeat_with(|| store.retire(&retirement).unwrap()).take_while(|dropped| *dropped > 0).sum()
}

/// Four readings on each of these days, a batch a day.
fn append_days(store: &mut dyn Store, days: impl Iterator<Item = i64>) {
    for (position, day) in (store.position("c").unwrap()..).zip(days) {
        let readings: Vec<Reading> = (0..4).map(|hour| reading("a", day * DAY + hour * 3600, 1.0)).collect();
        append(store, "c", position, &readings).unwrap();
    }
}

fn gap(from: i64, to: i64, readings: u64, reason: &str) -> Gap {
    Gap { from: at(from), to: at(to), readings, reason: reason.to_owned() }
}

fn old_batches_go_from_the_old_end_and_whoever_lacks_them_is_told(database: &Database) {
    let mut store = database.open();
    append_days(store.as_mut(), 70..100);
    let before = all(store.as_mut());
    assert_eq!(retire(store.as_mut(), 42, "retention"), 40, "whole batches only");
    assert_eq!(store.gaps(0, 120).unwrap(), [gap(70 * DAY, 79 * DAY + 3 * 3600, 40, "retention")]);
    assert_eq!(retire(store.as_mut(), u64::MAX, "retention"), 40, "what is younger than ten days stays");
    assert_eq!(all(store.as_mut()), before[80..]);
    assert_eq!(store.head().unwrap().first_seq, 81);
    // Each hears as much as it lacks, and of what lies behind its cut with a later one.
    let (first, second) = ((70 * DAY, 79 * DAY + 3 * 3600), (80 * DAY, 89 * DAY + 3 * 3600));
    let told = |store: &mut dyn Store, behind, through| store.gaps(behind, through).unwrap();
    let whole = [gap(first.0, first.1, 40, "retention"), gap(second.0, second.1, 40, "retention")];
    assert_eq!(told(store.as_mut(), 0, 120), whole);
    assert_eq!(told(store.as_mut(), 79, 120), [gap(second.0, second.1, 1, "retention")]);
    assert_eq!(told(store.as_mut(), 30, 50).iter().map(|gap| gap.readings).collect::<Vec<_>>(), [10, 10]);
    assert_eq!(told(store.as_mut(), 50, 120).iter().map(|gap| gap.readings).collect::<Vec<_>>(), [30]);
    assert_eq!(told(store.as_mut(), 80, 120), []);
    assert_eq!(retire(store.as_mut(), u64::MAX, "disk_low"), 0);
    while store.give_back().unwrap() {}
    append_days(store.as_mut(), 100..102);
    assert_eq!(store.head().unwrap().last_seq, 128);
}

fn a_batch_of_a_wrong_clock_neither_goes_early_nor_holds_the_others_back(database: &Database) {
    let mut store = database.open();
    // A year ahead for a while, then right again, then in 1970.
    append_days(store.as_mut(), (70..75).chain(440..445).chain(80..95).chain([-20_000]).chain(95..100));
    assert_eq!(retire(store.as_mut(), u64::MAX, "retention"), 20 * 4, "up to day 89, those from ahead with them");
    let kept = all(store.as_mut());
    assert_eq!((kept.len(), kept[0].1.time), (11 * 4, at(90 * DAY)));
    let head = store.head().unwrap();
    assert_eq!(store.count(Span::all(head.first_seq, head.last_seq)).unwrap(), 44, "no hole");
}

fn a_gap_grows_for_a_day(database: &Database) {
    let mut store = database.open();
    let hours = |from: i64, to: i64| (from..to).map(|hour| reading("a", 80 * DAY + hour * 3600, 1.0));
    for (position, hour) in (0..).zip(0..36) {
        let batch: Vec<Reading> = hours(hour, hour + 1).collect();
        append(store.as_mut(), "c", position, &batch).unwrap();
        // One at a time, as they become old.
        let before = at(80 * DAY + hour * 3600 + 1);
        let retirement = Retirement { through_seq: u64::MAX, before, now: at(100 * DAY), reason: "retention" };
        assert_eq!(store.retire(&retirement).unwrap(), 1);
    }
    let gaps = store.gaps(0, 99).unwrap();
    assert_eq!(gaps.iter().map(|gap| gap.readings).collect::<Vec<_>>(), [24, 12]);
    assert_eq!((gaps[1].from, gaps[1].to), (at(81 * DAY), at(81 * DAY + 11 * 3600)));
}

fn what_could_not_be_accepted_is_told_with_the_batch_that_came_next(database: &Database) {
    let mut store = database.open();
    append(store.as_mut(), "c", 0, &[reading("a", 0, 1.0)]).unwrap();
    let lost = [gap(1, 5, 70, "spool_full"), gap(6, 7, 3, "disk_low")];
    let batch = Batch { writer: "c", from: 1, to: 2, readings: &[reading("a", 8, 2.0)], gaps: &lost };
    for _ in 0..2 {
        store.append(&batch).unwrap();
        assert_eq!(store.gaps(1, 2).unwrap(), lost, "once, however often it is tried");
    }
    assert_eq!(store.gaps(0, 1).unwrap(), [], "not before that batch is told");
    assert_eq!(store.gaps(2, 9).unwrap(), [], "nor after");

    // Of a batch of which nothing is left.
    let refused = [gap(9, 9, 1, "refused_by_database")];
    store.append(&Batch { writer: "c", from: 2, to: 3, readings: &[], gaps: &refused }).unwrap();
    assert_eq!(store.gaps(1, 2).unwrap(), lost, "whoever is told of these readings alone hears nothing yet");
    append(store.as_mut(), "c", 3, &[reading("a", 10, 3.0)]).unwrap();
    assert_eq!(store.gaps(2, 3).unwrap(), refused, "and with the next one does, although he has everything before");
}

/// What the readings of a tag come to, by the spans that they lie in.
fn summed_up(store: &mut dyn Store, tag: &str, length: i64) -> Vec<(Timestamp, Rollup)> {
    let mut spans: BTreeMap<i64, Rollup> = BTreeMap::new();
    for (_, reading) in all(store).into_iter().filter(|(_, reading)| &*reading.tag == tag) {
        let start = reading.time.as_micros().div_euclid(length) * length;
        spans.entry(start).or_default().add(&Rollup::of(reading.time, reading.value, reading.quality));
    }
    spans.into_iter().map(|(start, rollup)| (Timestamp::from_micros(start).unwrap(), rollup)).collect()
}

const MINUTE: i64 = 60 * 1_000_000;

fn trend(store: &mut dyn Store, tag: &str, seconds: std::ops::Range<i64>, pieces: u32) -> Trend {
    let query = TrendQuery { tag, from: at(seconds.start), to: at(seconds.end), pieces };
    store.trend(query).unwrap().unwrap_or_else(|| panic!("no {tag}"))
}

/// Two writers in turn, late readings, bad ones, batches that are refused or repeated, restarts in between.
fn rollups_come_to_what_the_readings_come_to_whoever_writes(database: &Database) {
    let mut random = StdRng::seed_from_u64(7);
    let (mut live, mut import) = (database.open(), database.open());
    let (mut live_at, mut import_at) = (0, 0);
    for round in 0..400_i64 {
        let of_batch = |random: &mut StdRng, late: i64| -> Vec<Reading> {
            let one = |random: &mut StdRng| {
                let second = round * 20 - random.gen_range(0..=late);
                let quality = [Quality::GOOD, Quality::GOOD, Quality::UNCERTAIN, Quality::BAD][random.gen_range(0..4)];
                let value = random.gen_bool(0.9).then(|| f64::from(random.gen_range(-500..500)) / 7.0);
                Reading { value, quality, ..reading(["a", "b", "c"][random.gen_range(0..3)], second, 0.0) }
            };
            (0..random.gen_range(0..20)).map(|_| one(random)).collect()
        };
        let batch = of_batch(&mut random, 90);
        append(live.as_mut(), "live", live_at, &batch).unwrap();
        live_at += 1;
        if random.gen_bool(0.3) {
            append(import.as_mut(), "import", import_at, &of_batch(&mut random, 9000)).unwrap();
            import_at += 1;
        }
        match random.gen_range(0..12) {
            0 => assert_eq!(append(live.as_mut(), "live", live_at - 1, &batch).unwrap(), Appended::AlreadyStored),
            1 => assert!(append(live.as_mut(), "live", live_at + 1, &batch).is_err()),
            2 => live = database.open(),
            3 => assert!(!import.roll_up().unwrap(), "few at a time"),
            4 => live
                .rehearse(&Batch { writer: "live", from: live_at, to: live_at + 1, readings: &batch, gaps: &[] })
                .unwrap(),
            _ => {}
        }
        if round % 40 == 0 {
            // Some in the rollups, some behind them.
            let (from, to) = (-9000, 8000);
            for tag in ["a", "b", "c"].into_iter().take(if round == 0 { 0 } else { 3 }) {
                assert_eq!(
                    trend(import.as_mut(), tag, from..to, 280).pieces,
                    summed_up(live.as_mut(), tag, MINUTE),
                    "{tag}"
                );
            }
        }
    }
    while live.roll_up().unwrap() {}
    for tag in ["a", "b", "c"] {
        let shown = trend(live.as_mut(), tag, -9000..9000, 280);
        assert_eq!((shown.length, shown.unit.as_deref()), (MINUTE, Some("C")));
        assert_eq!(shown.pieces, summed_up(live.as_mut(), tag, MINUTE), "{tag}");
        let hours = trend(live.as_mut(), tag, -9000..9000, 4);
        assert_eq!(hours.pieces, summed_up(live.as_mut(), tag, hours.length), "{tag}: of any length");
        let fine = trend(live.as_mut(), tag, 0..600, 600);
        assert_eq!(fine.length, 1_000_000);
        let seconds = summed_up(live.as_mut(), tag, 1_000_000);
        let within = |(time, _): &(Timestamp, Rollup)| (at(0)..at(600)).contains(time);
        assert_eq!(fine.pieces, seconds.into_iter().filter(within).collect::<Vec<_>>(), "{tag}: from the readings");
    }
    assert_eq!(live.trend(TrendQuery { tag: "none", from: at(0), to: at(1), pieces: 1 }).unwrap(), None);
}

fn a_trend_loses_no_peak_and_knows_hours_when_minutes_are_gone(database: &Database) {
    let mut store = database.open();
    let day = |day: i64| -> Vec<Reading> {
        let hours = (0..24 * 60).step_by(10);
        hours.map(|minute| reading("a", day * DAY + minute * 60, if minute == 720 { 99.0 } else { 1.0 })).collect()
    };
    for at in 0..40 {
        append(store.as_mut(), "c", at, &day(60 + at as i64)).unwrap();
    }
    let peaks = |trend: &Trend| trend.pieces.iter().filter(|(_, piece)| piece.values.unwrap().maximum == 99.0).count();
    let whole = trend(store.as_mut(), "a", 60 * DAY..100 * DAY, 40);
    assert_eq!((whole.pieces.len(), peaks(&whole)), (41, 40), "it does not begin at midnight");
    assert!(retire(store.as_mut(), u64::MAX, "retention") > 0);
    let after = trend(store.as_mut(), "a", 60 * DAY..100 * DAY, 40);
    assert_eq!(after, whole, "hours stay");
    let tenth = trend(store.as_mut(), "a", 85 * DAY..95 * DAY, 1440);
    assert_eq!(peaks(&tenth), 10, "from hours and minutes");
    assert_eq!(tenth.pieces.iter().map(|(_, piece)| piece.readings).sum::<u64>(), 10 * 144);
    assert_eq!(tenth.pieces.iter().filter(|(start, _)| *start < at(90 * DAY)).count(), 5 * 24);
    assert_eq!(tenth.pieces.iter().filter(|(start, _)| *start >= at(90 * DAY)).count(), 5 * 144);
}

fn history_of_one_tag_is_read_alone(database: &Database) {
    let mut store = database.open();
    for position in 0..5 {
        let second = position as i64 * 10;
        append(store.as_mut(), "c", position, &[reading("a", second, 1.0), reading("b", second + 1, 2.0)]).unwrap();
    }
    let spans = store.spans_between(at(10), at(30)).unwrap();
    assert_eq!(spans, [Span::all(3, 6)]);
    let mut read = Vec::new();
    store
        .read_tag("b", spans[0], &mut |row| read.push((row.seq, row.time, row.value, row.unit.map(str::to_owned))))
        .unwrap();
    let unit = || Some("C".to_owned());
    assert_eq!(read, [(4, at(11), Some(2.0), unit()), (6, at(21), Some(2.0), unit())]);
}
