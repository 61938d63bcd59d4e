//! The committed OpenAPI document is that of the handlers, and it is complete.

use std::collections::BTreeSet;
use std::process::Command;

use harness::client::send;
use harness::instance::{Instance, Settings};
use reqwest::Method;
use serde_json::Value;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");

const PROBLEMS: &str = include_str!("../../../docs/problems.md");

/// Calls whose body is optional.
const OPTIONAL_BODIES: [&str; 3] = ["connect", "ping", "disconnect"];

fn printed() -> String {
    let mut presence = Command::new(env!("CARGO_BIN_EXE_presence"));
    let output = presence.arg("--print-openapi").output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn document() -> Value {
    serde_json::from_str(&printed()).expect("JSON")
}

/// The operations with method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, operations)| {
        let operations = operations.as_object().expect("operations").iter();
        operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    operations.collect()
}

/// Status and content of each response of each operation.
fn contents(document: &Value) -> Vec<(String, u64, &str, &Value)> {
    let mut all = Vec::new();
    for (what, operation) in operations(document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let code = status.parse().expect("a number");
            for (media_type, content) in response["content"].as_object().expect("a body") {
                all.push((format!("{what} {status}"), code, &**media_type, content));
            }
        }
    }
    all
}

fn problem_types(document: &Value) -> Vec<&str> {
    let schema = &document["components"]["schemas"]["Problem"]["properties"]["type"];
    let types = schema["enum"].as_array().expect("all types").iter();
    types.map(|each| each.as_str().expect("text")).collect()
}

#[test]
fn the_committed_document_is_current() {
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    let current = committed == printed();
    assert!(
        current,
        "openapi/openapi.json is out of date; renew it with `make openapi`"
    );
}

#[test]
fn every_operation_is_described() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], "/");
    assert_eq!(
        document["paths"].as_object().map(|paths| paths.len()),
        Some(15)
    );
    for (what, operation) in operations(&document) {
        assert!(operation["summary"].is_string(), "{what} has no summary");
        assert!(
            operation["description"].is_string(),
            "{what} is not described"
        );
        let name = operation["operationId"].as_str();
        let name = name.unwrap_or_else(|| panic!("{what} has no name"));
        assert!(
            operation["security"].is_array(),
            "{what} says nothing of credentials"
        );
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.contains_key("200"), "{what} says no success");
        for (status, response) in responses {
            let described = response["description"].as_str().unwrap_or_default();
            assert!(!described.is_empty(), "{what} {status} is not described");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter_name = parameter["name"].as_str().expect("a name");
            assert!(
                parameter["description"].is_string(),
                "{what} {parameter_name}"
            );
            // A documentation page would fill in an example cursor, with which every call fails.
            let is_cursor = ["cursor", "lastEventId"].contains(&parameter_name);
            assert_eq!(
                parameter["example"].is_null(),
                is_cursor,
                "{what} {parameter_name}"
            );
        }
        if let Some(body) = operation.get("requestBody") {
            let optional = OPTIONAL_BODIES.contains(&name);
            assert_eq!(body["required"], !optional, "{what}");
            let schema = &body["content"]["application/json"]["schema"];
            assert!(schema["$ref"].is_string(), "{what}: {schema}");
        }
    }
}

#[test]
fn probes_take_no_credential_and_streams_take_one_in_the_query() {
    let document = document();
    let security = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
    for probe in ["/livez", "/readyz"] {
        assert_eq!(security(probe, "get"), serde_json::json!([]), "{probe}");
    }
    let schemes = document["components"]["securitySchemes"].as_object();
    let (bearer, others): (Vec<_>, Vec<_>) = schemes
        .expect("schemes")
        .iter()
        .partition(|(_, scheme)| scheme["scheme"] == "bearer");
    assert_eq!((bearer.len(), others.len()), (1, 1));
    assert!(bearer[0].0 < others[0].0, "the bearer token is shown first");
    let description = others[0].1["description"].as_str().expect("a description");
    assert!(
        description.starts_with("Only for `/v1/events`"),
        "{description}"
    );
    for (what, operation) in operations(&document) {
        let security = operation["security"].to_string();
        let by_query = security.contains(&**others[0].0);
        assert_eq!(
            by_query,
            what.ends_with(" /v1/events"),
            "{what}: {security}"
        );
    }
}

#[test]
fn every_response_has_one_example_with_its_own_status() {
    let document = document();
    let types = problem_types(&document);
    for (what, status, media_type, content) in contents(&document) {
        let example = &content["example"];
        assert!(!example.is_null(), "{what} has no example");
        assert!(content["examples"].is_null(), "{what} has several examples");
        if status < 400 {
            continue;
        }
        assert_eq!(media_type, "application/problem+json", "{what}");
        assert_eq!(example["status"], status, "{what}");
        let of_type = example["type"].as_str().expect("a type");
        assert!(types.contains(&of_type), "{what}: {of_type}");
        let rows = PROBLEMS.lines();
        let row = rows
            .into_iter()
            .find(|row| row.contains(&format!("`{of_type}`")));
        let row = row.unwrap_or_else(|| panic!("{of_type} is not in the table"));
        assert!(row.starts_with(&format!("| {status} |")), "{what}: {row}");
    }
}

#[test]
fn the_table_of_problems_is_in_the_document_and_in_the_documentation() {
    let document = document();
    let description = document["info"]["description"].as_str().expect("text");
    let start = description.find("| Status |").expect("a table");
    let end = description.find("\n</details>").expect("an end");
    let table = &description[start..end];
    assert!(
        PROBLEMS.ends_with(table),
        "docs/problems.md does not end with the table of the code:\n{table}"
    );
    for each in problem_types(&document) {
        assert!(table.contains(&format!("| `{each}` |")), "{each}");
    }
}

#[test]
fn fields_with_a_closed_set_of_values_list_the_values() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    for (schema, field) in [
        ("UserOffline", "reason"),
        ("PresenceReset", "reason"),
        ("PresenceEnd", "reason"),
        ("Health", "status"),
        ("Problem", "type"),
        ("Problem", "status"),
    ] {
        let property = &schemas[schema]["properties"][field];
        let words = property["enum"].as_array().map_or(0, Vec::len);
        assert!(words > 1, "{schema}.{field}: {property}");
    }
}

#[test]
fn every_schema_is_described_and_used() {
    let text = printed();
    let document = document();
    let schemas = document["components"]["schemas"].as_object();
    for (name, schema) in schemas.expect("schemas") {
        assert!(schema["description"].is_string(), "{name} is not described");
        let reference = format!("\"#/components/schemas/{name}\"");
        assert!(text.contains(&reference), "{name} is not used");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            // The description of an object that may be null is beside the reference.
            let of_object = &property["oneOf"][0]["description"];
            let is_described = property["description"].is_string() || of_object.is_string();
            assert!(is_described, "{name}.{field}");
        }
    }
}

#[test]
fn the_schema_of_a_stream_is_any_of_its_payloads() {
    let document = document();
    let name = "#/components/schemas/EventData";
    for method in ["get", "post"] {
        let content = &document["paths"]["/v1/events"][method]["responses"]["200"]["content"];
        assert_eq!(
            content["text/event-stream"]["schema"]["$ref"], name,
            "{method}"
        );
    }
    let any = document["components"]["schemas"]["EventData"]["anyOf"].as_array();
    let any = any.expect("a list").iter();
    let payloads: BTreeSet<_> = any.map(|each| each["$ref"].to_string()).collect();
    assert_eq!(payloads.len(), 9, "{payloads:?}");
}

const KEY: &str = "a-key-of-thirty-two-characters-ok";

/// An instance that requires credentials.
async fn closed_instance() -> Instance {
    let key = format!("all:presence.read+presence.write:{KEY}");
    let settings = Settings::new()
        .with("PRESENCE_API_KEYS", &key)
        .with("PRESENCE_JWT_SECRET", "a-secret-of-thirty-two-characters");
    Instance::start(&settings).await
}

/// The example of a problem document.
fn example<'a>(document: &'a Value, path: &str, method: &str, status: u16) -> &'a Value {
    let problem = "/content/application~1problem+json/example";
    let response = &document["paths"][path][method]["responses"][status.to_string()];
    let example = response.pointer(problem);
    example.unwrap_or_else(|| panic!("{method} {path} {status} has no example"))
}

#[tokio::test]
async fn the_examples_of_invalid_input_are_those_of_the_service() {
    let instance = closed_instance().await;
    let client = instance.client();
    let document = document();
    let long = "x".repeat(129);
    let large = " ".repeat(1_100_000);
    for (path, method, status, target, body) in [
        (
            "/v1/users/{userId}",
            "get",
            400,
            &*format!("/v1/users/{long}"),
            "",
        ),
        (
            "/v1/users/{userId}/connect",
            "post",
            400,
            &*format!("/v1/users/{long}/connect"),
            "",
        ),
        (
            "/v1/users/{userId}/ping",
            "post",
            413,
            "/v1/users/alice/ping",
            &*large,
        ),
        ("/v1/online", "get", 400, "/v1/online?limit=0", ""),
        ("/v1/online", "post", 400, "/v1/online", r#"{"userIds":[]}"#),
        ("/v1/online", "post", 413, "/v1/online", &*large),
        ("/v1/events", "get", 400, "/v1/events?lastEventId=%ff", ""),
        (
            "/v1/events",
            "get",
            431,
            &*format!("/v1/events?userIds={}", "x,".repeat(10_000)),
            "",
        ),
        ("/v1/events", "post", 413, "/v1/events", &*large),
    ] {
        let method_name: Method = method.to_uppercase().parse().expect("a method");
        let request = client.request(method_name, target).bearer_auth(KEY);
        let request = request.header("content-type", "application/json");
        let answer = send(request.body(body.to_owned())).await;
        let said: Value = serde_json::from_str(&answer.body).expect("a problem document");
        let expected = example(&document, path, method, status);
        assert_eq!(said, *expected, "{method} {target:.60}");
    }
}

#[tokio::test]
async fn the_examples_of_a_missing_credential_are_those_of_the_service() {
    let instance = closed_instance().await;
    let client = instance.client();
    let document = document();
    for (what, operation) in operations(&document) {
        let (method, path) = what.split_once(' ').expect("a method");
        if operation["responses"]["401"].is_null() || path == "/metrics" {
            continue;
        }
        let method_name: Method = method.to_uppercase().parse().expect("a method");
        let request = client.request(method_name, &path.replace("{userId}", "alice"));
        let said: Value =
            serde_json::from_str(&send(request).await.body).expect("a problem document");
        assert_eq!(said, *example(&document, path, method, 401), "{what}");
    }
}

#[tokio::test]
async fn the_examples_of_an_invalid_host_are_those_of_the_service() {
    let instance = closed_instance().await;
    let document = document();
    for path in ["/livez", "/readyz", "/metrics"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n");
        let answer = instance.answer_to(request.as_bytes()).await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let said: Value = serde_json::from_str(body).expect("a problem document");
        assert_eq!(said, *example(&document, path, "get", 400), "{path}");
    }
}

#[tokio::test]
async fn every_call_refuses_a_large_body_and_a_large_head_as_documented() {
    let instance = closed_instance().await;
    let client = instance.client();
    let document = document();
    let body = " ".repeat(1_100_000);
    let header = "x".repeat(17_000);
    for (what, _) in operations(&document) {
        let (method, path) = what.split_once(' ').expect("a method");
        let target = path.replace("{userId}", "alice");
        let target = target.replace("{groupId}", "team-7");
        let request = || {
            let method_name: Method = method.to_uppercase().parse().expect("a method");
            let request = client.request(method_name, &target).bearer_auth(KEY);
            request.header("content-type", "application/json")
        };
        let mut refused = vec![(431, request().header("x-large", &header))];
        if path.starts_with("/v1/") {
            refused.push((413, request().body(body.clone())));
        }
        for (status, request) in refused {
            let answer = send(request).await;
            let said: Value = serde_json::from_str(&answer.body).expect("a problem document");
            let expected = example(&document, path, method, status);
            assert_eq!(said, *expected, "{what}");
        }
    }
}
