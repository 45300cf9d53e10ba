//! `watchdog move-database`: from SQLite to PostgreSQL, on site, while nothing runs. What the collector has spooled stays in
//! the spool and goes into the new database; HQ's next pull goes on where the last one ended.

use config::{Credentials, InstallRoot};
use durable::{Access, Lock};
use indicatif::{ProgressBar, ProgressStyle};
use protocol::Failure;
use readings::migrate::{Moved, to_postgres};
use readings::{Place, Schema};
use updater::boot_record::Phase;
use updater::database::ActiveDatabase;
use updater::settle;

use crate::on_site::{require_own_credentials, stopped};

/// Copies everything in one transaction, then names the new database in `config/credentials.env`. Killed in between, it is
/// called again and finds what was done.
///
/// # Errors
/// A watchdog that runs, an update under way, a database that is not empty; then everything is as it was.
pub fn move_database(root: &InstallRoot, to: &str) -> Result<(), Failure> {
    let _only = stopped(root)?;
    require_own_credentials()?;
    let _no_import = Lock::take(&root.database_lock())
        .map_err(|_| Failure::try_later("an import is running; let it end, then call this again"))?;
    if settle::read(root)?.phase != Phase::Committed {
        return Err(Failure::try_later(
            "an update is under way; start the watchdog, let it come to its end, and stop it again",
        ));
    }
    let file = root.credentials_file();
    let mut credentials = Credentials::read_file(&file)?;
    if credentials.database_url.as_deref() == Some(to) {
        println!("{} is the database of this plant PC already", readings::shown_url(to));
        return Ok(());
    }
    let from = ActiveDatabase::of(root)?;
    let Place::Sqlite(path) = readings::place(&from.url, root.path())? else {
        return Err(Failure::usage(
            "the readings are in PostgreSQL already; a dump of it is restored with pg_restore, and a new epoch begins by itself",
        ));
    };
    if readings::place(to, root.path())? != Place::Postgres {
        return Err(Failure::usage(format!("{} is no PostgreSQL database", readings::shown_url(to))));
    }
    from.open(root.path())?;
    if readings::open_as(&from.url, root.path(), &Schema::BuiltIn).is_err() {
        return Err(Failure::failed(
            "updates have changed the database since it was made; only one that no update has changed can be moved",
        ));
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} readings {per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let moved = to_postgres(&path, to, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let moved = moved.map_err(|error| {
        let failure = Failure::from(error);
        Failure { message: format!("{}: {}", readings::shown_url(to), failure.message), ..failure }
    })?;
    credentials.database_url = Some(to.to_owned());
    durable::replace(&file, credentials.to_text().as_bytes(), Access::Private)?;
    match moved {
        Moved::Readings(readings) => println!("{readings} readings are now in {}", readings::shown_url(to)),
        Moved::Already => println!("all readings were in {} already", readings::shown_url(to)),
    }
    println!("{} stays as it is, and nothing uses it any more; now start the service", path.display());
    Ok(())
}
