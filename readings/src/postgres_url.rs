//! `DATABASE_URL` for PostgreSQL: what the library parses, and `sslmode=verify-full` with `sslrootcert`, which it does not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postgres::Config;
use postgres::config::{ChannelBinding, Host, SslMode};
use protocol::tls;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::StoreError;

/// A server that does not answer is given up after this; the caller tries again with growing pauses.
pub const CONNECT: Duration = Duration::from_secs(5);
/// A connection on which nothing is acknowledged for so long is dead (a cable pulled in the middle of a batch).
pub const DEAD: Duration = Duration::from_secs(30);

pub fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://")
        || url.starts_with("postgresql://")
        || url.contains("host=")
        || url.contains("dbname=")
}

/// How to connect, and with which TLS.
pub struct Target {
    pub config: Config,
    pub tls: ClientConfig,
}

/// # Errors
/// [`StoreError::Configuration`], never with the password in it.
pub fn parse(url: &str) -> Result<Target, StoreError> {
    let (mut url, mode) = take(url, "sslmode");
    let root_certificate;
    (url, root_certificate) = take(&url, "sslrootcert");
    check_at_signs(&url)?;
    let mut config: Config = url.parse().map_err(|error: postgres::Error| {
        use std::error::Error as _;
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        StoreError::Configuration(format!("DATABASE_URL is no PostgreSQL URL: {reason}; {ODD_CHARACTERS}"))
    })?;
    if config.get_channel_binding() == ChannelBinding::Require {
        return Err(StoreError::Configuration(
            "DATABASE_URL: channel_binding=require is not known here; sslmode=verify-full protects as well".into(),
        ));
    }
    if config.get_user().is_none()
        && let Ok(user) = whoami::username()
    {
        config.user(&user);
    }
    config.connect_timeout(CONNECT).tcp_user_timeout(DEAD).keepalives_idle(DEAD).application_name("plantlink");
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    let any = || builder.clone().dangerous().with_custom_certificate_verifier(Arc::new(tls::AnyCertificate::new()));
    let tls = match (mode.as_deref(), root_certificate) {
        (None | Some("prefer" | "allow"), None) => any().with_no_client_auth(),
        (Some("disable"), None) => {
            config.ssl_mode(SslMode::Disable);
            any().with_no_client_auth()
        }
        // As libpq has it: encrypted, to whomever.
        (Some("require"), None) => {
            config.ssl_mode(SslMode::Require);
            any().with_no_client_auth()
        }
        (Some("require" | "verify-ca" | "verify-full"), Some(file)) => {
            config.ssl_mode(SslMode::Require);
            builder.with_root_certificates(roots(Path::new(&file))?).with_no_client_auth()
        }
        (Some("verify-ca" | "verify-full"), None) => {
            return Err(StoreError::Configuration(
                "DATABASE_URL asks for a verified certificate; name the authority's file with sslrootcert=FILE".into(),
            ));
        }
        (Some(other), None) => {
            return Err(StoreError::Configuration(format!(
                "DATABASE_URL: sslmode={other} is none of disable, prefer, require, verify-full"
            )));
        }
        (_, Some(_)) => {
            return Err(StoreError::Configuration("DATABASE_URL: sslrootcert goes with sslmode=verify-full".into()));
        }
    };
    Ok(Target { config, tls })
}

const ODD_CHARACTERS: &str =
    "write odd characters of a password percent-encoded (`@` as %40, `/` as %2F, `#` as %23, `%` as %25)";

/// In `user:p@ss@host` the library would take `ss@host` for the host and tell everybody a part of the password.
fn check_at_signs(url: &str) -> Result<(), StoreError> {
    let Some((_, rest)) = url.split_once("://") else { return Ok(()) };
    let authority = rest.split('?').next().unwrap_or_default();
    match authority.matches('@').count() {
        0 | 1 => Ok(()),
        _ => Err(StoreError::Configuration(format!("DATABASE_URL has more than one `@`; {ODD_CHARACTERS}"))),
    }
}

/// Takes one parameter out of a URL's query or a keyword string.
fn take(url: &str, name: &str) -> (String, Option<String>) {
    let (before, query, separator) = match url.split_once('?') {
        Some((before, query)) => (format!("{before}?"), query, '&'),
        None if url.contains("://") => return (url.to_owned(), None),
        None => (String::new(), url, ' '),
    };
    let of_name = |part: &&str| part.split_once('=').is_some_and(|(key, _)| key == name);
    let value =
        query.split(separator).find(of_name).and_then(|part| part.split_once('=')).map(|(_, value)| value.to_owned());
    let rest: Vec<&str> = query.split(separator).filter(|part| !of_name(part)).collect();
    (before + &rest.join(&separator.to_string()), value)
}

fn roots(file: &Path) -> Result<RootCertStore, StoreError> {
    let unusable = |reason: String| {
        StoreError::Configuration(format!("DATABASE_URL: sslrootcert {} cannot be used: {reason}", file.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(unusable("it holds no certificate".into())),
        false => Ok(roots),
    }
}

/// User, host, port and database, without the password.
pub fn shown(url: &str) -> String {
    let Ok(Target { config, .. }) = parse(url) else { return "postgres://…".to_owned() };
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let (user, database) = (config.get_user().unwrap_or_default(), config.get_dbname().unwrap_or_default());
    format!("postgres://{user}@{host}:{port}/{database}")
}

/// A failure to connect, told with [`shown`].
pub fn named(url: &str, error: StoreError) -> StoreError {
    let shown = shown(url);
    match error {
        StoreError::Unreachable(text) => StoreError::Unreachable(format!("{shown}: {text}")),
        StoreError::Configuration(text) => StoreError::Configuration(format!("{shown}: {text}")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_odd_characters_is_understood_and_never_shown() {
        let url = "postgres://plant:p%40%2F%23%25%3A%20ss@db.local:5433/plant?sslmode=require";
        let target = parse(url).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(target.config.get_password(), Some("p@/#%: ss".as_bytes()));
        assert_eq!(target.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(shown(url), "postgres://plant@db.local:5433/plant");
        let words = parse("host=db.local user=plant password='it''s' dbname=plant sslmode=disable");
        assert!(words.is_err() || words.is_ok_and(|target| target.config.get_ssl_mode() == SslMode::Disable));
    }

    #[test]
    fn wrong_urls_are_refused_in_words_without_the_password() {
        for (url, word) in [
            ("postgres://u:secr@t@host/db", "%40"),
            ("postgres://u:secret@host:port/db", "percent-encoded"),
            ("postgres://u:secret@host/db?sslmode=maybe", "sslmode=maybe"),
            ("postgres://u:secret@host/db?channel_binding=require", "verify-full"),
            ("postgres://u:secret@host/db?sslmode=verify-full", "sslrootcert"),
            ("postgres://u:secret@host/db?sslmode=verify-full&sslrootcert=/none", "/none"),
        ] {
            let Err(error) = parse(url) else { panic!("{url}") };
            let text = error.to_string();
            assert!(text.contains(word) && !text.contains("secr"), "{text}");
        }
    }
}
