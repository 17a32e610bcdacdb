//! The body of a JSON answer while it is made: small ones are sent whole with their final status, large ones stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use crate::refusal::announce_schemes;

/// A chunk is sent when it has this many bytes; an answer that is shorter is sent whole. Enough to make system calls and
/// chunk heads cheap, and little memory per request.
const CHUNK_BYTES: usize = 64 << 10;

/// The reader of the answer went away.
pub(crate) struct Gone;

/// Where the results of a script are written.
pub(crate) struct Output {
    chunks: mpsc::Sender<Bytes>,
    status: Arc<OnceLock<StatusCode>>,
    buffer: Vec<u8>,
    results: usize,
}

/// Runs `produce` as far as the status of the answer is known; the rest runs as the body is read, and ends when it is dropped.
pub(crate) async fn respond<F>(produce: impl FnOnce(Output) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let status = Arc::new(OnceLock::new());
    let output = Output {
        chunks: sender,
        status: Arc::clone(&status),
        buffer: Vec::new(),
        results: 0,
    };
    let mut chunks = Chunks {
        producer: Some(Box::pin(produce(output))),
        receiver,
    };
    let first = chunks.next().await;
    let status = status.get().copied().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let body = if chunks.producer.is_none() {
        // All there is: with a length instead of chunks.
        Body::from(first.unwrap_or_default())
    } else {
        Body::from_stream(stream::iter(first).chain(chunks).map(Ok::<_, std::convert::Infallible>))
    };
    let mut response = (status, content_type, body).into_response();
    announce_schemes(&mut response);
    response
}

impl Output {
    /// The buffer, with the comma between results.
    pub(crate) fn begin_result(&mut self) -> &mut Vec<u8> {
        if self.results > 0 {
            self.buffer.push(b',');
        }
        self.results += 1;
        &mut self.buffer
    }

    /// The buffer of the result under way.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Sends what there is once it is enough, which commits the answer to status 200.
    pub(crate) async fn flush_if_full<E: From<Gone>>(&mut self) -> Result<(), E> {
        if self.buffer.len() < CHUNK_BYTES {
            return Ok(());
        }
        if self.status.set(StatusCode::OK).is_ok() {
            self.buffer.splice(0..0, b"{\"results\":[".iter().copied());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        Ok(self.chunks.send(chunk).await.map_err(|_| Gone)?)
    }

    /// Ends the document with its last members, `tail`. An answer that was not begun yet has this status, and opens with
    /// the status's word as the contract shows it; one that was begun says it at its end.
    pub(crate) async fn finish(self, status: StatusCode, word: &str, tail: &str) {
        let mut document = Vec::with_capacity(self.buffer.len() + tail.len() + 64);
        if self.status.set(status).is_ok() {
            document.extend_from_slice(format!("{{\"status\":\"{word}\",\"results\":[").as_bytes());
            document.extend_from_slice(&self.buffer);
            document.extend_from_slice(format!("],{tail}}}").as_bytes());
        } else {
            document.extend_from_slice(&self.buffer);
            document.extend_from_slice(format!("],\"status\":\"{word}\",{tail}}}").as_bytes());
        }
        if self.chunks.send(Bytes::from(document)).await.is_err() {
            tracing::debug!("nobody reads the end of an answer");
        }
    }
}

/// The chunks of an answer: polling them runs their producer, so that nobody else has to own it.
struct Chunks {
    producer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    receiver: mpsc::Receiver<Bytes>,
}

impl Stream for Chunks {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(producer) = &mut self.producer
            && producer.as_mut().poll(context).is_ready()
        {
            self.producer = None;
        }
        self.receiver.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .expect("a body");
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn a_small_answer_has_its_status_first() {
        let response = respond(|mut output| async move {
            output.begin_result().extend_from_slice(b"1");
            output.begin_result().extend_from_slice(b"2");
            output.finish(StatusCode::CONFLICT, "error", "\"error\":null").await;
        })
        .await;
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(
            text(response).await,
            r#"{"status":"error","results":[1,2],"error":null}"#
        );
    }

    #[tokio::test]
    async fn a_large_answer_is_well_formed_whatever_happens_late() {
        let response = respond(|mut output| async move {
            output.begin_result().extend_from_slice(b"\"");
            for _ in 0..10 {
                output.buffer().resize(CHUNK_BYTES, b'x');
                if output.flush_if_full::<Gone>().await.is_err() {
                    return;
                }
            }
            output.buffer().push(b'"');
            output.finish(StatusCode::CONFLICT, "error", "\"error\":1").await;
        })
        .await;
        assert_eq!(response.status(), StatusCode::OK);
        let document: serde_json::Value = serde_json::from_str(&text(response).await).expect("JSON");
        assert_eq!(document["status"], "error");
        assert_eq!(
            document["results"][0].as_str().map(str::len),
            Some(10 * CHUNK_BYTES - 1)
        );
    }

    #[tokio::test]
    async fn a_producer_ends_with_its_reader() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let response = respond(|mut output| async move {
            let _held = held;
            loop {
                output.buffer().resize(CHUNK_BYTES, b'x');
                if output.flush_if_full::<Gone>().await.is_err() {
                    return;
                }
            }
        })
        .await;
        drop(response);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
