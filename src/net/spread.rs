//! Which worker the next connection goes to.

/// How much the first connections of a worker weigh. Without it, a worker with none would get all that come, until
/// it has as many as the others.
const BASE: u64 = 16;

/// Gives each worker the more connections, the less it has to do: the next goes to the worker whose last ones have
/// cost the least, and costs as much as that worker is loaded.
#[derive(Debug)]
pub(super) struct Spread {
    cost: Vec<u64>,
}

impl Spread {
    pub(super) fn over(workers: usize) -> Self {
        Self {
            cost: vec![0; workers],
        }
    }

    /// The number of the next worker, where they are loaded like this.
    pub(super) fn next(&mut self, loads: impl Iterator<Item = usize>) -> usize {
        let loads: Vec<u64> = loads.map(|load| load as u64).collect();
        let count = loads.len().max(1) as u64;
        let mean = loads.iter().sum::<u64>() / count;
        let least = self.cost.iter().copied().min().unwrap_or(0);
        // In turn where they are equal: the first of those that cost the least.
        let next = self.cost.iter().position(|cost| *cost == least);
        let next = next.unwrap_or(0);
        self.cost.iter_mut().for_each(|cost| *cost -= least);
        let load = loads.get(next).copied().unwrap_or(0);
        if let Some(cost) = self.cost.get_mut(next) {
            *cost += BASE + load + mean / 4;
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
    fn workers_that_have_as_much_to_do_take_turns() {
        for load in [0, 1, 1_000] {
            let mut spread = Spread::over(3);
            let turns: Vec<_> = (0..6).map(|_| spread.next([load; 3].into_iter())).collect();
            assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        }
    }

    #[test]
    fn the_one_that_has_less_to_do_gets_more_and_never_all() {
        for load in [8, 200, 5_000, 1_000_000] {
            let [busy, free] = shares([load, 0], 100);
            assert!(busy < free && busy >= 8, "{busy} of 100 at {load}");
        }
    }

    #[test]
    fn the_load_evens_out() {
        let mut spread = Spread::over(2);
        let mut loads = [200, 0];
        for _ in 0..400 {
            loads[spread.next(loads.into_iter())] += 1;
        }
        assert!(loads[0].abs_diff(loads[1]) <= 100, "{loads:?}");
    }
}
