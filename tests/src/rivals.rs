//! Requests of one session that get in each other's way.

use sosa_session::{RequestHead, Result, Session, Sessions};
use tokio::task::JoinHandle;

/// What a request does to a session that others write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Moves it to another id, with what it holds.
    Renew,
    /// Begins another in its place.
    Regenerate,
    /// Ends it.
    Destroy,
    /// Counts one up.
    Update,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Renew, Self::Regenerate, Self::Destroy, Self::Update];

    /// Looks at a session, and asks for this.
    ///
    /// # Errors
    ///
    /// If the session cannot be looked up.
    pub async fn ask(self, session: &Session) -> Result<()> {
        session.get::<u64>("count").await?;
        match self {
            Self::Renew => session.renew().await,
            Self::Regenerate => {
                session.regenerate().await?;
                session.insert("user", "ada").await
            }
            Self::Destroy => session.destroy().await,
            Self::Update => count(session).await,
        }
    }

    /// How many calls of the store one try takes, the look at the session included.
    pub fn calls(self) -> usize {
        match self {
            Self::Renew => 3,
            Self::Regenerate | Self::Destroy | Self::Update => 2,
        }
    }
}

/// Counts one up.
///
/// # Errors
///
/// If the session cannot be looked up.
pub async fn count(session: &Session) -> Result<()> {
    session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1).await.map(drop)
}

/// Opens the session of a cookie.
pub fn open(sessions: &Sessions, cookie: &str) -> Session {
    sessions.open(RequestHead::new([("cookie", cookie.as_bytes())]))
}

/// Makes a session, and returns its cookie.
///
/// # Panics
///
/// If it could not be made.
pub async fn new_session(sessions: &Sessions) -> String {
    let session = sessions.open(RequestHead::new([]));
    count(&session).await.expect("there is nothing to look up");
    let headers = sessions.close(&session).await.expect("saved");
    let cookie = headers.set_cookie().expect("a new session has a cookie");
    cookie.value().split(';').next().expect("a name and a value").to_owned()
}

/// Starts clients of which each writes a session without pause until it ends.
pub fn writers(sessions: &Sessions, cookie: &str, number: usize) -> Vec<JoinHandle<()>> {
    let write = |sessions: Sessions, cookie: String| async move {
        loop {
            let session = open(&sessions, &cookie);
            if session.is_new().await.expect("looked up") {
                return;
            }
            count(&session).await.expect("it is known");
            drop(sessions.close(&session).await.expect("saved, or dropped"));
        }
    };
    (0..number).map(|_| tokio::spawn(write(sessions.clone(), cookie.to_owned()))).collect()
}
