//! A browser that knows what its session must hold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sosa::Collection;
use sosa_peers::browser::Browser;
use sosa_session::{Lifetime, Result, Session, SessionData, SessionOptions, Sessions};
use tokio::task::yield_now;

use crate::tally::{Request, Tally};

/// How long a session lives that is left, and after how long somebody looks whether it is gone.
const LEFT_FOR: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(2_500)];

/// How many of a visitor's sessions may be left behind at a time.
const LEFT: usize = 64;

/// One store, with the usual lifetime and with a short one.
#[derive(Clone)]
pub struct Site {
    usual: Sessions,
    short: Sessions,
}

impl Site {
    pub fn new(collection: impl Collection<SessionData> + Clone + 'static) -> Self {
        let options = SessionOptions::new(collection);
        let short = options.clone().lifetime(Lifetime::new().idle(LEFT_FOR[0]));
        Self { usual: Sessions::new(options), short: Sessions::new(short) }
    }
}

pub struct Visitor {
    site: Site,
    tally: Arc<Tally>,
    browser: Browser,
    /// The keys of the session, and the JSON of their values.
    model: BTreeMap<String, String>,
    /// Those who have a session that will be gone by then.
    left: VecDeque<(Instant, Browser)>,
}

impl Visitor {
    pub fn new(site: &Site, tally: &Arc<Tally>) -> Self {
        Self {
            site: site.clone(),
            tally: tally.clone(),
            browser: Browser::new(&site.usual),
            model: BTreeMap::new(),
            left: VecDeque::new(),
        }
    }

    /// Makes requests until it is told to go.
    pub async fn stay(mut self) {
        while !self.tally.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.visit().await {
                self.tally.fail(&error);
                // Nobody knows what the session holds now.
                self.forget();
            }
            // In memory nothing is waited for.
            yield_now().await;
        }
    }

    async fn visit(&mut self) -> Result<()> {
        if self.left.front().is_some_and(|(gone, _)| *gone <= Instant::now()) {
            let (_, browser) = self.left.pop_front().expect("it was there");
            self.tally.live.fetch_sub(1, Ordering::Relaxed);
            return self.come_late(browser, "a session did not expire").await;
        }
        if self.model.is_empty() {
            return self.start_over().await;
        }
        match fastrand::u8(..100) {
            0..55 => self.read().await,
            55..85 => self.write().await,
            85..91 => self.log_in().await,
            91..94 => self.start_over().await,
            94..98 => self.log_out().await,
            _ if self.left.len() < LEFT => self.leave_behind().await,
            _ => Ok(()),
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.tally.add(Request::Read);
        let session = self.browser.open();
        self.check(&session).await?;
        self.browser.close(&session).await
    }

    async fn write(&mut self) -> Result<()> {
        self.tally.add(Request::Write);
        let session = self.browser.open();
        match fastrand::u8(..4) {
            0 => {
                let count = session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1).await?;
                self.model.insert("count".to_owned(), count.to_string());
            }
            1 => {
                // `user` and `first` stay, so that there is a session to speak of.
                let key = key();
                session.remove(&key).await?;
                self.model.remove(&key);
            }
            _ => self.insert(&session, key()).await?,
        }
        self.browser.close(&session).await
    }

    /// Logs somebody in: all that was there stays, under a new id; the old one opens nothing.
    async fn log_in(&mut self) -> Result<()> {
        self.tally.add(Request::LogIn);
        let before = self.browser.clone();
        let session = self.browser.open();
        session.renew().await?;
        self.insert(&session, "user".to_owned()).await?;
        self.browser.close(&session).await?;
        self.has_another_cookie(&before);
        self.come_late(before, "the old id still opens a session that was renewed").await
    }

    /// Begins a session, in the place of the one before, if there is one.
    async fn start_over(&mut self) -> Result<()> {
        self.tally.add(Request::StartOver);
        let before = self.browser.clone();
        let session = self.browser.open();
        session.regenerate().await?;
        let had_one = !self.model.is_empty();
        self.model.clear();
        for key in ["user".to_owned(), "first".to_owned(), key()] {
            self.insert(&session, key).await?;
        }
        self.browser.close(&session).await?;
        self.has_another_cookie(&before);
        if !had_one {
            self.tally.live.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.come_late(before, "the old id still opens a session that was regenerated").await
    }

    async fn log_out(&mut self) -> Result<()> {
        self.tally.add(Request::LogOut);
        let before = self.browser.clone();
        let session = self.browser.open();
        self.check(&session).await?;
        session.destroy().await?;
        self.browser.close(&session).await?;
        if self.browser.cookie().is_some() {
            self.tally.lose("a logout left the cookie");
        }
        self.forget();
        self.come_late(before, "a session was destroyed and is there").await
    }

    /// Begins another session and never comes back to it in time.
    async fn leave_behind(&mut self) -> Result<()> {
        self.tally.add(Request::LeaveBehind);
        let mut browser = Browser::new(&self.site.short);
        let session = browser.open();
        session.insert("left", text()).await?;
        browser.close(&session).await?;
        self.tally.live.fetch_add(1, Ordering::Relaxed);
        self.left.push_back((Instant::now() + LEFT_FOR[1], browser));
        Ok(())
    }

    /// Makes a request with the cookie of a session that has ended.
    async fn come_late(&mut self, mut browser: Browser, otherwise: &str) -> Result<()> {
        self.tally.add(Request::ComeLate);
        let session = browser.open();
        if !session.is_new().await? || !session.keys().await?.is_empty() {
            self.tally.lose(otherwise);
        }
        browser.close(&session).await
    }

    async fn insert(&mut self, session: &Session, key: String) -> Result<()> {
        let value = text();
        session.insert(&key, &value).await?;
        self.model.insert(key, format!("\"{value}\""));
        Ok(())
    }

    /// Compares all of the session with what it must hold.
    async fn check(&mut self, session: &Session) -> Result<()> {
        let data = session.data().await?;
        let is: BTreeMap<_, _> = data.iter().map(|(key, value)| (key.into_owned(), value.to_owned())).collect();
        if is != self.model {
            self.tally.lose(if is.is_empty() { "a session is not there" } else { "a session holds something else" });
            self.model = is;
        }
        Ok(())
    }

    fn has_another_cookie(&self, before: &Browser) {
        if self.browser.cookie().is_none() || self.browser.cookie() == before.cookie() {
            self.tally.lose("a session has no new cookie");
        }
    }

    fn forget(&mut self) {
        if !self.model.is_empty() {
            self.tally.live.fetch_sub(1, Ordering::Relaxed);
        }
        self.model.clear();
        self.browser = Browser::new(&self.site.usual);
    }
}

fn key() -> String {
    format!("key {}", fastrand::u8(..10))
}

/// Some text of up to 200 letters.
fn text() -> String {
    (0..fastrand::usize(10..200)).map(|_| fastrand::alphanumeric()).collect()
}
