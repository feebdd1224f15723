//! The only place that makes this backend's errors.

use std::time::Duration;

use redis::{RedisError, ServerError, Value};
use sosa::{Error, ErrorKind, Outcome, Result};

pub(crate) const BACKEND: &str = "redis";

/// Why rustls would panic, and what to do.
pub(crate) const NO_CRYPTOGRAPHY: &str = "rustls needs its cryptography, which the program chooses: let main begin with \
    sosa_redis::rustls::crypto::ring::default_provider().install_default(), or install another";

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The slot is migrating, and some of the request's keys are on the old node and some on the new one. Nothing was
    /// applied; requests for a single key work.
    SlotMoving,
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::SlotMoving => {
                Self::new(ErrorKind::Unavailable, "a part of the collection is moving to another node")
            }
            Failure::Error(error) => error,
        }
    }
}

/// Takes the error out of an answer, if it is one.
pub(crate) fn answer(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::ServerError(error) => Err(refused(&error)),
        answer => Ok(answer),
    }
}

/// How servers say, by their version, that a command within a script is not permitted.
const IN_A_SCRIPT: [&str; 2] = ["user executing the script", "ACL failure in script"];

/// Takes the error out of the answer of a script, if it is one. `in_part` is the outcome if only a part of the script was
/// carried out.
pub(crate) fn script_answer(answer: Value, in_part: Outcome) -> Result<Value, Failure> {
    let Value::ServerError(error) = &answer else { return Ok(answer) };
    Err(match error.code() {
        // No script stumbles over a value of another type, so that it is the index, which comes first.
        "WRONGTYPE" => Error::new(ErrorKind::Other, FOREIGN_INDEX).with_source(shown(error)).into(),
        // Of a command in it, and those before that are done.
        "ERR" if error.details().is_some_and(|details| IN_A_SCRIPT.iter().any(|said| details.contains(said))) => {
            Error::new(ErrorKind::PermissionDenied, NOT_PERMITTED)
                .with_outcome(in_part)
                .with_source(shown(error))
                .into()
        }
        _ => refused(error),
    })
}

/// Why a transaction of two commands was not executed, by the answers to MULTI, to the two, and to EXEC. `in_part` is the
/// outcome if one of the two was.
pub(crate) fn not_executed(answers: &[Value; 4], in_part: Outcome) -> Failure {
    let errors = answers.each_ref().map(|answer| match answer {
        Value::ServerError(error) => Some(error),
        _ => None,
    });
    // The error of a command says more than that nothing was executed.
    let error = match errors {
        [Some(cause), ..] | [_, Some(cause), ..] | [_, _, Some(cause), _] | [.., Some(cause)] => refused(cause),
        _ => return unexpected().into(),
    };
    match errors {
        // Without MULTI each of the two stood for itself.
        [Some(_), None, ..] | [Some(_), _, None, _] => Error::from(error).with_outcome(in_part).into(),
        _ => error,
    }
}

pub(crate) fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// The server refused the request. Nothing was applied.
fn refused(error: &ServerError) -> Failure {
    let details = error.details().unwrap_or_default();
    match error.code() {
        "TRYAGAIN" => Failure::SlotMoving,
        // The same from within a script, and from a transaction.
        "EXECABORT" if details.contains("because of: TRYAGAIN") => Failure::SlotMoving,
        "ERR" if details.contains("non local key") => Failure::SlotMoving,
        _ => refusal(error).into(),
    }
}

fn refusal(error: &ServerError) -> Error {
    let details = error.details().unwrap_or_default();
    let code = match error.code() {
        // It names its reason behind: "Transaction discarded because of: NOREPLICAS Not enough …".
        "EXECABORT" => details.split("because of: ").nth(1).and_then(|cause| cause.split(' ').next()),
        _ => None,
    };
    let (kind, message) = match code.unwrap_or(error.code()) {
        "WRONGTYPE" => return foreign_value().with_source(shown(error)),
        "OOM" => (
            ErrorKind::CapacityExceeded,
            "the server is out of memory and evicts nothing; make room, or raise maxmemory",
        ),
        "READONLY" => (ErrorKind::Unavailable, "the server is a replica that only reads; connect to its primary"),
        "MISCONF" => {
            (ErrorKind::Unavailable, "the server takes no writes because it cannot save them; see its log and its disk")
        }
        "NOREPLICAS" => (ErrorKind::Unavailable, "the server takes no writes while it has too few replicas"),
        "LOADING" => (ErrorKind::Unavailable, "the server is still loading its data"),
        "MASTERDOWN" => (ErrorKind::Unavailable, "the server is a replica that has lost its primary"),
        "BUSY" => (ErrorKind::Unavailable, "a script keeps the server busy; see SCRIPT KILL"),
        "CLUSTERDOWN" | "MOVED" | "ASK" => (ErrorKind::Unavailable, "the cluster does not serve this key now"),
        "CROSSSLOT" => (
            ErrorKind::Unsupported,
            "the server is a node of a cluster; connect by redis-cluster:// or a cluster client",
        ),
        "NOPERM" => (ErrorKind::PermissionDenied, NOT_PERMITTED),
        "NOAUTH" | "WRONGPASS" => (ErrorKind::PermissionDenied, "the server wants another user or password"),
        "ERR" if details.contains("max number of clients") => {
            (ErrorKind::Unavailable, "the server has all the clients that it takes; raise maxclients")
        }
        "ERR" if details.contains("unknown command") || details.contains("Unknown Redis command") => {
            (ErrorKind::Unsupported, "the server does not know a command that is needed; use Redis 7.0 or later")
        }
        _ => (ErrorKind::Other, "the server refuses"),
    };
    Error::new(kind, message).with_source(shown(error))
}

const NOT_PERMITTED: &str = "the server does not let this user do that; sosa-redis's documentation has the ACL line";

const FOREIGN_INDEX: &str = "a key of another type is in the place of the index; see what wrote it, then rename or \
    delete it";

/// The key of a value holds something else than a string.
pub(crate) fn foreign_value() -> Error {
    Error::new(
        ErrorKind::Decode,
        "a key of another type is in the place of a value; see what wrote it, then rename or delete it",
    )
}

/// The value was saved, and its id did not come into the index.
pub(crate) fn not_listed(error: &ServerError) -> Error {
    Error::new(ErrorKind::Other, format!("the value was saved and is not listed: {FOREIGN_INDEX}"))
        .with_outcome(Outcome::Unknown)
        .with_source(shown(error))
}

/// Shows what the server said, but for what it may quote: a key or a value.
fn shown(error: &ServerError) -> String {
    let details = error.details().unwrap_or_default();
    match error.code() {
        "ERR" => format!("ERR {}", unquoted(details)),
        code => format!("{code} {details}"),
    }
}

/// Cuts a text off before the first thing that it quotes.
fn unquoted(text: &str) -> &str {
    text.split(['\'', '"', '`']).next().unwrap_or_default().trim_end()
}

/// There was no answer. `is_sent` tells whether the request had been sent.
pub(crate) fn failed(error: RedisError, is_sent: bool, outcome: Outcome) -> Error {
    // The driver's own requests while it connects, such as to authenticate.
    if let Some([(_, error), ..]) = error.clone().into_server_errors().as_deref() {
        return refusal(error).with_outcome(outcome);
    }
    let (kind, message) = match error.kind() {
        redis::ErrorKind::AuthenticationFailed => {
            (ErrorKind::PermissionDenied, "the server wants another user or password")
        }
        redis::ErrorKind::Server(_) if !is_sent => (
            ErrorKind::PermissionDenied,
            "the server refuses this database; check its number, and that the user may SELECT",
        ),
        // The driver may have wrapped it, in words of its own.
        _ if !is_sent && error.to_string().contains(NO_CRYPTOGRAPHY) => {
            (ErrorKind::InvalidOption, "the client cannot speak TLS")
        }
        redis::ErrorKind::RESP3NotSupported => {
            (ErrorKind::Unsupported, "the server does not speak RESP3; use Redis 7.0 or later")
        }
        redis::ErrorKind::Parse => {
            // Its text may quote what came, a value for example.
            let message = "what answers does not speak the protocol of Redis; check host and port";
            return Error::new(ErrorKind::Unavailable, message).with_outcome(outcome).with_source("malformed answer");
        }
        _ if error.is_timeout() && !is_sent => (ErrorKind::Unavailable, "the server cannot be connected to in time"),
        _ if error.is_timeout() => (ErrorKind::Timeout, "the server did not answer in time"),
        _ if error.is_connection_refusal() => (ErrorKind::Unavailable, "nothing listens at the server's address"),
        _ if error.is_connection_dropped() && !is_sent => {
            (ErrorKind::Unavailable, "the server closes each new connection; has it reached maxclients?")
        }
        _ if !is_sent => (ErrorKind::Unavailable, "the server cannot be connected to"),
        _ if error.is_io_error() => (ErrorKind::Unavailable, "the connection to the server was lost"),
        _ => (ErrorKind::Other, "the driver failed"),
    };
    let failed = Error::new(kind, message).with_outcome(outcome);
    if error.is_io_error() {
        failed.with_source(error)
    } else {
        // A server that does not know HELLO quotes it, password and all.
        failed.with_source(format!("{}: {}", error.category(), unquoted(error.detail().unwrap_or_default())))
    }
}

/// The call's time is over.
pub(crate) fn late(limit: Duration, is_sent: bool, outcome: Outcome) -> Error {
    let message = match is_sent {
        false => format!("no connection to the server within {limit:?}"),
        true => format!("no answer from the server within {limit:?}"),
    };
    Error::new(ErrorKind::Timeout, message).with_outcome(outcome)
}

/// The index holds something that is no id, and a page cannot go on after it.
pub(crate) fn foreign_id() -> Error {
    Error::new(ErrorKind::Other, "the index holds ids that are no text; see what wrote them, and remove them")
}

/// An answer of another kind than the command has.
pub(crate) fn unexpected() -> Error {
    Error::new(ErrorKind::Other, "the server's answer is not that of the command; is it a Redis 7.0 or later?")
        .with_outcome(Outcome::Unknown)
}

pub(crate) fn invalid_url(url: &str) -> Error {
    let message = match url.split_once("://") {
        Some(("rediss" | "rediss-cluster" | "rediss-sentinel", _)) if !cfg!(feature = "tls-rustls") => {
            "rediss:// needs TLS; enable the feature `tls-rustls`, or one for TLS of the crate redis"
        }
        Some(("redis-cluster" | "rediss-cluster", _)) => {
            "the URL is not of the form redis-cluster://[user][:password@]host[:port][,host[:port]…]"
        }
        Some(("redis-sentinel" | "rediss-sentinel", _)) => {
            "the URL is not of the form redis-sentinel://[user][:password@]host[:port][,host[:port]…][/database]\
             ?sentinelMasterId=name"
        }
        Some(("redis" | "rediss" | "redis+unix" | "unix" | "valkey" | "valkeys", _)) => {
            "the URL is not of the form redis://[user][:password@]host[:port][/database] or redis+unix:///path"
        }
        _ => {
            "the URL begins with none of redis://, redis+unix://, redis-cluster:// and redis-sentinel://, nor with rediss for TLS"
        }
    };
    Error::new(ErrorKind::InvalidOption, message)
}

pub(crate) fn no_cryptography() -> Error {
    Error::new(ErrorKind::InvalidOption, NO_CRYPTOGRAPHY)
}

/// The URL is of a kind that was left out when the program was built.
#[cfg(not(all(feature = "cluster", feature = "sentinel")))]
pub(crate) fn missing_feature(url: &str, feature: &str) -> Error {
    let scheme = url.split("://").next().unwrap_or_default();
    Error::new(ErrorKind::InvalidOption, format!("{scheme}:// needs the feature `{feature}` of sosa-redis"))
}

/// A verb is polled by another runtime than tokio's, or by none.
pub(crate) fn outside_of_tokio() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the driver needs tokio: await verbs within its runtime, with timers and I/O enabled",
    )
}

pub(crate) fn not_indexed() -> Error {
    Error::new(ErrorKind::Unsupported, "this collection keeps no index of its ids, and cannot be listed")
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use redis::make_extension_error;

    use super::*;

    fn server_error(code: &str, details: &str) -> ServerError {
        let error = make_extension_error(code.to_owned(), Some(details.to_owned()));
        error.into_server_errors().and_then(|errors| Some(errors.first()?.1.clone())).expect("it is a server's")
    }

    #[test]
    fn what_the_server_quotes_is_not_shown() {
        let said = "unknown command `GETEX`, with args beginning with: `myapp:people:sesame`, `PX`";
        let hello = "unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'ada' 'sesame'";
        let connecting = RedisError::from((redis::ErrorKind::AuthenticationFailed, "refused", hello.to_owned()));
        let malformed = RedisError::from((redis::ErrorKind::Parse, "sesame", "sesame".to_owned()));
        for error in [
            refusal(&server_error("ERR", said)),
            failed(connecting, false, Outcome::NotApplied),
            failed(malformed, true, Outcome::Unknown),
        ] {
            let source = error.source().expect("what was said is kept").to_string();
            assert!(!format!("{error} {error:?} {source}").contains("sesame"), "{error:?}");
        }
    }

    #[test]
    fn a_transaction_is_not_executed_for_what_was_wrong() {
        let error = |code: &str, details: &str| Value::ServerError(server_error(code, details));
        let queued = || Value::SimpleString("QUEUED".to_owned());
        let discarded = || error("EXECABORT", "Transaction discarded because of previous errors.");
        let replicas = error("EXECABORT", "Transaction discarded because of: NOREPLICAS Not enough good replicas.");
        let denied = || error("NOPERM", "this user has no permissions");
        let no_multi = || error("ERR", "EXEC without MULTI");
        for (answers, kind, outcome) in [
            (
                [Value::Okay, error("OOM", ""), error("OOM", ""), discarded()],
                ErrorKind::CapacityExceeded,
                Outcome::NotApplied,
            ),
            ([Value::Okay, queued(), denied(), discarded()], ErrorKind::PermissionDenied, Outcome::NotApplied),
            ([Value::Okay, queued(), queued(), replicas], ErrorKind::Unavailable, Outcome::NotApplied),
            ([denied(), Value::Okay, Value::Int(1), no_multi()], ErrorKind::PermissionDenied, Outcome::Unknown),
            ([denied(), Value::Okay, denied(), no_multi()], ErrorKind::PermissionDenied, Outcome::Unknown),
            ([denied(), denied(), denied(), denied()], ErrorKind::PermissionDenied, Outcome::NotApplied),
        ] {
            let error = Error::from(not_executed(&answers, Outcome::Unknown));
            assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{answers:?}");
        }
    }
}
