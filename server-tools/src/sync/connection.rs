use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use protocol::{Failure, tls};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// What is sent with a request.
pub type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// One TLS connection to an agent whose key is known, whether or not it is the right one.
pub struct Connection {
    host: String,
    sender: SendRequest<RequestBody>,
    fingerprint: String,
}

const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// For the answer's headers. Preparing an export may have to wait for a database that starts up.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// For a whole package over a poor line.
const DELIVER_WITHIN: Duration = Duration::from_secs(4 * 3600);
const LARGEST_SMALL_ANSWER: usize = 64 << 10;
const SMALL_ANSWER_WITHIN: Duration = Duration::from_secs(30);

impl Connection {
    pub async fn open(host: &str, port: u16) -> Result<Self, Failure> {
        let at = format!("{host}:{port}");
        let opening = async {
            let stream = TcpStream::connect((host, port)).await.map_err(|error| {
                Failure::unreachable(format!(
                    "could not reach {at}: {error}; is the plant PC on, and does its firewall let us in?"
                ))
            })?;
            stream.set_nodelay(true).map_err(|error| Failure::unreachable(format!("{at}: {error}")))?;
            let config = ClientConfig::builder_with_provider(tls::provider())
                .with_safe_default_protocol_versions()
                .expect("ring speaks TLS 1.2 and 1.3")
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(tls::AnyCertificate::new()))
                .with_no_client_auth();
            // The name is not what the agent is known by; its key is.
            let name = ServerName::try_from(host.to_owned())
                .or_else(|_| ServerName::try_from("agent.invalid"))
                .expect("a plain name is one");
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
                Failure::unreachable(format!("{at} did not agree on TLS: {error}; is an agent listening there?"))
            })?;
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let fingerprint = certificate
                .and_then(tls::fingerprint)
                .ok_or_else(|| Failure::refused(format!("{at} showed no usable certificate")))?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| Failure::unreachable(format!("{at}: {error}")))?;
            tokio::spawn(connection);
            Ok(Self { host: host.to_owned(), sender, fingerprint })
        };
        tokio::time::timeout(CONNECT_WITHIN, opening).await.unwrap_or_else(|_| {
            Err(Failure::unreachable(format!("{at} did not answer within {} s", CONNECT_WITHIN.as_secs())))
        })
    }

    /// SHA-256 of the agent's public key, hex. The handshake has proved that the agent holds that key.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// `GET`, and the answer's headers.
    pub async fn get(&mut self, path: &str, token: Option<&str>) -> Result<Response<Incoming>, Failure> {
        self.send("GET", path, token, &[], Full::default().map_err(|never| match never {}).boxed_unsync()).await
    }

    /// `POST` of a small JSON body, and the answer's headers.
    pub async fn post_json(&mut self, path: &str, body: &impl Serialize) -> Result<Response<Incoming>, Failure> {
        let body = serde_json::to_vec(body).expect("plain strings serialise");
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        self.send("POST", path, None, &json, Full::from(body).map_err(|never| match never {}).boxed_unsync()).await
    }

    /// Sends a request and waits for the answer's headers, however long its body takes.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(HeaderName, HeaderValue)],
        body: RequestBody,
    ) -> Result<Response<Incoming>, Failure> {
        let lost = |error: &dyn std::fmt::Display| {
            Failure::unreachable(format!("the connection to {} broke: {error}", self.host))
        };
        let streamed = headers.iter().any(|(name, _)| name == header::CONTENT_LENGTH);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| Failure::failed(error.to_string()))?;
        let within = if streamed { DELIVER_WITHIN } else { ANSWER_WITHIN };
        self.sender.ready().await.map_err(|error| lost(&error))?;
        match tokio::time::timeout(within, self.sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| lost(&error)),
            Err(_) => Err(lost(&format!("no answer within {} s", within.as_secs()))),
        }
    }
}

/// A body that comes in pieces.
pub fn file_body(pieces: mpsc::Receiver<io::Result<Bytes>>) -> RequestBody {
    let frames =
        stream::unfold(pieces, async |mut pieces| pieces.recv().await.map(|piece| (piece.map(Frame::data), pieces)));
    StreamBody::new(frames).boxed_unsync()
}

/// A small JSON body.
pub async fn json<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, Failure> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LARGEST_SMALL_ANSWER).collect();
    let body = tokio::time::timeout(SMALL_ANSWER_WITHIN, body).await.map_err(|_| {
        Failure::unreachable(format!("the agent's answer did not come within {} s", SMALL_ANSWER_WITHIN.as_secs()))
    })?;
    let body = body.map_err(|error| Failure::unreachable(format!("the agent's answer broke off: {error}")))?;
    let understood = |error| Failure::failed(format!("the agent's answer ({status}) is not understood: {error}"));
    let mut value = serde_json::from_slice(&body.to_bytes()).map_err(understood)?;
    without_controls(&mut value);
    serde_json::from_value(value).map_err(understood)
}

/// What an agent says is shown on terminals, which obey control characters.
pub fn without_controls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) if text.contains(char::is_control) => {
            *text = text.replace(char::is_control, "\u{fffd}");
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(without_controls),
        serde_json::Value::Object(values) => values.values_mut().for_each(without_controls),
        _ => {}
    }
}

/// What an answer other than 200 means.
pub async fn refused(answer: Response<Incoming>) -> Failure {
    let status = answer.status();
    let wait = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body: serde_json::Value = json(answer).await.unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(serde_json::Value::as_str);
    let mut message = format!("the agent answered {status}: {}", text("error").unwrap_or("no reason given"));
    for name in ["parameter", "detail"] {
        if let Some(detail) = text(name) {
            message += &format!(" ({detail})");
        }
    }
    if let Some(wait) = &wait {
        message += &format!("; try again in {wait} s");
    }
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::refused(message),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Failure::try_later(message),
        _ => Failure::failed(message),
    }
}
