//! The cost of a ping, compared with `SETEX` over webdis and with a constant answer, and the cost with a token.
//!
//! The aims are met on a machine without other guests. The more the caches of the machine are used by others, the less
//! a server with more code does in the same time; the targets hold there, too.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;

use crate::measure::peers::Peer;
use crate::measure::report::{Figure, Row};
use crate::measure::wrk::{REQUESTS, Round, requests, round};

/// There are more rounds than in other claims, because other work of the host affects this claim most.
const ROUNDS: usize = 21;

/// The number of users in the comparison with webdis.
const USERS: usize = 1_000;

/// The number of users with a token. With this many, the default rate limit of 40 calls in a round refuses none below
/// 200,000 calls a second.
const TOKENS: usize = 20_000;

/// The lifetime of the tokens, longer than any run. The service refuses an `exp` that is more than a year ahead.
const TOKEN_LIFETIME: Duration = Duration::from_secs(86_400);

pub(crate) async fn run() -> Vec<Row> {
    let redis = RedisServer::start().await;
    let (webdis, service) = (Peer::webdis(&redis).await, Instance::on(&redis).await);
    let folder = tempfile::tempdir().expect("a folder");
    let [pings, sets, constants] =
        ["pings", "sets", "constants"].map(|name| folder.path().join(name));
    requests(
        &pings,
        (0..USERS).map(|user| format!("POST /v1/users/user-{user}/ping")),
    );
    requests(
        &sets,
        (0..USERS).map(|user| format!("GET /SETEX/user-{user}/60/1")),
    );
    requests(&constants, std::iter::once("GET /livez".to_owned()));
    let webdis_url = format!("http://{}", webdis.address);
    let ours = |file: &Path| round(service.process(), &service.url(""), REQUESTS, file);
    let mut measured: [Vec<Round>; 3] = Default::default();
    // The first round brings all users online and is not counted.
    ours(&pings);
    for _ in 0..ROUNDS {
        measured[0].push(ours(&pings));
        measured[1].push(round(&webdis.process, &webdis_url, REQUESTS, &sets));
        measured[2].push(ours(&constants));
    }
    let rate = measured
        .each_ref()
        .map(|of| figure(of, |round| round.per_second));
    let p99 = measured
        .each_ref()
        .map(|of| figure(of, |round| round.p99.as_secs_f64()));
    let cpu = measured
        .each_ref()
        .map(|of| figure(of, |round| round.cpu_micros));
    let claim = "ping";
    vec![
        Row::new(claim, "requests/s over webdis's", rate[0].over(&rate[1]))
            .at_least(0.85)
            .aim(1.1),
        Row::new(claim, "p99 over webdis's", p99[0].over(&p99[1]))
            .at_most(1.5)
            .aim(1.0),
        Row::new(
            claim,
            "CPU over that of a constant answer",
            cpu[0].over(&cpu[2]),
        )
        .at_most(1.9)
        .aim(1.6),
        Row::new(claim, "CPU, µs", cpu[0].clone()),
        Row::new(claim, "CPU of webdis, µs", cpu[1].clone()),
        Row::new(claim, "CPU of a constant answer, µs", cpu[2].clone()),
    ]
}

pub(crate) async fn token() -> Vec<Row> {
    let redis = RedisServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (signer, pem) = (Signer::new(), folder.path().join("key.pem"));
    std::fs::write(&pem, signer.public_pem()).expect("a file");
    let open = Instance::on(&redis).await;
    let pem = pem.to_string_lossy().into_owned();
    let settings = Settings::new().with("REDIS_URL", &redis.url());
    let settings = settings.with("PRESENCE_JWT_PUBLIC_KEY", &pem);
    let closed = Instance::start(&settings).await;
    let [bare, bearing] = ["bare", "bearing"].map(|name| folder.path().join(name));
    let ping = |user: usize| format!("POST /v1/users/user-{user}/ping");
    requests(&bare, (0..TOKENS).map(ping));
    requests(
        &bearing,
        (0..TOKENS).map(|user| format!("{} {}", ping(user), signer.token(user))),
    );
    let ours = |of: &Instance, file: &Path| round(of.process(), &of.url(""), REQUESTS, file);
    let mut measured: [Vec<Round>; 2] = Default::default();
    // The first round verifies every token and is not counted.
    ours(&closed, &bearing);
    ours(&open, &bare);
    for _ in 0..ROUNDS {
        measured[0].push(ours(&closed, &bearing));
        measured[1].push(ours(&open, &bare));
    }
    let cpu = measured
        .each_ref()
        .map(|of| figure(of, |round| round.cpu_micros));
    let claim = "ping with a token (ES256)";
    vec![
        Row::new(claim, "CPU over that of an open one", cpu[0].over(&cpu[1])).at_most(1.15),
        Row::new(claim, "CPU, µs", cpu[0].clone()),
    ]
}

fn figure(rounds: &[Round], value: impl Fn(&Round) -> f64) -> Figure {
    rounds.iter().map(value).collect()
}

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self(key.expect("a key"))
    }

    fn public_pem(&self) -> String {
        let der = self.0.public_key().as_der().expect("a public key");
        let text = STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    fn token(&self, user: usize) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"JWT"}"#);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let expiry = (now.expect("a clock after 1970") + TOKEN_LIFETIME).as_secs();
        let claims = format!(r#"{{"sub":"user-{user}","exp":{expiry}}}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}
