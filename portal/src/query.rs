//! What stands behind the `?` of an address; what is not understood there is said in the visitor's language.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;

use crate::Portal;
use crate::visitor::Visitor;

pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Portal>> for Query<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Response> {
        match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(asked)) => Ok(Self(asked)),
            Err(_) => {
                let words = Visitor::of(&parts.headers, portal).words();
                Err((StatusCode::BAD_REQUEST, format!("{}\n", words.not_understood)).into_response())
            }
        }
    }
}
