//! The servers that the service is compared with.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use harness::process::Process;
use harness::redis_server::{RedisServer, free_port};
use harness::wait::until_accepted;
use tempfile::TempDir;

/// A running server with a folder for its files.
pub(crate) struct Peer {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

/// The paths to publish and to subscribe at nchan.
pub(crate) const PUBLISH: &str = "/publish";
pub(crate) const SUBSCRIBE: &str = "/subscribe";

impl Peer {
    /// webdis: the commands of Redis over HTTP, in C, with the threads and the log level of its Debian package.
    pub(crate) async fn webdis(redis: &RedisServer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let settings = serde_json::json!({
            "redis_host": "127.0.0.1", "redis_port": redis.port(), "redis_auth": null,
            "http_host": "127.0.0.1", "http_port": port, "threads": 2, "daemonize": false,
            "database": 0, "acl": [], "verbosity": 3, "logfile": folder.path().join("log"),
        });
        let file = folder.path().join("webdis.json");
        fs::write(&file, settings.to_string()).expect("a file");
        Self::start("webdis", Command::new("webdis").arg(file), port, folder).await
    }

    /// nginx with nchan, in C: subscribers of one channel over Server-Sent Events.
    ///
    /// nginx runs as one process, so that its cost is in one place. nchan does the least work with one worker.
    pub(crate) async fn nchan() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let home = folder.path().display();
        let settings = format!(
            "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
            daemon off; master_process off; pid {home}/pid; error_log {home}/error.log;
            events {{ worker_connections 19000; }}
            worker_rlimit_nofile 20000;
            http {{
                access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
                fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
                keepalive_requests 1000000;
                server {{
                    listen 127.0.0.1:{port} backlog=8192;
                    location = {} {{ nchan_publisher; nchan_channel_id presence; nchan_message_buffer_length 1000; }}
                    location = {} {{ nchan_subscriber eventsource; nchan_channel_id presence; nchan_subscriber_first_message newest; }}
                }}
            }}",
            PUBLISH,
            SUBSCRIBE,
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, settings).expect("a file");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(folder.path());
        command.env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/bin");
        Self::start("nginx", &mut command, port, folder).await
    }

    async fn start(name: &str, command: &mut Command, port: u16, folder: TempDir) -> Self {
        let process = Process::spawn(name, command);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        until_accepted(address).await;
        Self {
            process,
            address,
            _folder: folder,
        }
    }
}
