//! The names in PromQL expressions.

use std::collections::BTreeSet;

/// The words before a list of labels.
const LABEL_LISTS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// The words that name neither a metric nor a function.
const OPERATORS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Each metric, with the labels that its matchers name.
    pub(super) selectors: Vec<(String, BTreeSet<String>)>,
    /// The labels by which results are grouped or joined.
    pub(super) labels: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text,
    Mark(char),
}

/// Reads the names in `expression`. Panics if it selects metrics without a name.
pub(super) fn names_in(expression: &str) -> Names {
    let mut names = Names::default();
    let mut tokens = tokens(expression).into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Mark('{') => panic!("a selector without a name in {expression}"),
            // A range is a duration.
            Token::Mark('[') => {
                tokens.find(|token| *token == Token::Mark(']'));
            }
            Token::Word(word) => match tokens.peek() {
                _ if OPERATORS.contains(&&*word) => {}
                Some(Token::Mark('(')) => {
                    if LABEL_LISTS.contains(&&*word) {
                        let list = tokens.by_ref();
                        let list = list.take_while(|token| *token != Token::Mark(')'));
                        names.labels.extend(list.filter_map(word_of));
                    }
                }
                // An aggregation.
                Some(Token::Word(next)) if ["by", "without"].contains(&&**next) => {}
                // The list of labels of a join may be absent.
                _ if LABEL_LISTS.contains(&&*word) => {}
                Some(Token::Mark('{')) => {
                    let list = tokens.by_ref();
                    let list = list.take_while(|token| *token != Token::Mark('}'));
                    names
                        .selectors
                        .push((word, list.filter_map(word_of).collect()));
                }
                _ => names.selectors.push((word, BTreeSet::new())),
            },
            Token::Text | Token::Mark(_) => {}
        }
    }
    names
}

fn word_of(token: Token) -> Option<String> {
    match token {
        Token::Word(word) => Some(word),
        Token::Text | Token::Mark(_) => None,
    }
}

/// Numbers and blanks are left out.
fn tokens(expression: &str) -> Vec<Token> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' => {
                let mut is_escaped = false;
                let end = rest[1..].find(|letter| {
                    let is_end = letter == first && !is_escaped;
                    is_escaped = letter == '\\' && !is_escaped;
                    is_end
                });
                tokens.push(Token::Text);
                end.expect("an end of the text") + 2
            }
            _ if is_word(first) => {
                let end = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
                if !first.is_ascii_digit() {
                    tokens.push(Token::Word(rest[..end].to_owned()));
                }
                end
            }
            _ => {
                if !first.is_whitespace() {
                    tokens.push(Token::Mark(first));
                }
                first.len_utf8()
            }
        };
        rest = &rest[end..];
    }
    tokens
}

#[test]
fn metrics_matchers_and_groups_are_told_apart() {
    let expression = r#"histogram_quantile(0.99, sum by (job, le) (
        rate(lag_seconds_bucket{job="a(b)\"{c}", status=~'5..'}[5m] offset 1m)
    )) > 1.5e3 and on (instance) max without (le) (up) / ignoring (kind) group_left (version) count_total"#;
    let names = names_in(expression);
    let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        names.selectors,
        [
            ("lag_seconds_bucket".to_owned(), labels(&["job", "status"])),
            ("up".to_owned(), labels(&[])),
            ("count_total".to_owned(), labels(&[])),
        ]
    );
    let grouped = ["job", "le", "instance", "kind", "version"];
    assert_eq!(names.labels, labels(&grouped));
}
