//! The settings of AWS Lambda.

use axum::http::Uri;
use clap::{Args, ValueEnum};

/// The settings of AWS Lambda. They have no effect elsewhere.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "AWS Lambda")]
pub struct LambdaConfig {
    /// Address of the runtime API; AWS Lambda sets it
    ///
    /// The service then answers the invocations of its function, and listens on no address.
    #[arg(
        long = "lambda-runtime-api",
        env = "AWS_LAMBDA_RUNTIME_API",
        value_name = "AWS_LAMBDA_RUNTIME_API",
        value_parser = runtime_api
    )]
    pub runtime_api: Option<Uri>,

    /// Invocations that the function gets at once; AWS Lambda sets it on managed instances
    ///
    /// A number from 1 to 1000.
    #[arg(
        long = "lambda-max-concurrency",
        env = "AWS_LAMBDA_MAX_CONCURRENCY",
        value_name = "AWS_LAMBDA_MAX_CONCURRENCY",
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    pub max_concurrency: Option<u16>,

    /// The invoke mode of the function URL
    ///
    /// Must equal the InvokeMode that is configured at AWS, or no client understands a response.
    ///
    /// Event streams need response_stream.
    #[arg(
        long = "lambda-invoke-mode",
        env = "PRESENCE_LAMBDA_INVOKE_MODE",
        value_name = "PRESENCE_LAMBDA_INVOKE_MODE",
        default_value = "buffered",
        ignore_case = true
    )]
    pub invoke_mode: InvokeMode,
}

impl LambdaConfig {
    /// Whether the service answers invocations instead of listening on an address.
    pub fn is_enabled(&self) -> bool {
        self.runtime_api.is_some()
    }
}

/// How a function URL sends a response to its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InvokeMode {
    /// The whole response at once.
    #[default]
    Buffered,
    /// Each part of the response as soon as the function sends it.
    #[value(name = "response_stream")]
    ResponseStream,
}

/// Reads the address of the runtime API. AWS Lambda sets host and port, without a scheme.
fn runtime_api(text: &str) -> Result<Uri, String> {
    let has_scheme = text.contains("://");
    let url = if has_scheme {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = url.parse().map_err(|_| bad_address())?;
    let is_plain = uri.scheme_str() == Some("http") && uri.query().is_none();
    if is_plain {
        Ok(uri)
    } else {
        Err(bad_address())
    }
}

fn bad_address() -> String {
    "must be a host and a port, such as 127.0.0.1:9001, or an http:// URL".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_runtime_api_needs_no_scheme() {
        for (text, expected) in [
            ("127.0.0.1:9001", "http://127.0.0.1:9001/"),
            ("http://127.0.0.1:9000/.rt", "http://127.0.0.1:9000/.rt"),
        ] {
            let uri = runtime_api(text).expect(text).to_string();
            assert_eq!(uri, expected);
        }
        for bad in ["", "https://127.0.0.1:9001", "a b", "127.0.0.1:9001?x"] {
            assert!(runtime_api(bad).is_err(), "{bad}");
        }
    }
}
