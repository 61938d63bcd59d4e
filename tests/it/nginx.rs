//! A real nginx in front of two instances, with the configuration of `infra/nginx`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::instance::Settings;
use crate::process::Process;
use crate::redis_server::free_port;
use crate::sse::Stream;
use crate::wait::eventually;

const CONFIGURATION: &str = include_str!("../../infra/nginx/presence.conf");

/// nginx in a folder of its own; `page` is served at `/page.html`.
pub(crate) struct Nginx {
    _process: Process,
    folder: PathBuf,
    pub(crate) client: Client,
}

impl Nginx {
    pub(crate) async fn in_front_of(cluster: &Cluster) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("presence-nginx-{port}"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("nginx.conf"), configuration(cluster, port)).expect("a file");
        let mut command = Command::new("nginx");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
        command
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"));
        command.args(["-e", "stderr"]);
        let process = Process::spawn("nginx", &mut command);
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        let nginx = Self {
            _process: process,
            folder,
            client,
        };
        eventually("nginx passes a call on", async || {
            let livez = nginx.client.request(reqwest::Method::GET, "/livez");
            let answer = crate::client::try_send(livez).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        nginx
    }

    /// The access log so far.
    fn access_log(&self) -> String {
        fs::read_to_string(self.folder.join("access.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // What is left in a temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration(cluster: &Cluster, port: u16) -> String {
    let mut site = CONFIGURATION.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
    for (number, instance) in cluster.instances.iter().enumerate() {
        let name = format!("server presence-{}:8080;", number + 1);
        assert!(site.contains(&name), "the configuration names {name}");
        site = site.replace(&name, &format!("server {};", instance.address()));
    }
    site = site.replace("/dev/stdout", "access.log");
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|folder| format!("{folder}_temp_path {folder};\n"));
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\n{}{site}\n}}\n",
        folders.concat()
    )
}

#[tokio::test]
async fn behind_nginx_events_pass_at_once_and_streams_resume() {
    let mut cluster =
        Cluster::of(2, Settings::new().with("PRESENCE_ALLOW_ANONYMOUS", "true")).await;
    let nginx = Nginx::in_front_of(&cluster).await;
    let mut stream = Stream::open(&nginx.client, "?snapshot=true&access_token=secret").await;
    assert!(stream.snapshot().await.is_empty());
    let connected = nginx.client.connect("alice").await;
    assert!(connected.became_online);
    assert_eq!(stream.next().await.brief(), "online alice");
    nginx.client.disconnect("alice").await;
    assert_eq!(stream.next().await.brief(), "offline alice");
    let cursor = stream.last_id();
    cluster.instances[0].kill();
    nginx.client.connect("bob").await;
    let mut resumed = Stream::resume(&nginx.client, "?snapshot=true", &cursor).await;
    assert_eq!(resumed.next().await.brief(), "online bob");
    drop(stream);
    eventually("the stream is in the access log", async || {
        nginx.access_log().contains("/v1/events").then_some(())
    })
    .await;
    let log = nginx.access_log();
    assert!(!log.contains("secret"), "{log}");
}
