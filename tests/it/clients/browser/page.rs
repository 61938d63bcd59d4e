//! A web page of another origin than the service.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server of an empty page and of the files of a folder. Dropping it stops the server.
pub(crate) struct Page {
    origin: String,
    acceptor: JoinHandle<()>,
}

impl Page {
    /// Serves an empty page.
    pub(crate) async fn empty() -> Self {
        Self::with_files_of(Path::new("/nowhere")).await
    }

    /// Serves an empty page and the files of `folder`. The URLs of scripts have no `.js`.
    pub(crate) async fn with_files_of(folder: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let folder = folder.to_owned();
        let acceptor = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, folder.clone()));
            }
        });
        Self {
            origin: format!("http://{address}"),
            acceptor,
        }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn answer(connection: TcpStream, folder: PathBuf) {
    let mut connection = BufReader::new(connection);
    let mut request = String::new();
    let mut line = String::new();
    while connection
        .read_line(&mut line)
        .await
        .is_ok_and(|count| count > 2)
    {
        request.push_str(&line);
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let file = folder.join(path.trim_start_matches('/'));
    let script = std::fs::read(&file).or_else(|_| std::fs::read(file.with_extension("js")));
    let (status, media_type, body) = match script {
        _ if path == "/" => ("200 OK", "text/html", Vec::new()),
        Ok(script) => ("200 OK", "text/javascript", script),
        Err(_) => ("404 Not Found", "text/plain", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // The browser may have closed the connection.
    let _ = connection
        .write_all(&[head.into_bytes(), body].concat())
        .await;
}
