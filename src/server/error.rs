//! The errors of a service.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::config::InvalidSetting;
use crate::net::fd_limit::TooFewFiles;

/// Why a service cannot start or cannot continue.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The address is in use or does not belong to this machine.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address of the setting.
        address: SocketAddr,
        /// The error of the system.
        cause: io::Error,
    },
    /// The threads of the workers cannot start.
    #[error("cannot start the threads that serve connections: {0}")]
    Workers(io::Error),
    /// The limit of open files is too low.
    #[error("cannot start: {0}")]
    OpenFiles(#[from] TooFewFiles),
    /// A setting is invalid.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// The line that tells the address cannot be written.
    #[error("cannot write to the standard output: {0}")]
    Output(io::Error),
    /// The runtime API of AWS Lambda failed.
    #[error("cannot take invocations: {0}")]
    RuntimeApi(String),
    /// No setting names the runtime API of AWS Lambda.
    #[error("this is not an AWS Lambda function")]
    NotOnLambda,
    /// A background task ended. No background task ends before the drain.
    #[error("the {0} ended; the service cannot continue without it")]
    TaskEnded(String),
}
