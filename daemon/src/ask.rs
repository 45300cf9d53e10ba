use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Larger answers are none of a child's.
const LARGEST_ANSWER: usize = 32 << 20;

/// `GET` of a `http://` URL on this machine: status and body, or why there is none.
///
/// # Errors
/// In words; the caller knows what it was for.
pub async fn ask(url: &str, within: Duration) -> Result<(StatusCode, bytes::Bytes), String> {
    let asking = async {
        let answer = open(url).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    match tokio::time::timeout(within, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(silent(within)),
    }
}

/// As [`ask`], of an answer of any length, which is handed on as it comes.
///
/// # Errors
/// As those of [`ask`], of the answer's beginning.
pub async fn ask_for_stream(url: &str, within: Duration) -> Result<Response<Body>, String> {
    let answer = tokio::time::timeout(within, open(url)).await.map_err(|_| silent(within))??;
    Ok(answer.map(Body::new))
}

fn silent(within: Duration) -> String {
    format!("no answer within {} s", within.as_secs_f64())
}

/// The connection lasts as long as the answer's body.
async fn open(url: &str) -> Result<Response<Incoming>, String> {
    let uri: Uri = url.parse().map_err(|_| format!("`{url}` is no URL"))?;
    let authority = uri.authority().ok_or_else(|| format!("`{url}` names no host"))?.clone();
    let stream = TcpStream::connect(authority.as_str()).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, authority.as_str()).header(header::CONNECTION, "close");
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(|error| error.to_string())
}
