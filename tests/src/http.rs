//! The HTTP door as curl would use it.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use ureq::Agent;

const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

/// Replies up to this size are taken.
const REPLY_LIMIT_BYTES: u64 = 1 << 30;

/// An HTTP client; blocking, so call it from a thread that may block.
#[derive(Clone)]
pub struct Http {
    agent: Agent,
    base: String,
    authorization: Option<String>,
}

/// A reply, whatever its status.
#[derive(Debug)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// All headers, in their order; of those that are no text nothing.
    pub headers: Vec<(String, String)>,
    /// `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpReply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("status {}, not JSON ({error}): {}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http {
    /// Without credentials.
    pub fn anonymous(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)));
        Http {
            agent: config.build().into(),
            base: format!("http://{address}"),
            authorization: None,
        }
    }

    /// With Basic credentials on every call.
    pub fn basic(address: SocketAddr, user: &str, password: &str) -> Self {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Http {
            authorization: Some(format!("Basic {credentials}")),
            ..Http::anonymous(address)
        }
    }

    /// With a bearer token on every call.
    pub fn bearer(address: SocketAddr, token: &str) -> Self {
        Http {
            authorization: Some(format!("Bearer {token}")),
            ..Http::anonymous(address)
        }
    }

    /// GET of a path.
    ///
    /// # Panics
    /// When there is no reply at all.
    pub fn get(&self, path: &str) -> HttpReply {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        reply(request.call())
    }

    /// POST of a body as it stands.
    ///
    /// # Panics
    /// When there is no reply at all.
    pub fn post(&self, path: &str, accept: Option<&str>, body: &[u8]) -> HttpReply {
        reply(self.send(path, accept, body))
    }

    fn send(&self, path: &str, accept: Option<&str>, body: &[u8]) -> Answer {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("Content-Type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if let Some(accept) = accept {
            request = request.header("Accept", accept);
        }
        request.send(body)
    }

    /// POST /api/sql.
    ///
    /// # Panics
    /// When there is no reply at all.
    pub fn sql(&self, sql: &str) -> HttpReply {
        self.sql_with(sql, &json!([]))
    }

    /// POST /api/sql with parameters.
    ///
    /// # Panics
    /// When there is no reply at all.
    pub fn sql_with(&self, sql: &str, params: &Value) -> HttpReply {
        self.post(
            "/api/sql",
            None,
            json!({"sql": sql, "params": params}).to_string().as_bytes(),
        )
    }

    /// POST /api/sql, asking for an Arrow IPC stream.
    ///
    /// # Panics
    /// When there is no reply at all.
    pub fn sql_arrow(&self, sql: &str) -> HttpReply {
        let body = json!({"sql": sql}).to_string();
        self.post("/api/sql", Some(ARROW_STREAM), body.as_bytes())
    }

    /// What comes of the same: a statement that fails once rows are on their way breaks the reply off, perhaps before its first byte.
    pub fn sql_arrow_so_far(&self, sql: &str) -> Vec<u8> {
        let body = json!({"sql": sql}).to_string();
        let Ok(mut response) = self.send("/api/sql", Some(ARROW_STREAM), body.as_bytes()) else {
            return Vec::new();
        };
        let (mut reader, mut found) = (response.body_mut().as_reader(), Vec::new());
        // What came before it broke off is what is asked for.
        let _broken = reader.read_to_end(&mut found);
        found
    }
}

fn reply(answer: Answer) -> HttpReply {
    let mut response = answer.unwrap_or_else(|error| panic!("no HTTP reply: {error}"));
    let content_type = response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let headers = response.headers().iter().map(|(name, value)| {
        let value = value.to_str().unwrap_or_default();
        (name.as_str().to_owned(), value.to_owned())
    });
    let headers = headers.collect();
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(REPLY_LIMIT_BYTES).read_to_vec();
    HttpReply {
        status,
        headers,
        content_type,
        body: body.unwrap_or_else(|error| panic!("the HTTP reply broke off: {error}")),
    }
}
