//! A plant PC as the portal sees it: a supervisor's word, a collector that answers, and a browser.

// Every file of tests uses its part.
#![allow(dead_code)]

pub mod keeper;
pub mod package;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use config::{Language, Settings};
use daemon::Control;
use daemon::server::Peer;
use portal::Portal;
use protocol::control::{ChildState, ChildStatus, Collected, PlantStatus};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use keeper::Keeper;

pub struct Plant {
    pub portal: SocketAddr,
    pub supervisor: watch::Sender<Option<Box<PlantStatus>>>,
    pub keeper: Arc<Keeper>,
}

impl Plant {
    pub async fn with(status: Option<PlantStatus>, language: Language) -> Self {
        Self::seen_from([127, 0, 0, 1], status, language).await
    }

    /// As somebody at this address knows it.
    pub async fn seen_from(peer: [u8; 4], status: Option<PlantStatus>, language: Language) -> Self {
        let (supervisor, heard) = watch::channel(status.map(Box::new));
        let keeper = Arc::new(Keeper::of(heard.clone()));
        let settings = Settings { language, portal_hosts: vec!["plant-pc.local".into()], ..Settings::default() };
        let portal = Portal::new(&settings, Arc::new(Control::start()), keeper.clone(), heard);
        let local = SocketAddr::from(([127, 0, 0, 1], 8000));
        let peer = Peer { address: SocketAddr::from((peer, 1)), local, secure: false };
        let (address, _) = serve(portal::router(Arc::new(portal)).layer(Extension(peer))).await;
        Self { portal: address, supervisor, keeper }
    }

    /// A change in the plant, as the supervisor tells it.
    pub fn becomes(&self, status: PlantStatus) {
        self.supervisor.send_replace(Some(Box::new(status)));
    }

    pub async fn running() -> Self {
        Self::with(Some(all_running()), Language::English).await
    }

    /// The whole answer, head and body, as it came.
    pub async fn get(&self, path: &str, headers: &str) -> String {
        self.get_as(&format!("Host: localhost:1\r\n{headers}"), path).await
    }

    pub async fn get_as(&self, headers: &str, path: &str) -> String {
        let mut stream = self.ask(path, &format!("Connection: close\r\n{headers}")).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// As this portal's own script posts.
    pub async fn post(&self, path: &str, headers: &str, body: &str) -> String {
        let own = "Host: localhost:1\r\nContent-Type: application/json\r\nOrigin: http://localhost:1\r\n";
        self.post_as(&format!("{own}{headers}"), path, body).await
    }

    pub async fn post_as(&self, headers: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.portal).await.unwrap();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn ask(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.portal).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\n{headers}\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// Looks at a page's events until they have told `wanted`; answers all that came until then.
    pub async fn events_until(&self, query: &str, wanted: &str) -> String {
        let mut events = self.listen(&format!("/events?{query}"), "").await;
        events.until(wanted).await.to_owned()
    }

    pub async fn listen(&self, path: &str, headers: &str) -> Listening {
        let stream = self.ask(path, &format!("Host: localhost\r\n{headers}")).await;
        Listening { stream, heard: Vec::new(), text: String::new() }
    }
}

/// A browser that has opened server-sent events.
pub struct Listening {
    stream: TcpStream,
    heard: Vec<u8>,
    text: String,
}

impl Listening {
    /// All that came from the beginning until `wanted` had come.
    pub async fn until(&mut self, wanted: &str) -> &str {
        let told = async {
            while !String::from_utf8_lossy(&self.heard).contains(wanted) {
                assert_ne!(self.stream.read_buf(&mut self.heard).await.unwrap(), 0, "the events ended");
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), told).await.is_ok();
        self.text = String::from_utf8_lossy(&self.heard).into_owned();
        assert!(in_time, "`{wanted}` never came, only {}", self.text);
        &self.text
    }

    /// What has come so far counts no more.
    pub fn forget(&mut self) {
        self.heard.clear();
    }
}

/// The JSON that an answer carries.
pub fn json(answer: &str) -> serde_json::Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer}"))
}

pub async fn serve(router: Router) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, serving)
}

/// Serves `/live` with what `answer` makes of how often it has been asked.
pub async fn collector(answer: impl Fn(usize) -> String + Clone + Send + Sync + 'static) -> (String, JoinHandle<()>) {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let live = move || {
        let text = answer(asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        async move { text }
    };
    let (address, serving) = serve(Router::new().route("/live", get(live))).await;
    (format!("http://{address}"), serving)
}

pub fn one_tag(tag: &str, value: impl std::fmt::Display, quality: u8) -> String {
    let time = protocol::Timestamp::now();
    format!(
        r#"{{"tags":[{{"tag":"{tag}","value":{value},"unit":"°C","quality":{quality},"text":null,"time":"{time}"}}]}}"#
    )
}

pub fn all_running() -> PlantStatus {
    let child = |name: &str| ChildStatus {
        name: name.into(),
        pid: Some(1),
        state: ChildState::Running,
        uptime_seconds: 7_300,
        restarts: 0,
        address: None,
        health_address: None,
    };
    PlantStatus {
        version: "1.2.0".into(),
        phase: "committed".into(),
        children: ["collector", "agent", "portal"].map(child).into(),
        collected: Some(Collected {
            readings_per_second: 1_250.0,
            spool_seconds_left: Some(260_000.0),
            ..Collected::default()
        }),
        licensed: true,
        ..PlantStatus::default()
    }
}

pub fn with_collector_at(address: &str) -> PlantStatus {
    let mut status = all_running();
    status.children[0].health_address = Some(address.to_owned());
    status
}
