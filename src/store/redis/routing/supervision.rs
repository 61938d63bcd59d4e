//! Supervises the nodes of a table, which come and go.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::store::node_id::NodeId;
use crate::store::redis::cluster::table::Table;

/// Polls `supervise` for each node of the newest of `tables`, until the node is in no table any more.
pub(in crate::store::redis) async fn each_node<T, F>(
    mut tables: watch::Receiver<Arc<Table<T>>>,
    id: impl Fn(&T) -> NodeId,
    supervise: impl Fn(T) -> F,
) where
    T: Clone,
    F: Future<Output = ()>,
{
    let (mut supervised, mut known) = (FuturesUnordered::new(), HashSet::new());
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        for node in table.nodes() {
            let number = id(node);
            if known.insert(number) {
                let mut tables = tables.clone();
                let (supervised_node, id) = (supervise(node.clone()), &id);
                supervised.push(async move {
                    let is_gone = |table: &Arc<Table<T>>| {
                        !table.nodes().iter().any(|node| id(node) == number)
                    };
                    tokio::select! {
                        () = supervised_node => {}
                        _ = tables.wait_for(is_gone) => {}
                    }
                    number
                });
            }
        }
        tokio::select! {
            changed = tables.changed() => if changed.is_err() {
                // Nothing changes the table any more.
                while supervised.next().await.is_some() {}
                return std::future::pending().await;
            },
            Some(gone) = supervised.next() => {
                known.remove(&gone);
            }
        }
    }
}
