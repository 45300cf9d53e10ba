//! Neither slot of the boot record can be read, and no version is certain: nothing of the plant is started. At the portal's
//! address a page says what to do, until the watchdog is stopped.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Router, routing::any};
use config::{Language, Settings};
use daemon::Control;
use protocol::Failure;
use tokio::net::TcpListener;

/// The port may still be held by a portal that is on its way out.
const BIND_AGAIN: Duration = Duration::from_secs(2);

/// Serves the page until the watchdog is told to stop.
pub async fn tell(settings: &Settings, control: &Control, failure: &Failure) {
    tracing::error!(%failure, "nothing is started; the portal's address says what to do");
    let language = settings.language;
    let router = Router::new().fallback(any(move || std::future::ready(page(language))));
    let address = SocketAddr::new(settings.portal_bind, settings.portal_port);
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => tracing::error!(%error, %address, "the page cannot be shown there"),
        }
        tokio::select! {
            () = control.stopped() => return,
            () = tokio::time::sleep(BIND_AGAIN) => {}
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::error!(%address, "what to do is shown here");
    }
    tokio::select! {
        () = control.stopped() => {}
        served = axum::serve(listener, router).into_future() => {
            if let Err(error) = served {
                tracing::error!(%error, "the page is shown no more");
            }
        }
    }
}

fn page(language: Language) -> Response {
    let (code, title, lines) = match language {
        Language::English => ("en", "Plantlink is stopped", ENGLISH),
        Language::Ukrainian => ("uk", "Plantlink зупинено", UKRAINIAN),
        Language::French => ("fr", "Plantlink est arrêté", FRENCH),
    };
    let lines: String = lines.iter().map(|line| format!("<li>{line}</li>")).collect();
    let html = format!(
        "<!doctype html><html lang=\"{code}\"><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><h1>{title}</h1><ol>{lines}</ol></html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, html).into_response()
}

const ENGLISH: [&str; 4] = [
    "The record of which version runs here is damaged on the disk, so nothing is started by guess. No readings that \
     were stored are lost; none are collected now.",
    "Call headquarters. Change nothing in the folder of Plantlink, and check the disk.",
    "Stop the Plantlink service.",
    "Run <code>watchdog restore --root FOLDER</code>. It lists the versions that can be put back. Run it again with the \
     one that headquarters names, then start the service.",
];
const UKRAINIAN: [&str; 4] = [
    "Запис про те, яка версія тут працює, пошкоджено на диску, тому нічого не запускається навмання. Збережені показання \
     не втрачено; нові зараз не збираються.",
    "Зателефонуйте до центрального офісу. Нічого не змінюйте в теці Plantlink і перевірте диск.",
    "Зупиніть службу Plantlink.",
    "Виконайте <code>watchdog restore --root ТЕКА</code>. Команда покаже версії, які можна повернути. Виконайте її ще раз \
     з тією, яку назве центральний офіс, і запустіть службу.",
];
const FRENCH: [&str; 4] = [
    "L’enregistrement de la version qui fonctionne ici est endommagé sur le disque\u{a0}; rien n’est lancé au hasard. \
     Aucune mesure enregistrée n’est perdue\u{a0}; aucune n’est collectée en ce moment.",
    "Appelez le siège. Ne changez rien dans le dossier de Plantlink, et vérifiez le disque.",
    "Arrêtez le service Plantlink.",
    "Lancez <code>watchdog restore --root DOSSIER</code>\u{a0}: il liste les versions qui peuvent être remises. \
     Relancez-le avec celle que le siège nomme, puis démarrez le service.",
];
