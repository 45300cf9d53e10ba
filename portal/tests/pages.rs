//! What a browser gets from the real router.

#![allow(clippy::unwrap_used)]

mod plant;

use config::Language;
use plant::{Plant, all_running, collector, one_tag, with_collector_at};
use protocol::control::{ChildState, SourceStatus};

const SECURITY_HEADERS: [&str; 4] = [
    "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n",
    "x-content-type-options: nosniff\r\n",
    "referrer-policy: no-referrer\r\n",
    "cross-origin-opener-policy: same-origin\r\n",
];

/// Addresses of the assets that a page names.
fn assets_of(page: &str) -> Vec<&str> {
    page.split('"').filter(|part| part.starts_with("/assets/")).collect()
}

#[tokio::test]
async fn every_response_carries_the_security_headers_also_refusals() {
    let plant = Plant::running().await;
    let page = plant.get("/", "").await;
    let assets = assets_of(&page);
    let others = [
        "/",
        "/readings",
        "/update",
        "/trend?tag=x",
        "/trend.svg?tag=x",
        "/history.csv?tag=x",
        "/api/trend?tag=x",
        "/sessions",
        "/log",
        "/settings",
        "/help",
        "/nowhere",
        "/language?to=uk",
        "/language",
        "/readings?page=x",
        "/assets/0/portal.js",
    ];
    for path in others.iter().chain(&assets) {
        let answer = plant.get(path, "").await;
        for header in SECURITY_HEADERS {
            assert!(answer.contains(header), "{path} lacks {header}: {answer}");
        }
        let kept = assets.contains(path);
        assert_eq!(answer.contains("cache-control: no-store\r\n"), !kept, "{path}: {answer}");
    }
    let events = plant.events_until("view=overview", "event: update").await;
    assert!(events.contains(SECURITY_HEADERS[0]), "{events}");
}

#[tokio::test]
async fn a_foreign_name_is_refused_and_told_what_to_set() {
    let plant = Plant::running().await;
    for (path, host) in [
        ("/", "Host: evil.example\r\n"),
        ("/", "Host: evil.example:8000\r\n"),
        ("/events", "Host: localhost.evil.example\r\n"),
        ("/", ""),
        ("http://evil.example/", "Host: localhost\r\n"),
    ] {
        let answer = plant.get_as(host, path).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        assert!(answer.contains("PORTAL_HOSTS") && answer.contains("text/plain"), "{answer}");
        assert!(SECURITY_HEADERS.iter().all(|header| answer.contains(header)), "{answer}");
    }
    let named = plant.get_as("Host: Plant-PC.local:8000\r\n", "/").await;
    assert!(named.starts_with("HTTP/1.1 200"), "{named}");
}

#[tokio::test]
async fn every_page_speaks_the_language_of_the_plant_or_of_the_browser() {
    for (language, code, all_well) in [
        (Language::English, "en", "Everything is running."),
        (Language::Ukrainian, "uk", "Усе працює."),
        (Language::French, "fr", "Tout fonctionne."),
    ] {
        let plant = Plant::with(Some(all_running()), language).await;
        for path in ["/", "/readings", "/trend?tag=a", "/update", "/sessions", "/log", "/settings", "/help", "/nowhere"]
        {
            let page = plant.get(path, "").await;
            assert!(page.contains(&format!("<html lang=\"{code}\">")), "{path}: {page}");
            assert!(!page.contains("{}"), "{path} has an unfilled text: {page}");
            assert_eq!(page.contains(all_well), path == "/", "{path}: {page}");
        }
        let own = plant.get("/", "Cookie: other=1; language=fr\r\n").await;
        assert!(own.contains("<html lang=\"fr\">"), "{own}");
    }
}

#[tokio::test]
async fn a_chosen_language_is_remembered_and_leads_back_to_this_portal_only() {
    let plant = Plant::running().await;
    let chosen = plant.get("/language?to=uk&back=/readings", "").await;
    assert!(chosen.starts_with("HTTP/1.1 303"), "{chosen}");
    assert!(chosen.contains("location: /readings\r\n") && chosen.contains("set-cookie: language=uk;"), "{chosen}");
    let tricked = plant.get("/language?to=uk&back=//evil.example/", "").await;
    assert!(tricked.contains("location: /\r\n"), "{tricked}");
    let unknown = plant.get("/language?to=xx&back=/", "").await;
    assert!(!unknown.contains("set-cookie"), "{unknown}");
}

#[tokio::test]
async fn the_overview_says_what_is_wrong_and_what_to_do() {
    let plant = Plant::running().await;
    assert!(plant.get("/", "").await.contains("Everything is running."));

    let mut status = all_running();
    let broken = SourceStatus { error: Some("<b>timed out</b>".into()), ..SourceStatus::default() };
    status.collected.as_mut().unwrap().sources.insert("press 3".into(), broken);
    status.children[1].state = ChildState::CrashLoop;
    plant.supervisor.send_replace(Some(Box::new(status)));
    let page = plant.get("/", "").await;
    assert!(!page.contains("Everything is running."), "{page}");
    assert!(page.contains("No answer from: press 3.") && page.contains("Check that the device has power"), "{page}");
    assert!(page.contains("Keeps stopping, and is tried again every five minutes: Agent."), "{page}");
    assert!(page.contains("&lt;b&gt;timed out") && !page.contains("<b>timed out"), "{page}");

    plant.supervisor.send_replace(None);
    assert!(plant.get("/", "").await.contains("runs without supervision"));
}

#[tokio::test]
async fn a_tag_named_like_a_script_shows_as_text() {
    let (address, _serving) = collector(|_| one_tag("<script>alert(1)</script>", 21.5, 192)).await;
    let plant = Plant::with(Some(with_collector_at(&address)), Language::English).await;
    let page = plant.get("/readings?filter=%3Cscript%3E", "").await;
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>"), "{page}");
    assert!(page.contains("value=\"&lt;script&gt;\""), "{page}");
}

#[tokio::test]
async fn the_first_page_is_light_even_with_ten_thousand_tags() {
    let tags: Vec<String> = (0..10_000)
        .map(|at| {
            format!(
                r#"{{"tag":"line1.station{at:05}.temperature","value":{at}.25,"unit":"°C","quality":24,"text":null,"time":"2026-02-22T09:59:59Z"}}"#
            )
        })
        .collect();
    let answer = format!(r#"{{"tags":[{}]}}"#, tags.join(","));
    let (address, _serving) = collector(move |_| answer.clone()).await;
    let plant = Plant::with(Some(with_collector_at(&address)), Language::Ukrainian).await;
    for path in ["/", "/readings", "/update"] {
        let page = plant.get(path, "").await;
        let mut bytes = page.len();
        for asset in assets_of(&page) {
            bytes += plant.get(asset, "").await.len();
        }
        assert!(bytes < 150_000, "{path} takes {bytes} bytes");
    }
    let last = plant.get("/readings?page=50", "").await;
    assert!(last.contains("station09999") && !last.contains("station00000"));
    let found = plant.get("/readings?filter=STATION04242+temp", "").await;
    assert!(found.contains("station04242") && !found.contains("station04243"));
}

#[tokio::test]
async fn what_others_have_written_shows_as_text_on_every_page() {
    const EVIL: &str = "<img src=x onerror=alert(1)>";
    let session = format!(
        r#"[{{"time":"2026-02-22T09:59:59Z","address":"{EVIL}","key":"{EVIL}","records":1,"bytes":1,"version_delivered":"{EVIL}","verdict":"{EVIL}","duration_seconds":1.0,"ended":"{EVIL}"}}]"#
    );
    let event = format!(
        r#"[{{"time":"2026-02-22T09:59:59Z","kind":"source_silent","subject":"{EVIL}","detail":"{EVIL}"}},{{"time":"2026-02-22T09:59:59Z","kind":"of_tomorrow","subject":"{EVIL}"}}]"#
    );
    let others = axum::Router::new()
        .route("/sessions", axum::routing::get(move || async move { session }))
        .route("/events", axum::routing::get(move || async move { event }));
    let (address, _serving) = plant::serve(others).await;
    let mut status = all_running();
    status.metrics_address = Some(format!("http://{address}"));
    status.children[1].health_address = Some(format!("http://{address}"));
    let plant = Plant::with(Some(status), Language::French).await;
    for path in ["/sessions", "/log", "/trend?tag=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"] {
        let page = plant.get(path, "").await;
        assert!(page.contains("&lt;img src=x") && !page.contains("<img src=x"), "{path}: {page}");
    }
    let file = plant.get("/history.csv?tag=a%0D%0ASet-Cookie:%20b%22", "").await;
    assert!(!file.to_lowercase().contains("set-cookie"), "{file}");
}

#[tokio::test]
async fn a_filter_of_ten_thousand_words_costs_no_more_than_one_that_a_person_types() {
    let plant = Plant::running().await;
    let words = "a%20".repeat(10_000);
    let narrowed = plant.get(&format!("/readings?filter={words}nothing-is-called-so"), "").await;
    assert!(narrowed.starts_with("HTTP/1.1 200"), "{narrowed}");
    // What is beyond the first words is not looked for.
    let eight = plant.get(&format!("/readings?filter={}", "a%20".repeat(8)), "").await;
    let rows = |page: &str| page.matches("<tr").count();
    assert_eq!(rows(&narrowed), rows(&eight));
}
