use std::time::Duration;

use axum::http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
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
        let uri: Uri = url.parse().map_err(|_| format!("`{url}` is no URL"))?;
        let authority = uri.authority().ok_or_else(|| format!("`{url}` names no host"))?.clone();
        let stream = TcpStream::connect(authority.as_str()).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path).header(header::HOST, authority.as_str()).body(Empty::<bytes::Bytes>::new());
        let answer = sender.send_request(request.map_err(|error| error.to_string())?).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(|error| error.to_string())?;
        connection.abort();
        Ok((status, body.to_bytes()))
    };
    match tokio::time::timeout(within, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", within.as_secs_f64())),
    }
}
