//! What holds for every request and every response, whatever the page.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use daemon::server::Peer;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::Portal;
use crate::client::PIN_HEADER;
use crate::language::words;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// Checks inside, headers outside: a refusal carries them too.
pub fn guard(routes: Router, portal: Arc<Portal>) -> Router {
    routes
        .layer(from_fn(bound_the_body))
        .layer(from_fn(refuse_foreign_sites))
        .layer(from_fn_with_state(portal.clone(), insist_on_tls))
        .layer(from_fn_with_state(portal, refuse_foreign_hosts))
        .layer(map_response(add_headers))
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
async fn refuse_foreign_hosts(
    State(portal): State<Arc<Portal>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let know = |authority| portal.hosts.know(authority, peer.local.ip());
    // A request line with a whole URL names a host of its own.
    let target = request.uri().authority().map(Authority::as_str);
    if host(request.headers()).is_some_and(know) && target.is_none_or(know) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, format!("{}\n", words(portal.language).foreign_host)).into_response()
}

/// Half a question is no question: a body ends after this, whole or not.
const BODY_WITHIN: Duration = Duration::from_secs(10);

async fn bound_the_body(request: Request, next: Next) -> Response {
    let in_time = |body: Body| Body::from_stream(body.into_data_stream().take_until(tokio::time::sleep(BODY_WITHIN)));
    next.run(if request.method().is_safe() { request } else { request.map(in_time) }).await
}

/// Other machines are sent to the same address by TLS; what would have carried a PIN already is refused.
async fn insist_on_tls(
    State(portal): State<Arc<Portal>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if !portal.on_network || peer.secure || peer.is_here() {
        return next.run(request).await;
    }
    let path = request.uri().path_and_query().map(PathAndQuery::as_str).filter(|path| path.starts_with('/'));
    let path = path.unwrap_or("/");
    let address = host(request.headers()).map(|host| format!("https://{host}{path}"));
    match address.and_then(|address| HeaderValue::from_str(&address).ok()) {
        Some(address) if request.method().is_safe() && !request.headers().contains_key(PIN_HEADER) => {
            // Not for ever: the portal may listen on this machine alone again.
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, address)]).into_response()
        }
        _ => (StatusCode::FORBIDDEN, Json(json!({ "error": "https only" }))).into_response(),
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// A foreign site may have a browser here post a form to the portal, with its cookies. It can neither say JSON without
/// being asked first nor hide where it is from.
async fn refuse_foreign_sites(Extension(peer): Extension<Peer>, request: Request, next: Next) -> Response {
    let refusal = if request.method().is_safe() { None } else { foreign(request.headers(), peer.secure) };
    match refusal {
        None => next.run(request).await,
        Some(why) => (StatusCode::FORBIDDEN, Json(json!({ "error": why }))).into_response(),
    }
}

fn foreign(headers: &HeaderMap, secure: bool) -> Option<&'static str> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default().to_ascii_lowercase());
    let media_type = text("content-type").unwrap_or_default();
    if media_type.split(';').next().is_none_or(|media_type| media_type.trim() != "application/json") {
        return Some("content type is not application/json");
    }
    let host = text("host").unwrap_or_default();
    // Whoever is on the way can be this host without TLS.
    let here = format!("{}://{host}", if secure { "https" } else { "http" });
    let elsewhere = text("origin").is_some_and(|origin| origin != here);
    let cross_site = text("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    (elsewhere || cross_site).then_some("cross-site request")
}

/// The names under which a browser may ask.
pub struct KnownHosts(Vec<String>);

impl KnownHosts {
    pub fn new(bound: IpAddr, named: &[String]) -> Self {
        let always = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned(), bracketed(bound)];
        let named = named.iter().filter_map(|name| match name.parse() {
            Ok(address) => Some(bracketed(address)),
            Err(_) => host_of(name),
        });
        Self(always.into_iter().chain(named).collect())
    }

    /// Whatever the port. The address that was asked is no name that somebody could have pointed here.
    fn know(&self, authority: &str, asked: IpAddr) -> bool {
        host_of(authority).is_some_and(|host| self.0.contains(&host) || host == bracketed(asked))
    }
}

/// As it stands in a URL.
fn bracketed(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
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
    fn only_json_from_this_very_host_may_change_anything() {
        let judge = |headers: &[(&'static str, &'static str)]| {
            let all = [("host", "plant:8000"), ("content-type", "application/json; charset=utf-8")];
            let pairs = all.iter().chain(headers);
            let pair = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            let mut headers = HeaderMap::new();
            pairs.map(pair).for_each(|(name, value)| _ = headers.insert(name, value));
            [false, true].map(|secure| foreign(&headers, secure))
        };
        let cross = Some("cross-site request");
        assert_eq!(judge(&[("origin", "http://Plant:8000")]), [None, cross]);
        assert_eq!(judge(&[("origin", "https://plant:8000")]), [cross, None]);
        assert_eq!(judge(&[("sec-fetch-site", "same-origin")]), [None, None]);
        for foreign in ["null", "", "http://plant", "http://plant:80001", "http://x@plant:8000", "file://plant:8000"] {
            assert_eq!(judge(&[("origin", foreign)]), [cross, cross], "{foreign}");
        }
        for media_type in ["", "text/plain", "application/json5", "text/plain; application/json"] {
            assert!(judge(&[("content-type", media_type)]).iter().all(Option::is_some), "{media_type}");
        }
    }

    #[test]
    fn only_known_names_are_answered_whatever_the_port() {
        let hosts = KnownHosts::new([0, 0, 0, 0].into(), &["plant-pc.local".to_owned(), "fe80::1".to_owned()]);
        let asked = [127, 0, 0, 5].into();
        for known in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:1",
            "[::1]:8000",
            "127.0.0.5:8000",
            "Plant-PC.local:8000",
            "[fe80::1]",
        ] {
            assert!(hosts.know(known, asked), "{known}");
        }
        for foreign in
            ["", "evil.example", "localhost.evil.example:8000", "localhost@evil.example", "x@localhost", "127.0.0.6"]
        {
            assert!(!hosts.know(foreign, asked), "{foreign}");
        }
    }
}
