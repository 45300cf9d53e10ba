//! What the pages need besides HTML, all of it in the executable.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use protocol::signing::hex;
use sha2::{Digest as _, Sha256};

struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

/// Of the handbook, in each language, as the tests take them.
macro_rules! picture {
    ($language:literal, $page:literal) => {
        Asset {
            name: concat!($page, ".", $language, ".png"),
            content_type: "image/png",
            content: include_bytes!(concat!("../../docs/screenshots/", $language, "/", $page, ".png")),
        }
    };
}

const ASSETS: [Asset; 17] = [
    picture!("en", "overview"),
    picture!("en", "update"),
    picture!("en", "trend"),
    picture!("uk", "overview"),
    picture!("uk", "update"),
    picture!("uk", "trend"),
    picture!("fr", "overview"),
    picture!("fr", "update"),
    picture!("fr", "trend"),
    Asset {
        name: "portal.css",
        content_type: "text/css; charset=utf-8",
        content: include_bytes!("../assets/portal.css"),
    },
    Asset {
        name: "portal.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../assets/portal.js"),
    },
    Asset {
        name: "update.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../assets/update.js"),
    },
    Asset {
        name: "trend.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../assets/trend.js"),
    },
    Asset {
        name: "settings.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../assets/settings.js"),
    },
    // uPlot 1.6.32, as its makers publish it; its licence lies beside it.
    Asset {
        name: "uplot.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../assets/uplot.js"),
    },
    Asset {
        name: "uplot.css",
        content_type: "text/css; charset=utf-8",
        content: include_bytes!("../assets/uplot.css"),
    },
    Asset { name: "icon.svg", content_type: "image/svg+xml", content: include_bytes!("../assets/icon.svg") },
];

/// A hash of all assets and the version: it stands in every asset's address, and a page that hears of another one
/// loads itself again.
pub fn build() -> &'static str {
    static BUILD: LazyLock<String> = LazyLock::new(|| {
        let mut hash = Sha256::new();
        hash.update(daemon::version());
        for asset in ASSETS {
            hash.update(asset.content);
        }
        hex(&hash.finalize()[..6])
    });
    &BUILD
}

pub fn address(name: &str) -> String {
    format!("/assets/{}/{name}", build())
}

/// An address of another build is not answered: its content would be kept for a year under the wrong name.
pub async fn asset(Path((of, name)): Path<(String, String)>) -> Response {
    match ASSETS.iter().find(|asset| of == build() && asset.name == name) {
        Some(asset) => {
            let kept = "public, max-age=31536000, immutable";
            ([(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, kept)], asset.content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
