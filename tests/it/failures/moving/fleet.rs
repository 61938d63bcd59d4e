//! Instances at fixed addresses whose settings change one after another.

use std::time::Duration;

use harness::client::Client;
use harness::instance::{Instance, Settings};
use harness::process::Signal;
use tokio::time::{Instant, sleep};

use crate::failures::scene::all_ready;

pub(super) struct Fleet {
    pub(super) instances: Vec<Instance>,
}

impl Fleet {
    pub(super) async fn start(count: usize, settings: Settings) -> Self {
        let mut instances = Vec::new();
        for _ in 0..count {
            instances.push(Instance::start(&settings).await);
        }
        let fleet = Self { instances };
        all_ready(&fleet.clients()).await;
        fleet
    }

    pub(super) fn clients(&self) -> Vec<Client> {
        self.instances.iter().map(Instance::client).collect()
    }

    /// Replaces the instances one after another.
    pub(super) async fn roll(&mut self, settings: Settings) {
        for instance in &mut self.instances {
            let address = instance.address().to_string();
            instance.send(Signal::Terminate);
            assert_eq!(instance.exit().await.code(), Some(0), "{}", instance.log());
            *instance = Instance::start(&settings.clone().with("PRESENCE_LISTEN", &address)).await;
            all_ready(&[instance.client()]).await;
        }
    }

    /// Kills an instance with SIGKILL, and starts another one at its address.
    pub(super) async fn crash(&mut self, number: usize, settings: &Settings) {
        let instance = &mut self.instances[number];
        let address = instance.address().to_string();
        instance.kill();
        *instance = Instance::start(&settings.clone().with("PRESENCE_LISTEN", &address)).await;
        all_ready(&[instance.client()]).await;
    }

    /// Waits until the move has come to this phase on all instances.
    pub(super) async fn has_phase(&self, phase: u64, patience: Duration) {
        let give_up = Instant::now() + patience;
        for instance in &self.instances {
            let client = instance.client();
            while client.metric("presence_move_phase").await < Some(phase) {
                let reason = client.get("/readyz").await.body;
                assert!(Instant::now() < give_up, "{reason}\n{}", instance.log());
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
