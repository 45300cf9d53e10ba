//! Many plants, so many at a time. Each has a thread of its own, and none waits for another's slow answer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use protocol::{Exit, Failure};
use serde::Deserialize;
use toml::Spanned;

use super::archive;
use super::report::{self, Progress};
use super::{Done, Plant, Pull, Show, Tools};

/// `fleet.toml`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fleet {
    #[serde(rename = "plant", default)]
    plants: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    client_id: String,
    host: String,
    port: Option<u16>,
    fingerprint: Option<String>,
}

/// Reads a fleet file. Of `only` each has to be in it; without any all are meant.
///
/// # Errors
/// With exit code 78: every mistake with its line.
fn read(file: &Path, only: &[String]) -> Result<Vec<Plant>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::configuration(format!("could not read {}: {error}", file.display())))?;
    let line = |span: &Range<usize>| text.get(..span.start).unwrap_or(&text).matches('\n').count() + 1;
    let wrong = |line: usize, what: &str| Failure::configuration(format!("{}:{line}: {what}", file.display()));
    let fleet: Fleet = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(1, |span| line(&span));
        wrong(at, error.message())
    })?;
    let mut lines = BTreeMap::new();
    let mut plants = Vec::new();
    for entry in fleet.plants {
        let at = line(&entry.span());
        let Entry { client_id, host, port, fingerprint } = entry.into_inner();
        if let Err(what) = archive::check_client_id(&client_id) {
            return Err(wrong(at, &format!("client_id {what}")));
        }
        if host.trim().is_empty() {
            return Err(wrong(at, &format!("host of `{client_id}` is empty")));
        }
        if let Some(before) = lines.insert(archive::folder_of(&client_id), at) {
            return Err(wrong(at, &format!("client_id `{client_id}` is that of line {before} already")));
        }
        let fingerprint = match fingerprint.as_deref().map(super::parse_fingerprint).transpose() {
            Err(error) => return Err(wrong(at, &format!("fingerprint of `{client_id}`: {error}"))),
            Ok(fingerprint) => fingerprint,
        };
        let port = port.unwrap_or(protocol::session::DEFAULT_PORT);
        plants.push(Plant { host, port, client_id, fingerprint });
    }
    if plants.is_empty() {
        return Err(wrong(1, "there is no [[plant]] with client_id and host"));
    }
    if let Some(strange) = only.iter().find(|id| plants.iter().all(|plant| plant.client_id != **id)) {
        return Err(Failure::usage(format!("{} has no plant `{strange}`", file.display())));
    }
    plants.retain(|plant| only.is_empty() || only.contains(&plant.client_id));
    Ok(plants)
}

/// Pulls from the plants of a file, `parallel` at a time, and shows what came of each.
///
/// # Errors
/// A mistake in the file; with the highest exit code of any plant, if not all went well.
pub fn pull_fleet(wish: &Pull, file: &Path, only: &[String], parallel: usize, show: Show) -> Result<(), Failure> {
    let read = read(file, only).and_then(|plants| Ok((plants, Tools::read(wish)?)));
    let (plants, tools) = read.inspect_err(|failure| report::show_failure(failure, show))?;
    let bar = if show == Show::Table { ProgressBar::new(plants.len() as u64) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} plants {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<BTreeMap<usize, (Done, Option<Failure>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..parallel.clamp(1, plants.len()) {
            scope.spawn(|| {
                while let Some((number, plant)) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    plants.get(number).map(|plant| (number, plant))
                } {
                    let pull = Pull { plant: plant.clone(), ..wish.clone() };
                    let progress = Progress::one_of_many(show, &plant.client_id, &bar);
                    let mut done = Done::default();
                    let failure = super::block_on(super::run(&pull, &tools, &progress, &mut done)).err();
                    if show == Show::Json {
                        report::show(plant, &done, failure.as_ref(), show);
                    }
                    let mut outcomes = outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    outcomes.insert(number, (done, failure));
                    let failed = outcomes.values().filter(|(_, failure)| failure.is_some()).count();
                    if failed > 0 {
                        bar.set_message(format!("{failed} failed"));
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let all: Vec<(&Plant, &Done, Option<&Failure>)> =
        outcomes.iter().map(|(number, (done, failure))| (&plants[*number], done, failure.as_ref())).collect();
    if show == Show::Table {
        println!("{}", report::fleet_table(&all, wish.status_only));
    }
    worst(&all)
}

/// The highest exit code, and whose it is.
fn worst(all: &[(&Plant, &Done, Option<&Failure>)]) -> Result<(), Failure> {
    let failed: Vec<(&Plant, &Failure)> =
        all.iter().filter_map(|(plant, _, failure)| Some((*plant, (*failure)?))).collect();
    let Some((plant, worst)) = failed.iter().max_by_key(|(_, failure)| failure.exit) else { return Ok(()) };
    let ids: Vec<&str> = failed.iter().map(|(plant, _)| plant.client_id.as_str()).collect();
    let exit = if worst.exit == Exit::Done { Exit::Failed } else { worst.exit };
    let what = format!(
        "{} of {} plants failed: {}; the worst is {}: {}",
        failed.len(),
        all.len(),
        ids.join(", "),
        plant.client_id,
        worst.message
    );
    Err(Failure { exit, message: what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, only: &[String]) -> Result<Vec<Plant>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.toml");
        std::fs::write(&file, text).unwrap();
        read(&file, only)
    }

    #[test]
    fn a_fleet_is_read_and_every_mistake_has_its_line() {
        let two = "# the north\n[[plant]]\nclient_id = \"a\"\nhost = \"a.example\"\n\n[[plant]]\nclient_id = \"b\"\n\
                   host = \"b.example\"\nport = 9000\nfingerprint = \"AB:CD\"\n";
        let good = two.replace("AB:CD", &"0a".repeat(32));
        let plants = read_text(&good, &[]).unwrap();
        assert_eq!((plants.len(), plants[0].port, plants[1].port), (2, 9876, 9000));
        assert_eq!(read_text(&good, &["b".to_owned()]).unwrap()[0].client_id, "b");
        let message = |text: &str| {
            let failure = read_text(text, &[]).unwrap_err();
            assert_eq!(failure.exit, Exit::Configuration);
            failure.message
        };
        assert!(message(two).contains(":6: fingerprint of `b`"), "{}", message(two));
        assert!(message(&good.replace("\"b\"", "\"a\"")).contains("fleet.toml:6: client_id `a` is that of line 2"));
        let unknown = message(&good.replace("port", "prot"));
        assert!(unknown.contains("fleet.toml:9: unknown field `prot`"), "{unknown}");
        assert!(message("").contains("no [[plant]]"));
        assert!(message(&good.replace("\"b\"", "\"../b\"")).contains(":6: client_id `../b` must be"));
        assert!(message(&good.replace("b.example", " ")).contains(":6: host of `b` is empty"));
        assert_eq!(read_text(&good, &["c".to_owned()]).unwrap_err().exit, Exit::Usage);
    }
}
