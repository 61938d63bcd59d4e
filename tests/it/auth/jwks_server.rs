//! An identity provider that publishes a JWK set and can fail in several ways.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::signing::Signer;

/// How the provider answers the next requests.
#[derive(Clone)]
pub(super) enum Conduct {
    /// Publishes a JWK set.
    Publish(Value),
    /// Answers with a status and a body.
    Answer(u16, String),
    /// Closes the connection without an answer.
    Cut,
    /// Sends nothing for a minute.
    Hang,
    /// Sends an endless body.
    Flood,
}

pub(super) struct JwksServer {
    url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    conduct: Conduct,
    requests: usize,
}

impl JwksServer {
    pub(super) async fn start(conduct: Conduct) -> Self {
        Self::start_with(conduct, None).await
    }

    /// Starts a provider that uses TLS.
    pub(super) async fn start_encrypted(conduct: Conduct, tls: TlsAcceptor) -> Self {
        Self::start_with(conduct, Some(tls)).await
    }

    async fn start_with(conduct: Conduct, tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = 0;
        let state = Arc::new(Mutex::new(State { conduct, requests }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        // The handshake fails if the client does not trust the certificate.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
            }
        });
        let url = format!("{scheme}://{address}/.well-known/jwks.json");
        Self { url, state }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn now(&self, conduct: Conduct) {
        self.state.lock().expect("no panic").conduct = conduct;
    }

    pub(super) fn requests(&self) -> usize {
        self.state.lock().expect("no panic").requests
    }
}

pub(super) fn publish(signers: &[&Signer]) -> Conduct {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    Conduct::Publish(json!({"keys": keys}))
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let conduct = {
        let mut state = state.lock().expect("no panic");
        state.requests += 1;
        state.conduct.clone()
    };
    let answer = match conduct {
        Conduct::Publish(keys) => response(200, &keys.to_string()),
        Conduct::Answer(status, text) => response(status, &text),
        Conduct::Cut => return,
        Conduct::Hang => {
            sleep(Duration::from_secs(60)).await;
            return;
        }
        Conduct::Flood => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"keys\":[";
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&[b' '; 65_536]).await.is_ok() {}
            return;
        }
    };
    // The client may have closed the connection after a time-out.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn response(status: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Any\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Location: /elsewhere\r\nConnection: close\r\n\r\n{body}"
    )
}
