//! Callers that connect, ping and disconnect at random and record the answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use harness::client::{Client, try_send};
use harness::sse::{Event, alternating};
use tokio::task::JoinSet;

/// The number of transitions of each user in the answers: online and offline.
pub(crate) type Told = BTreeMap<String, (usize, usize)>;

/// Running callers.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    callers: JoinSet<()>,
    told: Arc<Mutex<Told>>,
    unanswered: Arc<AtomicBool>,
}

impl Traffic {
    /// Starts `callers` callers, each of which calls for `users` at `clients` in turn.
    ///
    /// A call without an answer is repeated once at the next instance.
    pub(crate) fn start(callers: usize, users: &[String], clients: &[Client]) -> Self {
        let mut traffic = Self {
            stop: Arc::default(),
            callers: JoinSet::new(),
            told: Arc::default(),
            unanswered: Arc::default(),
        };
        for number in 0..callers {
            let caller = Caller {
                number,
                users: users.to_vec(),
                clients: clients.to_vec(),
                told: Arc::clone(&traffic.told),
                unanswered: Arc::clone(&traffic.unanswered),
            };
            let stop = Arc::clone(&traffic.stop);
            traffic.callers.spawn(async move {
                let mut turn = caller.number;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    caller.call(turn).await;
                }
            });
        }
        traffic
    }

    /// Waits for the last call of each caller.
    pub(crate) async fn stop(mut self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("no caller panicked");
        }
        let told = self.told.lock().expect("no caller panicked");
        told.clone()
    }

    /// The number of calls so far whose answer said that a user came online.
    pub(crate) fn came_online(&self) -> usize {
        let told = self.told.lock().expect("no caller panicked");
        told.values().map(|(online, _)| online).sum()
    }

    /// Whether a call had no answer, so that a transition may be missing in the answers.
    pub(crate) fn some_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
    }
}

struct Caller {
    number: usize,
    users: Vec<String>,
    clients: Vec<Client>,
    told: Arc<Mutex<Told>>,
    unanswered: Arc<AtomicBool>,
}

impl Caller {
    async fn call(&self, turn: usize) {
        let user = &self.users[fastrand::usize(..self.users.len())];
        let verb = ["connect", "ping", "disconnect", "disconnect"][fastrand::usize(..4)];
        let connection = ["1", "phone"][fastrand::usize(..2)];
        for attempt in 0..2 {
            let client = &self.clients[(turn + attempt) % self.clients.len()];
            let request = client.of_connection(user, verb, connection);
            match try_send(request).await {
                Ok(answer) if answer.status == 200 => {
                    self.note(user, &answer.ok());
                    return;
                }
                // The connection was closed a moment ago.
                Ok(answer) if answer.status == 409 => return,
                _ => self.unanswered.store(true, Ordering::Relaxed),
            }
        }
    }

    fn note(&self, user: &str, answer: &serde_json::Value) {
        let mut told = self.told.lock().expect("no caller panicked");
        let (online, offline) = told.entry(user.to_owned()).or_default();
        *online += usize::from(answer["becameOnline"] == true);
        *offline += usize::from(answer["becameOffline"] == true);
    }
}

/// Checks that the events of each user alternate and match the transitions in the answers, apart from expiries.
pub(crate) fn assert_told_is_what_happened(told: &Told, events: &[Event]) {
    let histories = alternating(events);
    for (user, (online, offline)) in told {
        let history = histories.get(user).cloned().unwrap_or_default();
        let count = |what: &str| history.iter().filter(|event| *event == what).count();
        assert_eq!(count("online"), *online, "{user}: {history:?}");
        assert_eq!(count("disconnected"), *offline, "{user}: {history:?}");
    }
}
