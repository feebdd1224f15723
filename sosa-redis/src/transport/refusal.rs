//! Answers upon which a request is sent to another server, or again: a replica, a server that is not ready, a slot that
//! no node serves.

use redis::{ServerError, Value};

/// Returns whether the server is a replica that only reads.
pub(crate) fn is_read_only(answer: &Value) -> bool {
    has_error(answer, &|error| error.code() == "READONLY")
}

#[cfg(feature = "sentinel")]
pub(crate) fn is_without_replicas(answer: &Value) -> bool {
    has_error(answer, &|error| {
        error.code() == "NOREPLICAS" || error.details().is_some_and(|of| of.contains("NOREPLICAS"))
    })
}

/// Returns whether an answer, or one of a transaction, is such an error.
fn has_error(answer: &Value, is_it: &impl Fn(&ServerError) -> bool) -> bool {
    match answer {
        Value::ServerError(error) => is_it(error),
        Value::Array(answers) => answers.iter().any(|answer| has_error(answer, is_it)),
        _ => false,
    }
}

/// Returns whether nothing was done because the key is not served at the time, or the server is not ready.
#[cfg(any(feature = "cluster", feature = "sentinel"))]
pub(crate) fn is_unserved(answer: &Value) -> bool {
    let is_down = |answer: &Value| match answer {
        Value::ServerError(error) => matches!(error.code(), "CLUSTERDOWN" | "LOADING" | "MASTERDOWN"),
        _ => false,
    };
    match answer {
        // A transaction, of which nothing was executed.
        Value::Array(answers) => match &**answers {
            [.., executed @ Value::ServerError(error)] => {
                is_down(executed) || error.code() == "EXECABORT" && answers.iter().any(is_down)
            }
            _ => false,
        },
        answer => is_down(answer),
    }
}
