//! Spreads connections over workers.

/// The least cost of a connection. Without it, a worker that lost its connections would get all new connections until
/// it has as many as the others.
const BASE_COST: u64 = 16;

/// Assigns more connections to workers with less load. The next connection goes to the worker with the least cost, and
/// adds the load of this worker to its cost.
#[derive(Debug)]
pub(super) struct Spread {
    costs: Vec<u64>,
}

impl Spread {
    pub(super) fn over(workers: usize) -> Self {
        Self {
            costs: vec![0; workers],
        }
    }

    /// Returns the number of the worker for the next connection. `loads` has the load of each worker.
    pub(super) fn next(&mut self, loads: impl Iterator<Item = usize>) -> usize {
        let loads: Vec<u64> = loads.map(|load| load as u64).collect();
        let count = loads.len().max(1) as u64;
        let mean = loads.iter().sum::<u64>() / count;
        let least = self.costs.iter().copied().min().unwrap_or(0);
        let next = self.costs.iter().position(|cost| *cost == least);
        let next = next.unwrap_or(0);
        self.costs.iter_mut().for_each(|cost| *cost -= least);
        let load = loads.get(next).copied().unwrap_or(0);
        if let Some(cost) = self.costs.get_mut(next) {
            *cost += BASE_COST + load + mean / 4;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(loads: [usize; 2], connections: usize) -> [usize; 2] {
        let mut spread = Spread::over(2);
        let mut shares = [0; 2];
        for _ in 0..connections {
            shares[spread.next(loads.into_iter())] += 1;
        }
        shares
    }

    #[test]
    fn equally_loaded_workers_take_turns() {
        for load in [0, 1, 1_000] {
            let mut spread = Spread::over(3);
            let turns: Vec<_> = (0..6).map(|_| spread.next([load; 3].into_iter())).collect();
            assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        }
    }

    #[test]
    fn a_less_loaded_worker_gets_more_connections_but_not_all() {
        for load in [8, 200, 5_000, 1_000_000] {
            let [busy, free] = shares([load, 0], 100);
            assert!(busy < free && busy >= 8, "{busy} of 100 at {load}");
        }
    }

    #[test]
    fn the_loads_become_equal() {
        let mut spread = Spread::over(2);
        let mut loads = [200, 0];
        for _ in 0..400 {
            loads[spread.next(loads.into_iter())] += 1;
        }
        assert!(loads[0].abs_diff(loads[1]) <= 100, "{loads:?}");
    }
}
