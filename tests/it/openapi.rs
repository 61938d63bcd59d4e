//! The committed OpenAPI document is what the handlers say.

use std::process::Command;

use serde_json::Value;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");

fn printed() -> String {
    let mut presence = Command::new(env!("CARGO_BIN_EXE_presence"));
    let output = presence.arg("--print-openapi").output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
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
fn every_operation_is_described_with_an_example_of_what_it_answers() {
    let document: Value = serde_json::from_str(&printed()).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 10, "the paths of the contract");
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().expect("operations") {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what} has no summary");
            assert!(operation["operationId"].is_string(), "{what} has no name");
            let answers = operation["responses"].as_object().expect("responses");
            assert!(answers.contains_key("200"), "{what} says no success");
            for (status, answer) in answers {
                let described = answer["description"].as_str().unwrap_or_default();
                assert!(!described.is_empty(), "{what} {status} is not described");
                assert!(answer["content"].is_object(), "{what} {status} has no body");
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = &parameter["name"];
                assert!(parameter["description"].is_string(), "{what} {name}");
                assert!(
                    !parameter["example"].is_null(),
                    "{what} {name} has no example"
                );
            }
        }
    }
}

#[test]
fn every_field_is_described() {
    let document: Value = serde_json::from_str(&printed()).expect("JSON");
    let schemas = document["components"]["schemas"]
        .as_object()
        .expect("schemas");
    for (name, schema) in schemas {
        assert!(schema["description"].is_string(), "{name} is not described");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{name}.{field}");
        }
    }
}
