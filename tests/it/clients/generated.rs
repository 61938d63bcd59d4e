//! Clients that are generated from the OpenAPI document compile and work, and two linters accept the document.
//!
//! `tests/generated` has a program for each client, and `tests/install` installs the generators.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::deployment::{Deployment, Store};
use harness::instance::Settings;
use harness::serial::run_beside_others;
use tempfile::TempDir;

use super::libraries::installed;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/generated");

const KEY: &str = "a-key-of-thirty-two-characters-ok";

/// A folder with the programs, in which clients are generated.
struct Workshop(TempDir);

impl Workshop {
    fn new() -> Self {
        run_beside_others();
        let folder = tempfile::tempdir().expect("a directory for temporary files");
        for file in std::fs::read_dir(PROGRAMS).expect("the programs") {
            let file = file.expect("a file");
            let copied = std::fs::copy(file.path(), folder.path().join(file.file_name()));
            copied.expect("a copy");
        }
        let modules = installed("generated-node/node_modules");
        let linked = std::os::unix::fs::symlink(modules, folder.path().join("node_modules"));
        linked.expect("a link");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs a program, which must succeed, and returns its output.
    async fn run(&self, program: impl Into<PathBuf>, arguments: &[&str]) -> String {
        let program = program.into();
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(self.path());
        // The Python generators call ruff, which is in the same folder.
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", installed("generated-python/bin").display());
        command
            .env("PATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.expect("no panic");
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let name = program.display();
        assert!(
            output.status.success(),
            "{name} {arguments:?}: {shown}{complaint}"
        );
        shown
    }

    async fn run_node_tool(&self, name: &str, arguments: &[&str]) -> String {
        let tool = format!("generated-node/node_modules/.bin/{name}");
        self.run(installed(&tool), arguments).await
    }

    async fn run_python_tool(&self, name: &str, arguments: &[&str]) -> String {
        let tool = format!("generated-python/bin/{name}");
        self.run(installed(&tool), arguments).await
    }

    /// Generates a client for `language` with OpenAPI Generator.
    async fn generate(&self, language: &str, folder: &str, properties: &str) {
        let properties = format!("--additional-properties={properties}");
        let arguments = ["generate", "-i", DOCUMENT, "-g", language, "-o", folder];
        let arguments = [&arguments[..], &[&properties]].concat();
        self.run_python_tool("openapi-generator-cli", &arguments)
            .await;
    }

    /// Compiles a program with its client and runs it against the service.
    async fn run_typescript(&self, program: &str) {
        let source = format!("{program}.ts");
        let config = self.path().join("tsconfig.json");
        let text = std::fs::read_to_string(&config).expect("the configuration");
        let text = text.trim_end().trim_end_matches('}');
        let text = format!("{text}, \"files\": [\"{source}\"]}}");
        std::fs::write(&config, text).expect("a write");
        self.run_node_tool("tsc", &["--project", "."]).await;
        let built = format!("built/{program}.js");
        let deployment = service().await;
        self.run("node", &[&built, deployment.client().base(), KEY])
            .await;
    }

    /// Compiles all files of a client and runs its program against the service.
    async fn run_python(&self, program: &str) {
        let compile = ["-m", "compileall", "-q", "generated"];
        self.run_python_tool("python", &compile).await;
        let deployment = service().await;
        self.run_python_tool("python", &[program, deployment.client().base(), KEY])
            .await;
    }

    fn read(&self, file: &str) -> String {
        let text = std::fs::read_to_string(self.path().join(file));
        text.unwrap_or_else(|error| panic!("{file}: {error}"))
    }
}

async fn service() -> Deployment {
    let keys = format!("generated:presence.read+presence.write:{KEY}");
    let settings = Settings::new().with("PRESENCE_API_KEYS", &keys);
    Deployment::with(Store::Embedded, settings).await
}

#[tokio::test]
async fn the_python_client_of_openapi_generator_works() {
    let workshop = Workshop::new();
    let names = "packageName=generated";
    workshop.generate("python", ".", names).await;
    workshop.run_python("openapi-generator.py").await;
}

#[tokio::test]
async fn the_client_of_openapi_python_client_works() {
    let workshop = Workshop::new();
    let arguments = [
        "generate",
        "--path",
        DOCUMENT,
        "--output-path=generated",
        "--meta=none",
        "--config=openapi-python-client.yaml",
        "--fail-on-warning",
    ];
    workshop
        .run_python_tool("openapi-python-client", &arguments)
        .await;
    workshop.run_python("openapi-python-client.py").await;
}

#[tokio::test]
async fn the_typescript_client_of_openapi_generator_works() {
    let workshop = Workshop::new();
    workshop
        .generate(
            "typescript-fetch",
            "generated",
            "hideGenerationTimestamp=true",
        )
        .await;
    workshop.run_typescript("typescript-fetch").await;
}

#[tokio::test]
async fn the_client_of_hey_api_works_and_reads_the_stream() {
    let workshop = Workshop::new();
    let client = "@hey-api/client-fetch";
    let arguments = ["-i", DOCUMENT, "-o", "generated", "-c", client];
    workshop.run_node_tool("openapi-ts", &arguments).await;
    workshop.run_typescript("hey-api").await;
}

#[tokio::test]
async fn the_types_of_openapi_typescript_work() {
    let workshop = Workshop::new();
    let arguments = [DOCUMENT, "--output=generated.ts"];
    workshop
        .run_node_tool("openapi-typescript", &arguments)
        .await;
    workshop.run_typescript("openapi-fetch").await;
}

#[tokio::test]
async fn the_client_of_orval_works() {
    let workshop = Workshop::new();
    let output = ["--output", "generated.ts", "--client", "fetch"];
    let arguments = [&["--input", DOCUMENT][..], &output].concat();
    workshop.run_node_tool("orval", &arguments).await;
    workshop.run_typescript("orval").await;
}

#[tokio::test]
async fn clients_for_kotlin_swift_and_rust_are_complete() {
    let workshop = Workshop::new();
    for language in ["kotlin", "swift6", "rust"] {
        workshop
            .generate(language, language, "hideGenerationTimestamp=true")
            .await;
    }
    let models = "kotlin/src/main/kotlin/org/openapitools/client/models";
    let kotlin = workshop.read(&format!("{models}/DisconnectBody.kt"));
    assert!(
        kotlin.contains("val connectionId: kotlin.String?"),
        "{kotlin}"
    );
    assert!(kotlin.contains("val all: kotlin.Boolean?"), "{kotlin}");
}

#[tokio::test]
async fn linters_accept_the_openapi_document() {
    let workshop = Workshop::new();
    let arguments = ["lint", "--max-problems=1000", "--format=json", DOCUMENT];
    let found = workshop.run_node_tool("redocly", &arguments).await;
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["totals"]["warnings"], 0, "redocly: {found}");
    let arguments = ["--ruleset=spectral.yaml", "--fail-severity=hint", DOCUMENT];
    let arguments = [&["lint"][..], &arguments].concat();
    workshop.run_node_tool("spectral", &arguments).await;
}
