//! What holds for every request and every response, whatever the page.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};

use crate::Portal;
use crate::language::words;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// Host check inside, headers outside: a refusal carries them too.
pub fn guard(routes: Router, portal: Arc<Portal>) -> Router {
    routes.layer(from_fn_with_state(portal, refuse_foreign_hosts)).layer(map_response(add_headers))
}

async fn add_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.extend(HEADERS);
    // Only assets, which have their content's hash in their address, say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A foreign site may point its own name at 127.0.0.1 and have a browser here ask for it (DNS rebinding). Such a
/// request carries that name.
async fn refuse_foreign_hosts(State(portal): State<Arc<Portal>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // A request line with a whole URL names a host of its own.
    let target = request.uri().authority().map(Authority::as_str);
    if host.is_some_and(|host| portal.hosts.know(host)) && target.is_none_or(|target| portal.hosts.know(target)) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, format!("{}\n", words(portal.language).foreign_host)).into_response()
}

/// The names under which a browser may ask.
pub struct KnownHosts(Vec<String>);

impl KnownHosts {
    pub fn new(bound: IpAddr, named: &[String]) -> Self {
        let bound = match bound {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let always = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned(), bound];
        let named = named.iter().filter_map(|name| match name.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => Some(format!("[{address}]")),
            _ => host_of(name),
        });
        Self(always.into_iter().chain(named).collect())
    }

    /// Whatever the port.
    fn know(&self, authority: &str) -> bool {
        host_of(authority).is_some_and(|host| self.0.contains(&host))
    }
}

/// The host in `host:port`, lower-case; `None` for what is no authority or names a user.
fn host_of(authority: &str) -> Option<String> {
    let parsed: Authority = authority.parse().ok()?;
    (!authority.contains('@')).then(|| parsed.host().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_answered_whatever_the_port() {
        let hosts = KnownHosts::new([127, 0, 0, 5].into(), &["plant-pc.local".to_owned(), "fe80::1".to_owned()]);
        for known in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:1",
            "[::1]:8000",
            "127.0.0.5:8000",
            "Plant-PC.local:8000",
            "[fe80::1]",
        ] {
            assert!(hosts.know(known), "{known}");
        }
        for foreign in
            ["", "evil.example", "localhost.evil.example:8000", "localhost@evil.example", "x@localhost", "127.0.0.6"]
        {
            assert!(!hosts.know(foreign), "{foreign}");
        }
    }
}
