//! TLS to a Redis server with a private certificate authority, as an ACL user.

use harness::client::crowd;
use harness::instance::{Instance, Settings, runtimes};
use harness::redis_server::{RedisServer, free_port};
use harness::sse::{Stream, briefs};
use harness::wait::eventually_true;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::redis_acl::RIGHTS;
use crate::failures::pingers::assert_refused;
use crate::failures::scene::{all_ready, settings};

struct Encrypted {
    redis: RedisServer,
    port: u16,
    directory: TempDir,
}

impl Encrypted {
    /// A server for `127.0.0.1` with TLS, and a plain port for the commands of the test.
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        write_certificates(&directory);
        Self::with_files_of(directory).await
    }

    /// A server with a self-signed certificate.
    async fn self_signed(server: CertificateParams) -> Self {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        write_self_signed(&directory, server);
        Self::with_files_of(directory).await
    }

    /// A master of a cluster, which knows no other node yet, and its port for other nodes. The nodes speak TLS with
    /// each other too.
    async fn master(files: &TempDir) -> (Self, String) {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        for name in ["ca.pem", "server.pem", "server.key"] {
            let copy = directory.path().join(name);
            std::fs::copy(files.path().join(name), copy).expect("a copy");
        }
        let bus = free_port().to_string();
        let clustered = ["--cluster-enabled", "yes", "--tls-cluster", "yes"];
        let arguments = [&clustered[..], &["--cluster-port", &bus]].concat();
        let master = Self::started(directory, &arguments).await;
        let allow = ["ACL", "SETUSER", "ann", "+cluster|slots"];
        master.redis.command::<()>(&allow).await;
        (master, bus)
    }

    async fn with_files_of(directory: TempDir) -> Self {
        Self::started(directory, &[]).await
    }

    async fn started(directory: TempDir, more: &[&str]) -> Self {
        let file = |name: &str| directory.path().join(name).display().to_string();
        let port = free_port();
        let (number, ca) = (port.to_string(), file("ca.pem"));
        let (certificate, key) = (file("server.pem"), file("server.key"));
        let tls = [
            "--save",
            "",
            "--tls-port",
            &number,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ];
        let redis = RedisServer::start_with(&[&tls[..], more].concat()).await;
        let user = [&["ACL", "SETUSER", "ann", "on", ">s@cret/"], &RIGHTS[..]].concat();
        redis.command::<()>(&user).await;
        Self {
            redis,
            port,
            directory,
        }
    }

    fn settings(&self, credentials: &str) -> Settings {
        let url = format!("rediss://{credentials}127.0.0.1:{}/", self.port);
        settings().with("REDIS_URL", &url)
    }

    /// Settings that name the certificate of the authority, or the certificate of the server if it is self-signed.
    fn trusting_settings(&self, credentials: &str) -> Settings {
        let authority = authority(&self.directory);
        self.settings(credentials)
            .with("PRESENCE_REDIS_CA_FILE", &authority)
    }
}

/// A certificate of an authority that a server presents, as `openssl req -x509` makes it.
fn marked_as_authority(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn authority(directory: &TempDir) -> String {
    directory.path().join("ca.pem").display().to_string()
}

fn write_self_signed(directory: &TempDir, server: CertificateParams) {
    let key = KeyPair::generate().expect("a key");
    let pem = server.self_signed(&key).expect("signed").pem();
    write_files(directory, &pem, &pem, &key);
}

fn write_certificates(directory: &TempDir) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new([]).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Redis takes a certificate whose issuer has the name of its subject for a self-signed one.
    let name = &mut authority.distinguished_name;
    name.push(DnType::CommonName, "authority");
    let authority_pem = authority.self_signed(&authority_key).expect("signed").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    let server = server.signed_by(&key, &issuer).expect("signed");
    write_files(directory, &authority_pem, &server.pem(), &key);
}

fn write_files(directory: &TempDir, authority: &str, server: &str, key: &KeyPair) {
    for (name, text) in [
        ("ca.pem", authority),
        ("server.pem", server),
        ("server.key", &key.serialize_pem()),
    ] {
        std::fs::write(directory.path().join(name), text).expect("a file of our own");
    }
}

/// An instance that serves calls and a stream over TLS, as the user `ann`.
async fn serving_instance(encrypted: &Encrypted) -> Instance {
    let settings = encrypted.trusting_settings("ann:s%40cret%2F@");
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    all_ready(std::slice::from_ref(&client)).await;
    let mut stream = Stream::open(&client, "").await;
    assert!(client.connect("alice").await.became_online);
    assert!(client.disconnect("alice").await.became_offline);
    let changes = stream.changes(2).await;
    assert_eq!(briefs(&changes), ["online alice", "offline alice"]);
    instance
}

#[tokio::test]
async fn an_acl_user_is_served_over_tls_with_a_private_authority() {
    let encrypted = Encrypted::start().await;
    let _instance = serving_instance(&encrypted).await;
    let clients: String = encrypted.redis.command(&["CLIENT", "LIST"]).await;
    let own = clients.lines().filter(|line| line.contains("user=ann"));
    // The connections of the sweeper, the subscriber, the workers and the bulk calls.
    assert_eq!(own.count(), 2 + runtimes(), "{clients}");
}

#[tokio::test]
async fn a_cluster_is_served_over_tls() {
    let files = tempfile::tempdir().expect("a directory for temporary files");
    write_certificates(&files);
    let (first, _) = Encrypted::master(&files).await;
    let (second, bus) = Encrypted::master(&files).await;
    let meet = [
        "CLUSTER",
        "MEET",
        "127.0.0.1",
        &second.port.to_string(),
        &bus,
    ];
    first.redis.command::<()>(&meet).await;
    for (master, from, to) in [(&first, "0", "8191"), (&second, "8192", "16383")] {
        let slots = ["CLUSTER", "ADDSLOTSRANGE", from, to];
        master.redis.command::<()>(&slots).await;
    }
    for master in [&first, &second] {
        eventually_true("the masters know each other", async || {
            let info: String = master.redis.command(&["CLUSTER", "INFO"]).await;
            info.contains("cluster_slots_ok:16384") && info.contains("cluster_state:ok")
        })
        .await;
    }
    let url = format!("rediss+cluster://ann:s%40cret%2F@127.0.0.1:{}/", first.port);
    let settings = first.trusting_settings("").with("REDIS_URL", &url);
    let instance = Instance::start(&settings.with("PRESENCE_PARTITIONS", "16")).await;
    let client = instance.client();
    all_ready(std::slice::from_ref(&client)).await;
    let mut stream = Stream::open(&client, "").await;
    let users = crowd("user", 30);
    client.connect_each(&users).await;
    assert_eq!(stream.changes(30).await.len(), 30);
    assert_eq!(client.online_among(&users).await, users);
    for master in [&first, &second] {
        let clients: String = master.redis.command(&["CLIENT", "LIST"]).await;
        let own = clients.lines().filter(|line| line.contains("user=ann"));
        assert!(own.count() > runtimes(), "{clients}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_that_is_named_is_accepted() {
    let unnamed = marked_as_authority(&[]);
    let of_no_authority = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    for server in [
        marked_as_authority(&["127.0.0.1"]),
        unnamed,
        of_no_authority,
    ] {
        let encrypted = Encrypted::self_signed(server).await;
        serving_instance(&encrypted).await;
    }
}

/// The certificate must be the same, byte by byte, and valid now. Equal names are not enough.
#[tokio::test]
async fn a_self_signed_certificate_that_is_not_named_or_not_valid_now_is_refused() {
    let encrypted = Encrypted::self_signed(marked_as_authority(&["127.0.0.1"])).await;
    let another = tempfile::tempdir().expect("a directory for temporary files");
    write_self_signed(&another, marked_as_authority(&["127.0.0.1"]));
    let mut expired = marked_as_authority(&["127.0.0.1"]);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut early = marked_as_authority(&["127.0.0.1"]);
    early.not_before = rcgen::date_time_ymd(2990, 1, 1);
    early.not_after = rcgen::date_time_ymd(2999, 1, 1);
    let expired = Encrypted::self_signed(expired).await;
    let early = Encrypted::self_signed(early).await;
    let trusting = |encrypted: &Encrypted| encrypted.trusting_settings("ann:s%40cret%2F@");
    let trusting_another =
        trusting(&encrypted).with("PRESENCE_REDIS_CA_FILE", &authority(&another));
    for settings in [trusting_another, trusting(&expired), trusting(&early)] {
        let instance = Instance::start(&settings).await;
        assert_refused(&instance.client().get("/readyz").await);
        assert!(instance.log().contains("certificate"), "{}", instance.log());
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_is_not_trusted_is_refused() {
    let encrypted = Encrypted::start().await;
    let instance = Instance::start(&encrypted.settings("ann:s%40cret%2F@")).await;
    let client = instance.client();
    assert_refused(&client.get("/readyz").await);
    assert!(instance.log().contains("certificate"), "{}", instance.log());
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_never_logged() {
    let encrypted = Encrypted::start().await;
    let settings = encrypted.trusting_settings("ann:mistaken@");
    let instance = Instance::start(&settings).await;
    assert_refused(&instance.client().get("/readyz").await);
    let log = instance.log();
    assert!(log.contains("redis unreachable"), "{log}");
    assert!(!log.contains("mistaken"), "{log}");
}

#[tokio::test]
async fn a_url_without_verification_or_with_an_unreadable_file_stops_the_start() {
    let plain = settings().with("REDIS_URL", "redis://127.0.0.1:1/");
    let encrypted = settings().with("REDIS_URL", "rediss://127.0.0.1:1/");
    let insecure = settings().with("REDIS_URL", "rediss://127.0.0.1:1/#insecure");
    for (settings, variable) in [
        (insecure, "REDIS_URL"),
        (
            plain.with("PRESENCE_REDIS_CA_FILE", "Cargo.toml"),
            "PRESENCE_REDIS_CA_FILE",
        ),
        (
            encrypted
                .clone()
                .with("PRESENCE_REDIS_CA_FILE", "there/is/none"),
            "PRESENCE_REDIS_CA_FILE",
        ),
        (
            encrypted.with("PRESENCE_REDIS_CA_FILE", "Cargo.toml"),
            "PRESENCE_REDIS_CA_FILE",
        ),
    ] {
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert!(!ended.status.success(), "{settings:?}");
        assert!(ended.log.contains(variable), "{settings:?}: {}", ended.log);
    }
}
