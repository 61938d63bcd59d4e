//! The callers: some ping all the time, some come and go, and some call for the same users at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use harness::client::{Alive, Answer, Client, Left, crowd, try_send};
use harness::timestamp::Timestamp;
use reqwest::Method;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::journal::{Call, Journal, Outcome, Verb};
use super::stage::TTL;

/// The time between two pings of a user that stays online.
const PACE: Duration = Duration::from_millis(400);

/// The time after which such a user tries the next instance. The call goes on.
const HURRY: Duration = Duration::from_secs(1);

/// The time-out of all calls, which is longer than the promised limit.
const PATIENCE: Duration = Duration::from_millis(2_500);

const CONNECTIONS: [&str; 3] = ["1", "phone", "laptop"];

const RACERS: usize = 4;

/// The users that ping all the time and never leave.
pub(super) fn living() -> Vec<String> {
    crowd("living", 12)
}

/// The users that connect, disconnect and expire, with one caller each.
pub(super) fn roaming() -> Vec<String> {
    crowd("roaming", 24)
}

/// The users for which several callers call at once.
pub(super) fn contested() -> Vec<String> {
    crowd("contested", 5)
}

/// The users that connect while the service is denied the processor, and never ping.
pub(super) fn sleepers() -> Vec<String> {
    crowd("sleeper", 6)
}

/// The group that the connections of some users state.
pub(super) const ROOM: &str = "room";

/// Whether the connections of a user state the group: those of every second user.
pub(super) fn is_in_room(user: &str) -> bool {
    let number = user.bytes().last();
    number.is_some_and(|digit| digit % 2 == 0)
}

/// Running callers.
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Callers {
    /// Starts the callers that ping all the time and the one that checks the liveness.
    pub(super) fn steady(clients: &[Client], journal: &Journal, rng: &mut Rng) -> Self {
        let mut callers = Self::none();
        for (number, user) in living().into_iter().enumerate() {
            let mut caller = callers.caller(clients, journal, rng);
            caller.turn = number;
            callers.tasks.spawn(caller.live(user, number % 2));
        }
        let watcher = callers.caller(clients, journal, rng);
        callers.tasks.spawn(watcher.look());
        callers
    }

    /// Starts the callers of the users that come and go.
    pub(super) fn restless(clients: &[Client], journal: &Journal, rng: &mut Rng) -> Self {
        let mut callers = Self::none();
        for user in roaming() {
            let caller = callers.caller(clients, journal, rng);
            callers.tasks.spawn(caller.roam(user));
        }
        for _ in 0..RACERS {
            let caller = callers.caller(clients, journal, rng);
            callers.tasks.spawn(caller.race(contested()));
        }
        callers
    }

    /// Waits for the last call of each caller.
    pub(super) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no caller panicked");
        }
    }

    /// A caller that calls on demand.
    pub(super) fn patient(clients: &[Client], journal: &Journal, rng: &mut Rng) -> Caller {
        Self::none().caller(clients, journal, rng)
    }

    fn none() -> Self {
        Self {
            stop: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    fn caller(&self, clients: &[Client], journal: &Journal, rng: &mut Rng) -> Caller {
        Caller {
            clients: clients.to_vec(),
            journal: journal.clone(),
            rng: rng.fork(),
            stop: Arc::clone(&self.stop),
            turn: 0,
        }
    }
}

pub(super) struct Caller {
    clients: Vec<Client>,
    journal: Journal,
    rng: Rng,
    stop: Arc<AtomicBool>,
    turn: usize,
}

impl Caller {
    async fn live(mut self, user: String, connection: usize) {
        let mut slow: Vec<JoinHandle<bool>> = Vec::new();
        while self.goes_on() {
            let next = Instant::now() + PACE;
            slow.retain(|call| !call.is_finished());
            for _ in 0..self.clients.len() {
                self.turn += 1;
                let instance = self.turn % self.clients.len();
                let connection = Some(CONNECTIONS[connection]);
                let mut call = self.begin(&user, Verb::Ping, connection, instance);
                match timeout(HURRY, &mut call).await {
                    Ok(done) => {
                        if done.expect("no call panicked") {
                            break;
                        }
                    }
                    Err(_) => slow.push(call),
                }
            }
            tokio::time::sleep_until(next).await;
        }
        for call in slow {
            call.await.expect("no call panicked");
        }
    }

    async fn roam(mut self, user: String) {
        while self.goes_on() {
            self.call_at_random(&user).await;
            let silent = self.rng.u8(..100) < 4;
            let silence = if silent { TTL } else { Duration::ZERO };
            sleep(silence + Duration::from_millis(self.rng.u64(50..500))).await;
        }
    }

    async fn race(mut self, users: Vec<String>) {
        while self.goes_on() {
            let user = &users[self.rng.usize(..users.len())];
            self.call_at_random(user).await;
            sleep(Duration::from_millis(self.rng.u64(50..250))).await;
        }
    }

    async fn look(mut self) {
        while self.goes_on() {
            self.turn += 1;
            let instance = self.turn % self.clients.len();
            self.call("", Verb::Look, None, instance).await;
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn call_at_random(&mut self, user: &str) {
        let verbs = [Verb::Connect, Verb::Ping, Verb::Ping, Verb::Disconnect];
        let verb = verbs[self.rng.usize(..verbs.len())];
        let all = verb == Verb::Disconnect && self.rng.bool();
        let connection = CONNECTIONS[self.rng.usize(..CONNECTIONS.len())];
        let instance = self.rng.usize(..self.clients.len());
        self.call(user, verb, (!all).then_some(connection), instance)
            .await;
    }

    /// Makes a call and records it. Returns whether it was carried out.
    pub(super) async fn call(
        &self,
        user: &str,
        verb: Verb,
        connection: Option<&'static str>,
        instance: usize,
    ) -> bool {
        let call = self.begin(user, verb, connection, instance);
        call.await.expect("no call panicked")
    }

    /// Begins a call, which goes on without its caller, and records it when it has ended. Returns whether it was
    /// carried out.
    fn begin(
        &self,
        user: &str,
        verb: Verb,
        connection: Option<&'static str>,
        instance: usize,
    ) -> JoinHandle<bool> {
        let client = &self.clients[instance];
        let path = match verb {
            Verb::Connect => "connect",
            Verb::Ping => "ping",
            Verb::Disconnect => "disconnect",
            Verb::Look => "",
        };
        let mut body = json!({});
        match connection {
            Some("1") => {}
            Some(connection) => body["connectionId"] = connection.into(),
            None => body["all"] = true.into(),
        }
        if matches!(verb, Verb::Connect | Verb::Ping) && is_in_room(user) {
            body["groups"] = json!([ROOM]);
        }
        let request = match verb {
            Verb::Look => client.request(Method::GET, "/livez"),
            _ if body == json!({}) => client.of_user(user, path),
            _ => client.of_user(user, path).json(&body),
        };
        let (user, journal) = (user.to_owned(), self.journal.clone());
        tokio::spawn(async move {
            let sent = Timestamp::now();
            let outcome = match timeout(PATIENCE, try_send(request)).await {
                Ok(Ok(answer)) => outcome(verb, &answer),
                Ok(Err(error)) => Outcome::Unanswered(format!("{error:?}")),
                Err(_) => Outcome::Unanswered("no answer in time".to_owned()),
            };
            let done = matches!(outcome, Outcome::Touched { .. } | Outcome::Left { .. });
            journal.record().calls.push(Call {
                user,
                verb,
                connection,
                instance,
                sent,
                ended: Timestamp::now(),
                outcome,
            });
            done
        })
    }
}

fn outcome(verb: Verb, answer: &Answer) -> Outcome {
    let comes_back = answer.header("retry-after").parse::<u64>().is_ok();
    match (answer.status.as_u16(), verb) {
        (200, Verb::Connect | Verb::Ping) => {
            let alive: Alive = answer.ok();
            Outcome::Touched {
                became_online: alive.became_online,
                expires_at: alive.expires_at,
                is_in_groups: alive.groups.is_none_or(|groups| groups == [ROOM]),
            }
        }
        (200, Verb::Disconnect) => Outcome::Left {
            became_offline: answer.ok::<Left>().became_offline,
        },
        (200, Verb::Look) => Outcome::Lives,
        (503, Verb::Connect | Verb::Ping | Verb::Disconnect) if comes_back => Outcome::Refused,
        (409, Verb::Ping) if answer.body.contains("connection-closed") => Outcome::Closed,
        _ => Outcome::Wrong(format!("{answer:?}")),
    }
}
