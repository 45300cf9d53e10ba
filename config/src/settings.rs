use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::mistake::{self, Mistake, Mistakes};
use crate::root::InstallRoot;

/// `config/config.txt`, each key overridable as `PLANTLINK_<KEY>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub agent_port: u16,
    pub agent_bind: IpAddr,
    pub agent_cert_file: PathBuf,
    pub agent_key_file: PathBuf,
    /// Who may connect; empty: anybody.
    pub agent_allow: Vec<IpNet>,
    pub agent_auth: AuthForms,
    pub auth_attempts_per_minute: NonZeroU32,
    pub server_public_key_file: PathBuf,
    pub update_public_key_file: PathBuf,
    pub update_signatures_required: NonZeroU32,
    pub update_max_bytes: u64,
    pub update_trial: Duration,
    pub update_unbound: Unbound,
    pub spool_max_bytes: u64,
    /// `None`: for ever.
    pub retention_days: Option<NonZeroU32>,
    pub low_disk_reserve_bytes: u64,
    pub portal_port: u16,
    pub portal_bind: IpAddr,
    /// Used where the portal listens at another address than loopback.
    pub portal_cert_file: PathBuf,
    pub portal_key_file: PathBuf,
    pub portal_hosts: Vec<String>,
    pub language: Language,
    /// `None`: no licence is asked for.
    pub license_file: Option<PathBuf>,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    pub metrics_port: u16,
}

/// Which forms of `/auth` are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthForms {
    pub timestamp: bool,
    pub challenge: bool,
}

/// What to do with a package that does not say what it may be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    Allow,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    Ukrainian,
    French,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Windows takes no longer text in an environment.
const LONGEST_TEXT: usize = 30_000;

/// Every key there is, in the order of the default file.
const KEYS: [&str; 26] = [
    "AGENT_PORT",
    "AGENT_BIND",
    "AGENT_CERT_FILE",
    "AGENT_KEY_FILE",
    "AGENT_ALLOW",
    "AGENT_AUTH",
    "AUTH_ATTEMPTS_PER_MINUTE",
    "SERVER_PUBLIC_KEY_FILE",
    "UPDATE_PUBLIC_KEY_FILE",
    "UPDATE_SIGNATURES_REQUIRED",
    "UPDATE_MAX_BYTES",
    "UPDATE_TRIAL_SECONDS",
    "UPDATE_UNBOUND",
    "SPOOL_MAX_BYTES",
    "RETENTION_DAYS",
    "LOW_DISK_RESERVE_BYTES",
    "PORTAL_PORT",
    "PORTAL_BIND",
    "PORTAL_CERT_FILE",
    "PORTAL_KEY_FILE",
    "PORTAL_HOSTS",
    "LANGUAGE",
    "LICENSE_FILE",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "METRICS_PORT",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            agent_port: 9876,
            agent_bind: Ipv4Addr::UNSPECIFIED.into(),
            agent_cert_file: "agent/cert.pem".into(),
            agent_key_file: "agent/key.pem".into(),
            agent_allow: Vec::new(),
            agent_auth: AuthForms { timestamp: true, challenge: true },
            auth_attempts_per_minute: NonZeroU32::new(3).expect("not zero"),
            server_public_key_file: "config/server_public.pem".into(),
            update_public_key_file: "config/update_public.pem".into(),
            update_signatures_required: NonZeroU32::MIN,
            update_max_bytes: 512 << 20,
            update_trial: Duration::from_secs(60),
            update_unbound: Unbound::Allow,
            spool_max_bytes: 1 << 30,
            retention_days: None,
            low_disk_reserve_bytes: 256 << 20,
            portal_port: 8000,
            portal_bind: Ipv4Addr::LOCALHOST.into(),
            portal_cert_file: "portal/cert.pem".into(),
            portal_key_file: "portal/key.pem".into(),
            portal_hosts: Vec::new(),
            language: Language::English,
            license_file: None,
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
            metrics_port: 9877,
        }
    }
}

impl Settings {
    /// Names the variable in which a supervisor hands its children the text of the `config.txt` that it has taken up: a
    /// mistake that was made since does not keep one of them from starting again.
    pub const HANDED_ON: &str = "PLANTLINK_CONFIG_TXT";

    /// Reads what was handed on, or `config/config.txt` of a root; then the environment.
    ///
    /// # Errors
    /// All [`Mistakes`] at once.
    pub fn read(root: &InstallRoot) -> Result<Self, Mistakes> {
        match std::env::var(Self::HANDED_ON) {
            Ok(text) => Self::of_text(root, &text),
            Err(_) => Self::read_file(root).map(|(settings, _)| settings),
        }
    }

    /// What the file and the environment say, and the file's text, for handing on.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_file(root: &InstallRoot) -> Result<(Self, String), Mistakes> {
        let text = Self::text(root)?;
        Ok((Self::of_text(root, &text)?, text))
    }

    fn text(root: &InstallRoot) -> Result<String, Mistakes> {
        let text = mistake::read(&root.config_file())?;
        if text.len() > LONGEST_TEXT || text.contains('\0') {
            let what = format!("has more than {LONGEST_TEXT} bytes, or a zero byte; it is handed on as one text");
            return Err(Mistake { file: root.config_file().display().to_string(), line: None, what }.into());
        }
        Ok(text)
    }

    /// As [`Self::read_file`], with the default in each place where there is a mistake: for whoever looks on from there.
    pub fn read_as_far(root: &InstallRoot) -> (Self, Option<Mistakes>) {
        let file = root.config_file();
        let environment = |name: &str| std::env::var(name).ok();
        match Self::text(root) {
            Err(mistakes) => (Self::default(), Some(mistakes)),
            Ok(text) => {
                let (settings, mistakes) = Self::parse_as_far(&text, &file.display().to_string(), environment);
                (settings, Some(Mistakes(mistakes)).filter(|mistakes| !mistakes.0.is_empty()))
            }
        }
    }

    fn of_text(root: &InstallRoot, text: &str) -> Result<Self, Mistakes> {
        Self::parse(text, &root.config_file().display().to_string(), |name| std::env::var(name).ok())
    }

    fn parse(text: &str, file: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let (settings, mistakes) = Self::parse_as_far(text, file, environment);
        if mistakes.is_empty() { Ok(settings) } else { Err(Mistakes(mistakes)) }
    }

    fn parse_as_far(text: &str, file: &str, environment: impl Fn(&str) -> Option<String>) -> (Self, Vec<Mistake>) {
        let mut settings = Self::default();
        let mut mistakes = Vec::new();
        let mut seen: Vec<(String, usize)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let (at, line) = (at + 1, without_comment(line));
            if line.is_empty() {
                continue;
            }
            let outcome = match line.split_once('=') {
                None => Err("expected KEY = value".to_owned()),
                Some((key, value)) => {
                    let key = key.trim();
                    match seen.iter().find(|(earlier, _)| earlier == key) {
                        Some((_, earlier)) => Err(format!("{key} is set in line {earlier} already")),
                        None => {
                            seen.push((key.to_owned(), at));
                            settings.set(key, value.trim())
                        }
                    }
                }
            };
            if let Err(what) = outcome {
                mistakes.push(Mistake { file: file.to_owned(), line: Some(at), what });
            }
        }
        for key in KEYS {
            let name = format!("PLANTLINK_{key}");
            if let Some(value) = environment(&name)
                && let Err(what) = settings.set(key, value.trim())
            {
                mistakes.push(Mistake { file: format!("environment variable {name}"), line: None, what });
            }
        }
        let ports = [
            ("AGENT_PORT", settings.agent_port),
            ("PORTAL_PORT", settings.portal_port),
            ("METRICS_PORT", settings.metrics_port),
        ];
        for (at, (key, port)) in ports.iter().enumerate() {
            let taken = ports[..at].iter().find(|(_, other)| other == port && *port != 0);
            if let Some((other, _)) = taken {
                let line = seen.iter().find(|(name, _)| name == key).map(|(_, line)| *line);
                let what = format!("{key}: {port} is that of {other} already");
                mistakes.push(Mistake { file: file.to_owned(), line, what });
            }
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        (settings, mistakes)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let name = |what: String| format!("{key}: {what}");
        match key {
            "AGENT_PORT" => self.agent_port = port(value).map_err(name)?,
            "AGENT_BIND" => self.agent_bind = address(value).map_err(name)?,
            "AGENT_CERT_FILE" => self.agent_cert_file = path(value).map_err(name)?,
            "AGENT_KEY_FILE" => self.agent_key_file = path(value).map_err(name)?,
            "AGENT_ALLOW" => self.agent_allow = list(value).map(network).collect::<Result<_, _>>().map_err(name)?,
            "AGENT_AUTH" => self.agent_auth = auth_forms(value).map_err(name)?,
            "AUTH_ATTEMPTS_PER_MINUTE" => self.auth_attempts_per_minute = count(value).map_err(name)?,
            "SERVER_PUBLIC_KEY_FILE" => self.server_public_key_file = path(value).map_err(name)?,
            "UPDATE_PUBLIC_KEY_FILE" => self.update_public_key_file = path(value).map_err(name)?,
            "UPDATE_SIGNATURES_REQUIRED" => self.update_signatures_required = count(value).map_err(name)?,
            "UPDATE_MAX_BYTES" => self.update_max_bytes = bytes(value).map_err(name)?,
            "UPDATE_TRIAL_SECONDS" => self.update_trial = Duration::from_secs(count(value).map_err(name)?.get().into()),
            "UPDATE_UNBOUND" => {
                self.update_unbound =
                    choice(value, &[("allow", Unbound::Allow), ("refuse", Unbound::Refuse)]).map_err(name)?;
            }
            "SPOOL_MAX_BYTES" => self.spool_max_bytes = bytes(value).map_err(name)?,
            "RETENTION_DAYS" if value.is_empty() => self.retention_days = None,
            "RETENTION_DAYS" => self.retention_days = Some(count(value).map_err(name)?),
            "LOW_DISK_RESERVE_BYTES" => self.low_disk_reserve_bytes = bytes(value).map_err(name)?,
            "PORTAL_PORT" => self.portal_port = port(value).map_err(name)?,
            "PORTAL_BIND" => self.portal_bind = address(value).map_err(name)?,
            "PORTAL_CERT_FILE" => self.portal_cert_file = path(value).map_err(name)?,
            "PORTAL_KEY_FILE" => self.portal_key_file = path(value).map_err(name)?,
            "PORTAL_HOSTS" => self.portal_hosts = list(value).map(host).collect::<Result<_, _>>().map_err(name)?,
            "LANGUAGE" => {
                let languages = [("en", Language::English), ("uk", Language::Ukrainian), ("fr", Language::French)];
                self.language = choice(value, &languages).map_err(name)?;
            }
            "LICENSE_FILE" => self.license_file = (!value.is_empty()).then(|| value.into()),
            "LOG_LEVEL" => {
                let levels = [
                    ("error", LogLevel::Error),
                    ("warn", LogLevel::Warn),
                    ("info", LogLevel::Info),
                    ("debug", LogLevel::Debug),
                    ("trace", LogLevel::Trace),
                ];
                self.log_level = choice(value, &levels).map_err(name)?;
            }
            "LOG_FORMAT" => {
                self.log_format =
                    choice(value, &[("text", LogFormat::Text), ("json", LogFormat::Json)]).map_err(name)?
            }
            "METRICS_PORT" => self.metrics_port = port(value).map_err(name)?,
            _ => return Err(format!("unknown key {key}{}", did_you_mean(key))),
        }
        Ok(())
    }
}

/// A `#` begins a comment at a line's start or behind white space, so that values may hold one.
fn without_comment(line: &str) -> &str {
    let comment = line
        .char_indices()
        .find(|(at, character)| *character == '#' && line[..*at].chars().next_back().is_none_or(char::is_whitespace));
    comment.map_or(line, |(at, _)| &line[..at]).trim()
}

fn did_you_mean(key: &str) -> String {
    let upper = key.to_ascii_uppercase();
    let close = KEYS.iter().find(|known| **known == upper || known.contains(&upper) || upper.contains(**known));
    close.map(|known| format!("; did you mean {known}?")).unwrap_or_default()
}

fn port(value: &str) -> Result<u16, String> {
    value.parse().map_err(|_| format!("`{value}` is no port; write a number from 0 (any free one) to 65535"))
}

fn address(value: &str) -> Result<IpAddr, String> {
    value.parse().map_err(|_| format!("`{value}` is no IP address"))
}

fn network(value: &str) -> Result<IpNet, String> {
    let single = || value.parse::<IpAddr>().map(IpNet::from);
    value
        .parse()
        .or_else(|_| single())
        .map_err(|_| format!("`{value}` is no IP address or CIDR range such as 10.1.0.0/16"))
}

/// A name or an address, as it stands in a browser's address line.
fn host(value: &str) -> Result<String, String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:[]".contains(character);
    match value.chars().all(plain) {
        true => Ok(value.to_ascii_lowercase()),
        false => Err(format!(
            "`{value}` is no name of a host; write names and addresses alone, without https:// before them"
        )),
    }
}

fn path(value: &str) -> Result<PathBuf, String> {
    if value.is_empty() { Err("a file name is missing".to_owned()) } else { Ok(value.into()) }
}

fn count(value: &str) -> Result<NonZeroU32, String> {
    value.parse().map_err(|_| format!("`{value}` is no whole number above 0"))
}

/// Plain, or with K, M, G (or KiB, MiB, GiB) for powers of 1024.
fn bytes(value: &str) -> Result<u64, String> {
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match value[digits.len()..].trim() {
        "" => Some(0),
        "K" | "KiB" => Some(10),
        "M" | "MiB" => Some(20),
        "G" | "GiB" => Some(30),
        _ => None,
    };
    let scaled = digits.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
    scaled.ok_or_else(|| format!("`{value}` is no number of bytes; write it plain or with K, M or G"))
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ' ']).map(str::trim).filter(|item| !item.is_empty())
}

fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let known = || choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    choices
        .iter()
        .find(|(word, _)| *word == value)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| format!("`{value}` is none of {}", known()))
}

fn auth_forms(value: &str) -> Result<AuthForms, String> {
    let mut forms = AuthForms { timestamp: false, challenge: false };
    for form in list(value) {
        match form {
            "timestamp" => forms.timestamp = true,
            "challenge" => forms.challenge = true,
            _ => return Err(format!("`{form}` is none of timestamp, challenge")),
        }
    }
    if forms.timestamp || forms.challenge {
        Ok(forms)
    } else {
        Err("nobody could log in; name timestamp, challenge or both".to_owned())
    }
}

impl Language {
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Ukrainian => "uk",
            Self::French => "fr",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, Mistakes> {
        Settings::parse(text, "config.txt", |_| None)
    }

    #[test]
    fn the_default_file_names_every_key_with_its_default() {
        assert_eq!(parse(crate::DEFAULT_CONFIG).unwrap(), Settings::default());
        for key in KEYS {
            assert!(crate::DEFAULT_CONFIG.lines().any(|line| line.starts_with(&format!("{key} ="))), "{key}");
        }
    }

    #[test]
    fn values_and_comments_are_read() {
        let settings =
            parse("AGENT_PORT = 0 # any\nAGENT_ALLOW = 10.1.0.0/16, 192.168.7.9\nUPDATE_MAX_BYTES = 64M\n").unwrap();
        assert_eq!(settings.agent_port, 0);
        assert_eq!(settings.agent_allow.len(), 2);
        assert_eq!(settings.update_max_bytes, 64 << 20);
    }

    #[test]
    fn the_environment_comes_last() {
        let environment = |name: &str| (name == "PLANTLINK_AGENT_PORT").then(|| "1234".to_owned());
        assert_eq!(Settings::parse("AGENT_PORT = 1\n", "config.txt", environment).unwrap().agent_port, 1234);
    }

    #[test]
    fn no_port_is_given_twice() {
        let mistakes = parse("PORTAL_PORT = 9876\nMETRICS_PORT = 0\n").unwrap_err();
        assert_eq!(mistakes.to_string(), "config.txt:1: PORTAL_PORT: 9876 is that of AGENT_PORT already");
        assert!(parse("PORTAL_PORT = 0\nMETRICS_PORT = 0\nAGENT_PORT = 0\n").is_ok());
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let mistakes = parse("AGENT_PROT = 9\n\nagent_port = 1\nMETRICS_PORT = 70000\nLANGUAGE = de\nnonsense\nAGENT_PORT = 1\nAGENT_PORT = 2\n")
            .unwrap_err();
        let lines: Vec<String> = mistakes.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "config.txt:1: unknown key AGENT_PROT",
                "config.txt:3: unknown key agent_port; did you mean AGENT_PORT?",
                "config.txt:4: METRICS_PORT: `70000` is no port; write a number from 0 (any free one) to 65535",
                "config.txt:5: LANGUAGE: `de` is none of en, uk, fr",
                "config.txt:6: expected KEY = value",
                "config.txt:8: AGENT_PORT is set in line 7 already",
            ]
        );
        assert_eq!(
            mistakes.to_string(),
            "config.txt:1: unknown key AGENT_PROT (and 5 more; `watchdog check-config --root DIR` lists them all)"
        );
    }
}
