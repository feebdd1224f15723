//! A browser without any network.

use sosa_session::{RequestHead, Result, Session, Sessions};

/// What a client has of its session: the cookie.
#[derive(Clone)]
pub struct Browser {
    sessions: Sessions,
    cookie: Option<String>,
}

impl Browser {
    /// Makes a browser without a cookie.
    pub fn new(sessions: &Sessions) -> Self {
        Self { sessions: sessions.clone(), cookie: None }
    }

    /// Gives it this cookie.
    #[must_use]
    pub fn with_cookie(mut self, cookie: impl Into<String>) -> Self {
        self.cookie = Some(cookie.into());
        self
    }

    /// Returns the cookie, as `name=value`.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Begins a request.
    pub fn open(&self) -> Session {
        self.sessions.open(RequestHead::new(self.cookie().map(|cookie| ("cookie", cookie.as_bytes()))))
    }

    /// Ends a request, and keeps the cookie that its response has.
    ///
    /// # Errors
    ///
    /// If the session could not be saved.
    pub async fn close(&mut self, session: &Session) -> Result<()> {
        if let Some(cookie) = self.sessions.close(session).await?.set_cookie() {
            let pair = cookie.value().split(';').next().expect("a name and a value");
            // One that is taken back has no value.
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
        Ok(())
    }
}
