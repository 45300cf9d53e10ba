//! Who looks: the language that this browser has chosen, or else the plant's.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use config::Language;
use serde::Deserialize;

use crate::Portal;
use crate::language::{LANGUAGES, Words, words};
use crate::query::Query;

const COOKIE: &str = "language";

#[derive(Clone, Copy)]
pub struct Visitor {
    pub language: Language,
}

impl Visitor {
    pub fn of(headers: &HeaderMap, portal: &Portal) -> Self {
        Self { language: chosen(headers).unwrap_or(portal.language) }
    }

    pub fn words(self) -> &'static Words {
        words(self.language)
    }
}

impl FromRequestParts<Arc<Portal>> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, portal))
    }
}

fn chosen(headers: &HeaderMap) -> Option<Language> {
    cookie(headers, COOKIE).and_then(by_code)
}

pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(other, _)| *other == name).map(|(_, value)| value)
}

fn by_code(code: &str) -> Option<Language> {
    LANGUAGES.into_iter().find(|language| language.code() == code)
}

#[derive(Deserialize)]
pub struct Choice {
    to: String,
    #[serde(default)]
    back: String,
}

/// Remembers a language for this browser and goes back to where it was chosen.
pub async fn choose_language(Query(choice): Query<Choice>) -> impl IntoResponse {
    let back = if is_own_path(&choice.back) { choice.back } else { "/".to_owned() };
    let mut headers = HeaderMap::new();
    if let Ok(location) = back.parse() {
        headers.insert(header::LOCATION, location);
    }
    if let Some(language) = by_code(&choice.to) {
        let cookie = format!("{COOKIE}={}; Path=/; Max-Age=31536000; SameSite=Strict; HttpOnly", language.code());
        // Codes are two letters, so this is always a header value.
        headers.extend(cookie.parse().ok().map(|cookie| (header::SET_COOKIE, cookie)));
    }
    (StatusCode::SEE_OTHER, headers)
}

/// A path on this very portal. Browsers read `//host` and `/\host` as addresses elsewhere, and drop tabs and line
/// breaks before they look.
fn is_own_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_never_leads_elsewhere() {
        for own in ["/", "/readings", "/readings?filter=a&page=2"] {
            assert!(is_own_path(own), "{own}");
        }
        for foreign in [
            "",
            "readings",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "https://evil.example",
            "/\r\nX: y",
        ] {
            assert!(!is_own_path(foreign), "{foreign}");
        }
    }
}
