//! The proxies of `infra/`, with their files.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use harness::client::{Client, try_send};
use harness::deployment::Deployment;
use harness::process::Process;
use harness::redis_server::free_port;
use harness::wait::eventually;
use reqwest::Method;
use tempfile::TempDir;

const NGINX: &str = include_str!("../../../../infra/nginx/presence.conf");
const NGINX_TLS: &str = include_str!("../../../../infra/nginx/presence-tls.conf");
const HAPROXY: &str = include_str!("../../../../infra/haproxy/presence.cfg");
const CADDY: &str = include_str!("../../../../infra/caddy/Caddyfile");

/// The proxy in front of the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    /// nginx with TLS and HTTP/2, and a self-signed certificate.
    NginxTls,
    Haproxy,
    Caddy,
}

/// A running proxy in front of two instances.
pub(crate) struct Front {
    pub(crate) kind: Kind,
    process: Process,
    /// The output that was read so far.
    printed: String,
    folder: TempDir,
    port: u16,
}

impl Front {
    /// Starts the proxy in front of the first two instances of `deployment`.
    pub(crate) async fn start(kind: Kind, deployment: &Deployment) -> Self {
        let addresses = deployment
            .instances
            .iter()
            .map(|instance| instance.address());
        let addresses: Vec<SocketAddr> = addresses.collect();
        let folder = tempfile::tempdir().expect("a directory for temporary files");
        let port = free_port();
        let mut command = match kind {
            Kind::Nginx => nginx(&folder, &pointed(NGINX, "8080", port, &addresses)),
            Kind::NginxTls => {
                let file = pointed(NGINX_TLS, "8443", port, &addresses);
                nginx(&folder, &with_certificate(&folder, &file))
            }
            Kind::Haproxy => haproxy(&folder, &pointed(HAPROXY, "8080", port, &addresses)),
            Kind::Caddy => caddy(&folder, &pointed(CADDY, "8080", port, &addresses)),
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
        let front = Self {
            kind,
            process: Process::spawn(&format!("{kind:?}"), &mut command),
            printed: String::new(),
            folder,
            port,
        };
        front.passes_calls_on().await;
        front
    }

    pub(crate) fn base(&self) -> String {
        match self.kind {
            Kind::NginxTls => format!("https://127.0.0.1:{}", self.port),
            Kind::Nginx | Kind::Haproxy | Kind::Caddy => format!("http://127.0.0.1:{}", self.port),
        }
    }

    /// A client of the proxy without TLS.
    pub(crate) fn client(&self) -> Client {
        assert_ne!(self.kind, Kind::NginxTls, "our clients speak no TLS");
        Client::new(&self.base())
    }

    /// The log so far.
    pub(crate) fn log(&mut self) -> String {
        let access = fs::read_to_string(self.folder.path().join("access.log"));
        for line in self.process.lines_so_far() {
            self.printed.push_str(&line);
            self.printed.push('\n');
        }
        self.process.log() + &self.printed + &access.unwrap_or_default()
    }

    /// Waits until an instance answers through the proxy.
    pub(crate) async fn passes_calls_on(&self) {
        if self.kind == Kind::NginxTls {
            // The file with TLS is nearly the same, and nginx listens before its parent process returns.
            return;
        }
        let client = self.client();
        eventually("the proxy passes a call on", async || {
            let livez = client.request(Method::GET, "/livez");
            let answer = try_send(livez).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

/// The file with the addresses of the test.
fn pointed(file: &str, listens: &str, port: u16, instances: &[SocketAddr]) -> String {
    let mut file = file.to_owned();
    for (number, address) in instances.iter().enumerate() {
        let name = format!("presence-{}:8080", number + 1);
        assert!(file.contains(&name), "the file names {name}");
        file = file.replace(&name, &address.to_string());
    }
    let ours = format!("127.0.0.1:{port}");
    for (named, ours) in [
        (format!("listen {listens}"), format!("listen {ours}")),
        (format!("bind :{listens}"), format!("bind {ours}")),
        (
            format!("\n:{listens} {{"),
            format!("\nhttp://{ours} {{\n\tbind 127.0.0.1"),
        ),
    ] {
        file = file.replacen(&named, &ours, 1);
    }
    assert!(file.contains(&ours), "the file listens at {listens}");
    file
}

fn written(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("a file in a directory of ours");
    path.to_str().expect("a plain path").to_owned()
}

fn with_certificate(folder: &TempDir, file: &str) -> String {
    let names = vec!["127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let certificate = written(folder, "presence.crt", &made.cert.pem());
    let key = written(folder, "presence.key", &made.signing_key.serialize_pem());
    file.replace("/etc/nginx/presence.crt", &certificate)
        .replace("/etc/nginx/presence.key", &key)
}

fn nginx(folder: &TempDir, site: &str) -> Command {
    let site = site.replace("/dev/stdout", "access.log");
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|folder| format!("{folder}_temp_path {folder};\n"));
    let whole = format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\n{}{site}\n}}\n",
        folders.concat()
    );
    let file = written(folder, "nginx.conf", &whole);
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path());
    command.args(["-c", &file, "-e", "stderr"]);
    command
}

fn haproxy(folder: &TempDir, site: &str) -> Command {
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", &written(folder, "haproxy.cfg", site)]);
    command
}

fn caddy(folder: &TempDir, site: &str) -> Command {
    let mut command = Command::new("caddy");
    let file = written(folder, "Caddyfile", site);
    command.args(["run", "--adapter", "caddyfile", "--config", &file]);
    // The home folder and the usual admin port of the user must stay untouched.
    command.env("HOME", folder.path());
    command.env("XDG_CONFIG_HOME", folder.path());
    command.env("XDG_DATA_HOME", folder.path());
    command.env("CADDY_ADMIN", format!("127.0.0.1:{}", free_port()));
    command
}
