//! The causes of an outage that are in the log already.

/// How many causes of one outage are logged.
const MOST: usize = 8;

/// The causes since the last success. Attempts of one outage fail for several causes in turn, so each is logged once.
#[derive(Debug, Default)]
pub(super) struct LoggedCauses(Vec<String>);

impl LoggedCauses {
    /// Notes a failure. Returns whether its cause has to be logged.
    pub(super) fn note(&mut self, cause: &str) -> bool {
        let is_new = self.0.len() < MOST && !self.0.iter().any(|known| known == cause);
        if is_new {
            self.0.push(cause.to_owned());
        }
        is_new
    }

    /// Whether nothing has failed since the last success.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a success.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_new_once_until_a_success_and_few_are_new() {
        let mut logged = LoggedCauses::default();
        assert!(logged.note("refused") && logged.note("too slow"));
        assert!(!logged.note("refused") && !logged.note("too slow") && !logged.is_empty());
        let new = (0..100).filter(|number| logged.note(&number.to_string()));
        assert_eq!(new.count(), MOST - 2);
        logged.clear();
        assert!(logged.is_empty() && logged.note("refused"));
    }
}
