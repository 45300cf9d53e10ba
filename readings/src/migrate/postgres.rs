use postgres::{Client, GenericClient, Transaction};

use super::{Bearings, EPOCHS, KEPT_TABLES, LAST_SEQ, Migrated, Migration, POSITIONS, READINGS, new_ones};
use crate::error::StoreError;
use crate::migrations::{Applied, schema_of};
use crate::postgres_store;

/// Held by whoever changes the schema, until his transaction is over for good; the number only has to be always the same.
const MIGRATION_LOCK: i64 = 0x706c_616e_746c_6d67;
/// A migration may take long; a lock that it cannot get shortly would only stop everybody else.
const SESSION: &str = "SET synchronous_commit = on; SET lock_timeout = '10s'; SET statement_timeout = '1h';
     SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = warning; SET timezone = 'UTC'";
/// `EXECUTE` refuses `COMMIT`, `ROLLBACK` and `SAVEPOINT`, so a text cannot leave its transaction.
const RUN: &str = "DO $$ BEGIN EXECUTE current_setting('plantlink.migration'); END $$";
/// Everything by which two schemas differ, as text.
const SHAPE: &str = "
    SELECT coalesce(md5(string_agg(line, E'\\n' ORDER BY line)), '') FROM (
        SELECT concat_ws(' ', 'column', table_name, column_name, data_type, udt_name, is_nullable, column_default,
                         character_maximum_length, numeric_precision, is_identity) AS line
          FROM information_schema.columns WHERE table_schema = current_schema()
        UNION ALL SELECT concat_ws(' ', 'table', relkind, relname, reloptions::text) FROM pg_class
          WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'v', 'm', 'S', 'p')
        UNION ALL SELECT concat_ws(' ', 'index', indexdef) FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
          FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
        UNION ALL SELECT concat_ws(' ', 'function', proname, pg_get_function_identity_arguments(oid), prosrc)
          FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
        UNION ALL SELECT concat_ws(' ', 'trigger', tgrelid::regclass, pg_get_triggerdef(oid)) FROM pg_trigger
          WHERE NOT tgisinternal
        UNION ALL SELECT concat_ws(' ', 'view', viewname, definition) FROM pg_views WHERE schemaname = current_schema()
    ) AS lines";

/// What has been applied to the database.
///
/// # Errors
/// [`StoreError`].
pub fn applied(url: &str) -> Result<Applied, StoreError> {
    postgres_store::applied(&mut open(url)?)
}

/// Up, and down again, in a transaction that is rolled back: whether `down` is a way back is known before `up` is run.
///
/// # Errors
/// [`StoreError`]; the database is as it was in any case.
pub fn rehearse(url: &str, migrations: &[Migration]) -> Result<(), StoreError> {
    let mut client = open(url)?;
    // The collector stores meanwhile; what it adds must not look like the migration's doing.
    client.batch_execute("SET default_transaction_isolation = 'repeatable read'")?;
    let mut transaction = begin(&mut client)?;
    let applied = postgres_store::applied(&mut transaction)?;
    let new = new_ones(migrations, &applied)?;
    let (before, shape) = (bearings(&mut transaction)?, shape(&mut transaction)?);
    for migration in &new {
        run(&mut transaction, &migration.name, &migration.up)?;
    }
    check_kept(&mut transaction)?;
    before.check_unchanged(&bearings(&mut transaction)?)?;
    for migration in new.iter().rev() {
        run(&mut transaction, &format!("{} (down)", migration.name), migration.down.as_deref().unwrap_or_default())?;
    }
    // A way back leaves the readings alone as well.
    check_kept(&mut transaction)?;
    before.check_unchanged(&bearings(&mut transaction)?)?;
    if self::shape(&mut transaction)? != shape {
        return Err(StoreError::Refused("the down migrations do not take back what the migrations do".into()));
    }
    Ok(transaction.rollback()?)
}

/// Migrates in one transaction, whose rows name the attempt.
///
/// # Errors
/// [`StoreError`]; of an unreachable database it is not known what became of it, and [`down`] finds out.
pub fn up(url: &str, migrations: &[Migration], attempt: &str) -> Result<Migrated, StoreError> {
    let mut client = open(url)?;
    let mut transaction = begin(&mut client)?;
    let mut applied = postgres_store::applied(&mut transaction)?;
    let before = bearings(&mut transaction)?;
    let mut names = Vec::new();
    for migration in new_ones(migrations, &applied.clone())? {
        run(&mut transaction, &migration.name, &migration.up)?;
        check_kept(&mut transaction)?;
        transaction.execute(
            "INSERT INTO schema_migrations (name, sha256, attempt, down) VALUES ($1, $2, $3, $4)",
            &[&migration.name, &migration.sha256(), &attempt, &migration.down],
        )?;
        applied.insert(migration.name.clone(), migration.sha256());
        names.push(migration.name.clone());
    }
    before.check_unchanged(&bearings(&mut transaction)?)?;
    if postgres_store::applied(&mut transaction)? != applied {
        return Err(StoreError::Refused("a migration changes schema_migrations".into()));
    }
    commit(transaction)?;
    Ok(Migrated { schema: schema_of(&applied), applied: names })
}

/// Takes back what this attempt has applied, if it has, and returns the names. Only then it asks for the migrations.
///
/// Waits for a backend that may still be committing it: that one holds the lock.
///
/// # Errors
/// [`StoreError`]; then it has to be asked again.
pub fn down(
    url: &str,
    attempt: &str,
    migrations: impl FnOnce() -> Result<Vec<Migration>, StoreError>,
) -> Result<Vec<String>, StoreError> {
    let mut client = open(url)?;
    let mut transaction = begin(&mut client)?;
    let rows =
        transaction.query("SELECT name FROM schema_migrations WHERE attempt = $1 ORDER BY name DESC", &[&attempt])?;
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let migrations = if names.is_empty() { Vec::new() } else { migrations()? };
    for name in &names {
        let down = migrations.iter().find(|migration| migration.name == *name).and_then(|found| found.down.as_deref());
        let down = down.ok_or_else(|| StoreError::Schema(format!("there is no way back from migration {name}")))?;
        run(&mut transaction, &format!("{name} (down)"), down)?;
        transaction.execute("DELETE FROM schema_migrations WHERE name = $1", &[name])?;
    }
    commit(transaction)?;
    Ok(names)
}

/// How far [`undo`] goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Until the schema is this one ([`schema_of`]).
    Schema(String),
    /// As long as the newest is one of these.
    Without(Vec<String>),
}

/// Takes back, newest first and in one transaction, what updates have applied, and returns the names. The way back of each
/// was kept beside its name. A rehearsal does the same and rolls it back.
///
/// # Errors
/// [`StoreError`]; then nothing is taken back.
pub fn undo(url: &str, target: &Target, rehearsal: bool) -> Result<Vec<String>, StoreError> {
    let mut client = open(url)?;
    let mut transaction = begin(&mut client)?;
    let mut applied = postgres_store::applied(&mut transaction)?;
    let before = bearings(&mut transaction)?;
    let rows = transaction.query(
        "SELECT name, down FROM schema_migrations WHERE attempt IS NOT NULL ORDER BY applied_at DESC, name DESC",
        &[],
    )?;
    let mut names = Vec::new();
    for row in rows {
        let (name, down): (String, Option<String>) = (row.get(0), row.get(1));
        let is_there = match target {
            Target::Schema(schema) => *schema == schema_of(&applied),
            Target::Without(names) => !names.contains(&name),
        };
        if is_there {
            break;
        }
        let down = down.ok_or_else(|| StoreError::Schema(format!("there is no way back from migration {name}")))?;
        run(&mut transaction, &format!("{name} (down)"), &down)?;
        transaction.execute("DELETE FROM schema_migrations WHERE name = $1", &[&name])?;
        applied.remove(&name);
        names.push(name);
    }
    if matches!(target, Target::Schema(schema) if *schema != schema_of(&applied)) {
        return Err(StoreError::Schema("no way back leads to the schema of that version".into()));
    }
    check_kept(&mut transaction)?;
    before.check_unchanged(&bearings(&mut transaction)?)?;
    if rehearsal {
        transaction.rollback()?
    } else {
        commit(transaction)?
    }
    Ok(names)
}

fn open(url: &str) -> Result<Client, StoreError> {
    let mut client = postgres_store::connect(url)?;
    client.batch_execute(SESSION)?;
    Ok(client)
}

fn begin(client: &mut Client) -> Result<Transaction<'_>, StoreError> {
    let mut transaction = client.transaction()?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK])?;
    Ok(transaction)
}

/// Durable, whatever a migration has set for its transaction.
fn commit(mut transaction: Transaction<'_>) -> Result<(), StoreError> {
    transaction.batch_execute("SET LOCAL synchronous_commit = on")?;
    Ok(transaction.commit()?)
}

/// Runs one text. Nothing in it may be done as a superuser: `COPY … TO PROGRAM` would run commands on the server.
fn run(transaction: &mut Transaction<'_>, name: &str, text: &str) -> Result<(), StoreError> {
    // An empty text is no mistake: a migration that only inserts may have nothing to take back.
    if text.trim().is_empty() {
        return Ok(());
    }
    transaction.execute("SELECT set_config('plantlink.migration', $1, true)", &[&text])?;
    let is_superuser: bool =
        transaction.query_one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", &[])?.get(0);
    let outcome = if is_superuser { run_lowered(transaction) } else { transaction.batch_execute(RUN) };
    outcome.map_err(|error| match StoreError::from(error) {
        StoreError::Unreachable(text) => StoreError::Unreachable(text),
        StoreError::Disk(text) => StoreError::Disk(text),
        other => StoreError::Refused(format!("migration {name}: {other}")),
    })
}

/// As a role that may do to the plant's tables what their owner may, and nothing that only superusers may: membership gives
/// rights to what is owned, not the attribute. Inside a function of that role the role cannot be left. All of it lives
/// and ends in the transaction.
fn run_lowered(transaction: &mut Transaction<'_>) -> Result<(), postgres::Error> {
    transaction.batch_execute(
        "DO $$ DECLARE owner text := current_user; BEGIN
             EXECUTE 'CREATE ROLE plantlink_migration NOLOGIN NOSUPERUSER';
             EXECUTE format('GRANT %I TO plantlink_migration', owner);
         END $$;
         CREATE FUNCTION pg_temp.plantlink_run() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
             AS $$ BEGIN EXECUTE current_setting('plantlink.migration'); END $$;
         ALTER FUNCTION pg_temp.plantlink_run() OWNER TO plantlink_migration;
         SELECT pg_temp.plantlink_run();
         DROP FUNCTION pg_temp.plantlink_run();
         DO $$ BEGIN
             EXECUTE format('REASSIGN OWNED BY plantlink_migration TO %I', current_user);
             EXECUTE 'DROP OWNED BY plantlink_migration';
             EXECUTE 'DROP ROLE plantlink_migration';
         END $$;",
    )
}

/// PostgreSQL counts what a transaction has done to each table; a trigger or a rule would do it later.
fn check_kept(client: &mut impl GenericClient) -> Result<(), StoreError> {
    let kept: Vec<&str> = KEPT_TABLES.iter().copied().filter(|table| *table != "schema_migrations").collect();
    let touched: i64 = client
        .query_one(
            "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint
               + (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal
                  AND tgrelid IN (SELECT relid FROM pg_stat_xact_user_tables WHERE relname = ANY ($1)))
               + (SELECT count(*) FROM pg_rules WHERE tablename = ANY ($1) AND schemaname = current_schema())
             FROM pg_stat_xact_user_tables WHERE relname = ANY ($1) AND schemaname = current_schema()",
            &[&kept],
        )?
        .get(0);
    match touched {
        0 => Ok(()),
        _ => Err(StoreError::Refused("the migration changes rows of readings, or of what orders them".into())),
    }
}

fn shape(client: &mut impl GenericClient) -> Result<String, StoreError> {
    Ok(client.query_one(SHAPE, &[])?.get(0))
}

pub fn bearings(client: &mut impl GenericClient) -> Result<Bearings, StoreError> {
    let mut pairs = |query: &str| -> Result<Vec<(String, i64)>, StoreError> {
        Ok(client.query(query, &[])?.iter().map(|row| (row.get(0), row.get(1))).collect())
    };
    let (epochs, positions) = (pairs(EPOCHS)?, pairs(POSITIONS)?);
    let readings = client.query_one(READINGS, &[])?;
    Ok(Bearings {
        last_seq: client.query_one(LAST_SEQ, &[])?.get(0),
        epochs,
        positions,
        readings: (readings.get(0), readings.get(1)),
    })
}
