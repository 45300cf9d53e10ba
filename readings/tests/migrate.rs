//! Migrations on both kinds of database: all or nothing, taken back, and kept from what they may not do.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use private_postgres::{Options, PrivatePostgres};
use protocol::Timestamp;
use readings::migrate::{self, Migration};
use readings::{Batch, Quality, Reading, Schema, Store, StoreError};

fn migration(name: &str, up: &str, down: &str) -> Migration {
    Migration { name: name.into(), up: up.into(), down: Some(down.into()) }
}

fn add_alarms() -> Vec<Migration> {
    vec![
        migration(
            "0002_add_alarms.sql",
            "CREATE TABLE alarms (id integer PRIMARY KEY, text text NOT NULL); INSERT INTO alarms VALUES (1, 'a;b')",
            "DROP TABLE alarms",
        ),
        migration("0003_add_note.sql", "ALTER TABLE tags ADD COLUMN note text", "ALTER TABLE tags DROP COLUMN note"),
    ]
}

fn open_as(url: &str, root: &Path, schema: Option<&str>) -> Result<Box<dyn Store>, StoreError> {
    readings::open_as(url, root, &schema.map_or(Schema::BuiltIn, |schema| Schema::Updated(schema.to_owned())))
}

fn fill(url: &str, root: &Path, schema: Option<&str>, count: u64) {
    let mut store = open_as(url, root, schema).unwrap();
    let from = store.position("collector").unwrap();
    let reading = Reading {
        time: Timestamp::now(),
        tag: "t".into(),
        value: Some(1.0),
        unit: None,
        quality: Quality::GOOD,
        text: None,
    };
    let readings = vec![reading; usize::try_from(count).unwrap()];
    store.append(&Batch { writer: "collector", from, to: from + 1, readings: &readings, gaps: &[] }).unwrap();
}

fn last_seq(url: &str, root: &Path, schema: Option<&str>) -> u64 {
    open_as(url, root, schema).unwrap().head().unwrap().last_seq
}

struct Sqlite {
    _folder: tempfile::TempDir,
    root: PathBuf,
}

impl Sqlite {
    fn with_readings() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        fill("sqlite:plant.db", &root, None, 100);
        Self { _folder: folder, root }
    }

    fn migrate_copy(&self, migrations: &[Migration]) -> Result<migrate::Migrated, StoreError> {
        let copy = self.root.join("copy.db");
        let _ = std::fs::remove_file(&copy);
        migrate::copy_sqlite(&self.root.join("plant.db"), &copy)?;
        migrate::migrate_sqlite(&copy, migrations, "attempt-1")
    }
}

#[test]
fn a_copy_is_migrated_and_the_original_stays_as_it_was() {
    let plant = Sqlite::with_readings();
    // Another connection, with a log of its own that is not written back yet.
    let _reader = readings::open("sqlite:plant.db", &plant.root).unwrap();
    fill("sqlite:plant.db", &plant.root, None, 5);
    let migrated = plant.migrate_copy(&add_alarms()).unwrap();
    assert_eq!(migrated.applied, ["0002_add_alarms.sql", "0003_add_note.sql"]);
    assert_eq!(last_seq("sqlite:copy.db", &plant.root, Some(&migrated.schema)), 105);
    assert_eq!(last_seq("sqlite:plant.db", &plant.root, None), 105);
    fill("sqlite:copy.db", &plant.root, Some(&migrated.schema), 1);
    // Each program opens the schema that is its own, and no other.
    for (url, schema) in [("sqlite:copy.db", None), ("sqlite:plant.db", Some(migrated.schema.as_str()))] {
        assert!(matches!(open_as(url, &plant.root, schema), Err(StoreError::Schema(_))), "{url}");
    }
    // The next update brings them along again, and one of them edited.
    let again = migrate::migrate_sqlite(&plant.root.join("copy.db"), &add_alarms(), "attempt-2").unwrap();
    assert_eq!((again.schema, again.applied), (migrated.schema, Vec::<String>::new()));
    let mut edited = add_alarms();
    edited[0].up += " ";
    let refused = migrate::migrate_sqlite(&plant.root.join("copy.db"), &edited, "attempt-3").unwrap_err();
    assert!(refused.to_string().contains("0002_add_alarms.sql was applied before"), "{refused}");
}

#[test]
fn a_name_in_use_is_never_copied_over() {
    let plant = Sqlite::with_readings();
    for stale in ["copy.db-wal", "copy.db-journal", "copy.db"] {
        std::fs::write(plant.root.join(stale), "stale").unwrap();
        let refused = migrate::copy_sqlite(&plant.root.join("plant.db"), &plant.root.join("copy.db")).unwrap_err();
        assert!(refused.to_string().contains(stale), "{refused}");
        std::fs::remove_file(plant.root.join(stale)).unwrap();
    }
}

#[test]
fn a_sqlite_migration_cannot_leave_its_transaction_or_its_file() {
    let plant = Sqlite::with_readings();
    for (what, text) in [
        ("commit", "CREATE TABLE a (x); COMMIT; CREATE TABLE b (x)"),
        ("rollback", "ROLLBACK"),
        ("savepoint", "SAVEPOINT s"),
        ("attach", "ATTACH 'other.db' AS other"),
        ("vacuum_into", "VACUUM INTO 'other.db'"),
        ("pragma", "PRAGMA journal_mode = DELETE"),
        ("load_extension", "SELECT load_extension('evil')"),
        ("seq", "UPDATE head SET last_seq = last_seq + 1"),
        ("position", "DELETE FROM ingest"),
        ("epoch", "UPDATE epochs SET epoch = 'x'"),
        ("readings", "DELETE FROM readings WHERE seq = 100"),
        ("readings in the middle", "DELETE FROM readings WHERE seq = 50"),
        ("values", "UPDATE readings SET value = 0"),
        ("a trigger", "CREATE TRIGGER t AFTER INSERT ON readings BEGIN DELETE FROM readings WHERE seq = new.seq; END"),
        ("batches", "DROP TABLE batches"),
        ("a huge value", "CREATE TABLE a (x); INSERT INTO a VALUES (zeroblob(900000000))"),
        ("history", "INSERT INTO schema_migrations VALUES ('0009_x.sql', '', 0, NULL)"),
        ("syntax", "CREATE TABLE a (x); CREATE TABEL b"),
    ] {
        let refused = plant.migrate_copy(&[migration("0002_bad.sql", text, "")]);
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{what}: {refused:?}");
        assert!(!plant.root.join("other.db").exists(), "{what}");
    }
    assert_eq!(last_seq("sqlite:plant.db", &plant.root, None), 100);
}

#[test]
fn on_postgresql_a_migration_goes_up_and_back_in_one_transaction_each() {
    let server = PrivatePostgres::start(&Options::default()).unwrap();
    let (url, root) = (server.new_database(), Path::new("."));
    fill(&url, root, None, 100);
    migrate::rehearse(&url, &add_alarms()).unwrap();
    assert_eq!(last_seq(&url, root, None), 100, "a rehearsal leaves nothing");
    let migrated = migrate::up(&url, &add_alarms(), "attempt-1").unwrap();
    assert_eq!(last_seq(&url, root, Some(&migrated.schema)), 100);
    assert!(matches!(readings::open(&url, root), Err(StoreError::Schema(_))));
    assert_eq!(
        migrate::down(&url, "attempt-0", || Ok(add_alarms())).unwrap(),
        Vec::<String>::new(),
        "of another attempt"
    );
    assert_eq!(
        migrate::down(&url, "attempt-1", || Ok(add_alarms())).unwrap(),
        ["0003_add_note.sql", "0002_add_alarms.sql"]
    );
    assert_eq!(migrate::down(&url, "attempt-1", || Ok(add_alarms())).unwrap(), Vec::<String>::new(), "again");
    assert_eq!(last_seq(&url, root, None), 100);
    for (what, up, down) in [
        ("commit", "CREATE TABLE a (x int); COMMIT", ""),
        ("rollback", "ROLLBACK", ""),
        ("savepoint", "SAVEPOINT s", ""),
        ("seq", "UPDATE head SET last_seq = last_seq + 1", "UPDATE head SET last_seq = last_seq - 1"),
        ("readings", "DELETE FROM readings WHERE seq = 100", ""),
        ("readings in the middle", "DELETE FROM readings WHERE seq = 50", ""),
        ("values", "UPDATE readings SET value = 0", ""),
        ("batches", "DROP TABLE batches", "CREATE TABLE batches (a int)"),
        ("no_way_back", "CREATE TABLE a (x int)", "SELECT 1"),
        ("half_a_way_back", "CREATE TABLE a (x int); CREATE INDEX i ON tags (unit)", "DROP TABLE a"),
        ("broken_way_back", "CREATE TABLE a (x int)", "DROP TABLE b"),
        ("syntax", "CREATE TABEL a", ""),
        ("a command on the server", "COPY tags TO PROGRAM 'cat > /dev/null'", ""),
        ("a file of the server", "COPY tags TO '/tmp/plantlink_tags'", ""),
        ("another role", "SET LOCAL ROLE plant; CREATE TABLE a (x int)", "DROP TABLE a"),
        ("another session", "SET SESSION AUTHORIZATION DEFAULT", ""),
        ("a superuser", "CREATE ROLE evil SUPERUSER", "DROP ROLE evil"),
    ] {
        let refused = migrate::rehearse(&url, &[migration("0002_bad.sql", up, down)]);
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{what}: {refused:?}");
    }
    assert_eq!(last_seq(&url, root, None), 100);
    // The tests' user is a superuser; what a migration makes belongs to it all the same.
    migrate::up(&url, &add_alarms(), "attempt-2").unwrap();
    let database = url.rsplit('/').next().unwrap();
    let owner = "SELECT tableowner = current_user FROM pg_tables WHERE tablename = 'alarms'";
    assert_eq!(server.sql(database, owner), "t");
    assert_eq!(server.sql(database, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'plantlink%'"), "0");
}
