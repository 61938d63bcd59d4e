//! Random requests, from good ones to noise.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

pub(super) const API_KEYS: &str = "all:presence.read+presence.write:key-of-all-0123456789";
pub(super) const JWT_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A well-formed token with an invalid signature.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.c2lnbmF0dXJl";

/// Any request, as bytes. Most are nearly good, because noise fails on the first line already.
pub(super) fn any() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => good(),
        4 => (good(), vec(mutation(), 1..4)).prop_map(|(request, mutations)| {
            mutations.iter().fold(request, |request, mutation| mutation.of(request))
        }),
        1 => vec(proptest::num::u8::ANY, 0..64),
        1 => vec(proptest::num::u8::ANY, 0..64).prop_map(|bytes| {
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), bytes].concat()
        }),
    ]
}

/// A request that is well-formed HTTP with any content.
fn good() -> impl Strategy<Value = Vec<u8>> {
    (target(), headers(), body()).prop_map(|(target, headers, body)| {
        let length = body.len();
        let head = format!(
            "{target} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        [head.into_bytes(), body].concat()
    })
}

/// Method, path and query: those of a call, or any combination.
fn target() -> impl Strategy<Value = String> {
    let method = select(vec!["GET", "POST", "PUT", "HEAD", "OPTIONS", "BREW"]);
    let stream = query(vec!["userIds", "userIds", "snapshot", "lastEventId"]);
    let page = query(vec!["limit", "cursor"]);
    let all = vec![
        "userIds",
        "snapshot",
        "lastEventId",
        "limit",
        "cursor",
        "access_token",
        "x",
    ];
    prop_oneof![
        2 => user().prop_map(|path| format!("POST {path}")),
        1 => (select(vec!["GET", "POST"]), stream).prop_map(|(method, query)| format!("{method} /v1/events{query}")),
        1 => page.prop_map(|query| format!("GET /v1/online{query}")),
        1 => Just("POST /v1/online".to_owned()),
        3 => (method, path(), query(all)).prop_map(|(method, path, query)| format!("{method} {path}{query}")),
    ]
}

fn user() -> impl Strategy<Value = String> {
    let user = "[a-z]{1,3}|(%[0-9a-fA-F]{2}){1,5}|[!-~]{0,9}|[a-z]{126,130}|(%C3%A9){63,66}";
    let verb = select(vec!["", "/connect", "/ping", "/disconnect", "/leave", "/"]);
    (user, verb).prop_map(|(user, verb)| format!("/v1/users/{user}{verb}"))
}

fn path() -> impl Strategy<Value = String> {
    let fixed = select(vec![
        "/v1/online",
        "/v1/online/count",
        "/v1/events",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/",
        "/docs/../livez",
        "*",
        "http://other/v1/online",
    ]);
    prop_oneof![
        1 => user(),
        4 => fixed.prop_map(str::to_owned),
        1 => "(/|[!-~]){0,12}",
    ]
}

fn query(names: Vec<&'static str>) -> impl Strategy<Value = String> {
    let value = "true|false|[0-9]{1,4}|[a-z,]{0,8}|(%[0-9a-fA-F]{2}){0,4}|%[c-f][0-9]|[A-Za-z0-9_-]{0,24}|[0-9a-f]{1,4}\\.[0-9a-f]{1,4}\\.[0-9a-f]~?|[!-~]{0,6}";
    let pair = (select(names), value).prop_map(|(name, value)| format!("{name}={value}"));
    option::of(vec(pair, 0..4)).prop_map(|pairs| match pairs {
        Some(pairs) => format!("?{}", pairs.join("&")),
        None => String::new(),
    })
}

fn headers() -> impl Strategy<Value = String> {
    let key = API_KEYS.rsplit(':').next().expect("an API key");
    let credential = prop_oneof![
        6 => Just(format!("Authorization: Bearer {key}\r\n")),
        1 => ("(Bearer|Basic|bearer) ?", mutation()).prop_map(|(scheme, mutation)| {
            let token = mutation.of(TOKEN.as_bytes().to_vec());
            let token: String = token.iter().filter(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
            format!("Authorization: {scheme}{token}\r\n")
        }),
        1 => "(Authorization: [!-~]{0,9}\\r\\n){0,2}",
    ];
    let kind = prop_oneof![
        4 => Just("Content-Type: application/json\r\n".to_owned()),
        1 => "(Content-Type: [a-z/+;= ]{0,20}\\r\\n)?",
    ];
    let others = "(Last-Event-ID: ([0-9a-f.~]{0,12}|[ -~]{0,9})\\r\\n)?(Origin: [!-~]{0,9}\\r\\n)?";
    (credential, kind, others).prop_map(|(credential, kind, others)| credential + &kind + &others)
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let text = "\"([a-z]{1,3}|\\PC{0,4}|(\\\\u00[0-9a-f]{2}){1,2})\"";
    let list = vec(text, 0..4).prop_map(|texts| format!("[{}]", texts.join(",")));
    let value = prop_oneof![
        text.prop_map(String::from),
        list,
        select(vec!["true", "false", "null", "1", "-1e999", "{}", "[[]]"]).prop_map(str::to_owned),
    ];
    let name = select(vec!["connectionId", "all", "userIds", "snapshot", "x"]);
    let field = (name, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    prop_oneof![
        2 => Just(Vec::new()),
        6 => vec(field, 0..3).prop_map(|fields| format!("{{{}}}", fields.join(",")).into_bytes()),
        1 => vec(proptest::num::u8::ANY, 0..32),
        1 => (0_usize..70_000).prop_map(|size| vec![b' '; size]),
    ]
}

/// A change of some bytes at any place.
#[derive(Clone, Debug)]
struct Mutation {
    at: Index,
    removed: usize,
    added: Vec<u8>,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let added = prop_oneof![
        vec(proptest::num::u8::ANY, 0..4),
        select(vec![
            "\r\n",
            "\n",
            "\0",
            " ",
            ":",
            "%",
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\n",
            "0\r\n\r\n"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    (proptest::arbitrary::any::<Index>(), 0_usize..4, added)
        .prop_map(|(at, removed, added)| Mutation { at, removed, added })
}

impl Mutation {
    fn of(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let from = self.at.index(bytes.len() + 1);
        let to = (from + self.removed).min(bytes.len());
        bytes.splice(from..to, self.added.iter().copied());
        bytes
    }
}
