//! Live values on their way from a collector to browsers.

#![allow(clippy::unwrap_used)]

mod plant;

use config::Language;
use plant::{Plant, collector, one_tag, with_collector_at};

#[tokio::test]
async fn a_new_value_reaches_a_browser_that_looks() {
    let (address, _serving) = collector(|asked| one_tag("line1.temperature", asked * 10, 192)).await;
    let plant = Plant::with(Some(with_collector_at(&address)), Language::English).await;
    let heard = plant.events_until("view=readings", "<b>20</b>").await;
    assert!(heard.contains("content-type: text/event-stream"), "{heard}");
    assert!(heard.contains("line1.temperature") && heard.contains("°C") && heard.contains("good"), "{heard}");
}

#[tokio::test]
async fn many_browsers_cost_the_collector_one_question_a_second() {
    let (address, _serving) = collector(|asked| one_tag("line1.temperature", asked, 192)).await;
    let plant = Plant::with(Some(with_collector_at(&address)), Language::English).await;
    // All see question number 2: had each asked for itself, their first answers would be far beyond it.
    let looks = (0..8).map(|_| plant.events_until("view=readings", "<b>2</b>"));
    for heard in futures_util::future::join_all(looks).await {
        assert!(heard.contains("<b>0</b>") || heard.contains("<b>1</b>"), "{heard}");
    }
}

#[tokio::test]
async fn values_of_a_collector_that_is_gone_are_shown_as_old() {
    let (address, serving) = collector(|_| one_tag("line1.temperature", 21.5, 192)).await;
    let plant = Plant::with(Some(with_collector_at(&address)), Language::English).await;
    let fresh = plant.get("/readings", "").await;
    assert!(fresh.contains("<b>21.5</b>") && !fresh.contains("does not answer"), "{fresh}");

    serving.abort();
    plant.supervisor.send_replace(Some(Box::new(plant::all_running())));
    let heard = plant.events_until("view=readings", "<td class=\\\"age\\\">6\u{a0}s").await;
    assert!(heard.contains("The collector does not answer."), "{heard}");
    assert!(heard.contains("readings old"), "{heard}");
}

#[tokio::test]
async fn a_collector_that_never_answers_or_answers_nonsense_does_not_hold_up_the_page() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = format!("http://{}", silent.local_addr().unwrap());
    let (mad, _serving) = collector(|_| "<html>".to_owned()).await;
    for address in [mute, mad] {
        let plant = Plant::with(Some(with_collector_at(&address)), Language::English).await;
        let page = plant.get("/readings", "").await;
        assert!(page.contains("The collector does not answer."), "{page}");
    }
}

#[tokio::test]
async fn a_change_in_the_plant_reaches_the_overview_without_a_reload() {
    let plant = Plant::running().await;
    let (heard, ()) = tokio::join!(plant.events_until("view=overview", "Not running: Collector."), async {
        plant.events_until("view=overview", "Everything is running.").await;
        let mut status = plant::all_running();
        status.children[0].state = protocol::control::ChildState::Waiting;
        plant.supervisor.send_replace(Some(Box::new(status)));
    });
    assert!(heard.contains("event: update"), "{heard}");
}

#[tokio::test]
async fn a_browser_hears_a_beat_when_nothing_changes() {
    let plant = Plant::with(None, Language::English).await;
    plant.events_until("view=overview", "event: beat").await;
}
