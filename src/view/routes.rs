//! The routes: the page, its style and script, the pictures, and the answers.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::app::{App, Refused};
use super::guard::{self, Guard, MOST_BYTES};
use super::pictures::media_type;
use crate::report::page::{GRID_SCRIPT, GRID_STYLE, LIGHTBOX_SCRIPT, STYLE};

const OWN_STYLE: &str = include_str!("assets/view.css");
const OWN_SCRIPTS: [&str; 3] =
    [include_str!("assets/people.js"), include_str!("assets/rate.js"), include_str!("assets/blind.js")];

/// All routes behind the guard.
pub fn router(app: Arc<App>, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/assets/view.css", get(style))
        .route("/assets/view.js", get(script))
        .route("/favicon.ico", get(|| async { StatusCode::NO_CONTENT }))
        .route("/api/answers", get(answers))
        .route("/api/pair", get(pair))
        .route("/api/ratings", post(rate).put(rate))
        .route("/api/votes", post(vote).put(vote))
        .route("/api/undo", post(undo))
        .fallback(get(picture))
        .with_state(app)
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .layer(middleware::from_fn_with_state(guard, guard::check))
}

async fn page(State(app): State<Arc<App>>) -> Response {
    text("text/html; charset=utf-8", app.page.clone())
}

async fn style() -> Response {
    text("text/css; charset=utf-8", [STYLE, GRID_STYLE, OWN_STYLE].concat())
}

async fn script(State(app): State<Arc<App>>) -> Response {
    let own = if app.judges() { OWN_SCRIPTS.concat() } else { String::new() };
    text("text/javascript; charset=utf-8", [GRID_SCRIPT, LIGHTBOX_SCRIPT, &own].concat())
}

fn text(kind: &'static str, text: String) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text).into_response()
}

/// A picture as it is, or below `thumbs/` small (with `?2x` for screens of small pixels).
async fn picture(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    let (small, path) = path.strip_prefix("thumbs/").map_or((false, path), |path| (true, path));
    let Ok(file) = percent_decode_str(path).decode_utf8().map(|file| file.into_owned()) else {
        return not_found();
    };
    let Some(file) = app.pictures.named(&file) else { return not_found() };
    let dense = uri.query() == Some("2x");
    let read =
        move || if small { app.pictures.small(&file, dense) } else { app.pictures.whole(&file).map(Bytes::from) };
    match blocking(read).await {
        Ok(Ok(bytes)) => {
            let head = [(CONTENT_TYPE, media_type(&bytes)), (CACHE_CONTROL, "private, max-age=60")];
            (head, bytes).into_response()
        }
        Ok(Err(error)) => {
            tracing::warn!("{error:#}");
            not_found()
        }
        Err(stopped) => stopped,
    }
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "no such picture in this run\n").into_response()
}

#[derive(Debug, Deserialize)]
struct Asked {
    rater: String,
    /// `all` instead of the pairs that tell most.
    #[serde(default)]
    pairs: String,
}

async fn answers(State(app): State<Arc<App>>, Query(asked): Query<Asked>) -> Response {
    reply(blocking(move || app.answers(asked.rater.trim())).await)
}

async fn pair(State(app): State<Arc<App>>, Query(asked): Query<Asked>) -> Response {
    let next = move || {
        let (pair, progress) = app.next(asked.rater.trim(), asked.pairs == "all")?;
        Ok(serde_json::json!({ "pair": pair, "voted": progress.voted, "pairs": progress.pairs }))
    };
    reply(blocking(next).await)
}

async fn rate(State(app): State<Arc<App>>, body: Bytes) -> Response {
    reply(blocking(move || app.rate(parsed(&body)?)).await)
}

async fn vote(State(app): State<Arc<App>>, body: Bytes) -> Response {
    reply(blocking(move || app.vote(parsed(&body)?)).await)
}

async fn undo(State(app): State<Arc<App>>, body: Bytes) -> Response {
    reply(blocking(move || app.undo(&parsed(&body)?)).await)
}

fn parsed<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::Malformed(error.to_string()))
}

/// Disks and pictures are waited for beside the connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Response> {
    let stopped = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the work was stopped\n").into_response();
    tokio::task::spawn_blocking(work).await.map_err(stopped)
}

fn reply<T: Serialize>(done: Result<Result<T, Refused>, Response>) -> Response {
    let (status, body) = match done {
        Err(stopped) => return stopped,
        Ok(Ok(value)) => (StatusCode::OK, serde_json::to_string(&value)),
        Ok(Err(Refused::Malformed(why))) => (StatusCode::BAD_REQUEST, said(&why)),
        Ok(Err(Refused::ReadOnly)) => (StatusCode::FORBIDDEN, said("the run folder cannot be written to")),
        Ok(Err(Refused::NotWritten(error))) => {
            tracing::error!("{error:#}");
            (StatusCode::INTERNAL_SERVER_ERROR, said(&format!("{error:#}")))
        }
    };
    match body {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn said(error: &str) -> serde_json::Result<String> {
    serde_json::to_string(&serde_json::json!({ "error": error }))
}
