//! What the machine's administrator looks for in the event log of Windows: starts, stops and ends of the service, under its
//! name in "Application". All else is in `logs/`.

use protocol::Failure;
use winsafe::co::{EVENTLOG, KEY, REG_OPTION};
use winsafe::{HEVENTLOG, HKEY, RegistryValue};

/// Sources of the log "Application".
const SOURCES: &str = r"SYSTEM\CurrentControlSet\Services\EventLog\Application";
/// A program of Windows whose messages 1 to 1000 are what is reported and nothing else. One of ours would be held open by
/// whoever looks at the log, and could not be replaced meanwhile.
const MESSAGES: &str = r"%SystemRoot%\System32\EventCreate.exe";
/// Errors, warnings and information.
const TYPES: u32 = 7;

/// An event's id is its number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Started = 1,
    Stopped = 2,
    /// By itself, which it does only if something is wrong.
    Ended = 3,
}

/// Makes the service a source, so that the log shows its events as they are.
///
/// # Errors
/// Without an administrator's rights.
pub fn install(service: &str) -> Result<(), Failure> {
    let key = format!(r"{SOURCES}\{service}");
    let made = HKEY::LOCAL_MACHINE.RegCreateKeyEx(&key, None, REG_OPTION::NON_VOLATILE, KEY::SET_VALUE, None);
    let written = made.and_then(|(key, _)| {
        key.RegSetValueEx(Some("EventMessageFile"), RegistryValue::ExpandSz(MESSAGES.to_owned()))?;
        key.RegSetValueEx(Some("TypesSupported"), RegistryValue::Dword(TYPES))
    });
    written.map_err(|error| Failure::failed(format!("could not make {service} a source of the event log: {error}")))
}

/// It is one no longer; what it has reported stays.
///
/// # Errors
/// As [`install`].
pub fn uninstall(service: &str) -> Result<(), Failure> {
    let key = format!(r"{SOURCES}\{service}");
    match HKEY::LOCAL_MACHINE.RegDeleteTree(Some(&key)) {
        Ok(()) | Err(winsafe::co::ERROR::FILE_NOT_FOUND) => Ok(()),
        Err(error) => Err(Failure::failed(format!("could not take {service} out of the event log: {error}"))),
    }
}

/// Reports an event of the service. A log that does not take it keeps nothing from running.
pub fn report(service: &str, event: Event, text: &str) {
    let kind = if event == Event::Ended { EVENTLOG::ERROR_TYPE } else { EVENTLOG::INFORMATION_TYPE };
    // A NUL would end the text.
    let text: String = text.chars().filter(|it| *it != '\0').collect();
    let reported = HEVENTLOG::RegisterEventSource(None, service)
        .and_then(|log| log.ReportEvent(kind, 0, event as u32, None, &[&text], &[]));
    if let Err(error) = reported {
        tracing::warn!(%error, text, "not taken by the event log");
    }
}
