//! The session of one request, as its handler sees it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use tracing::warn;

use crate::class::Class;
use crate::data::{SessionData, decode, encode};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Snapshot;
use crate::id::PublicId;
use crate::key::{FieldKey, InsertKey};
use crate::once::Once;
#[cfg(feature = "express")]
use crate::options::check_max_age;
use crate::owner::Owner;
use crate::owners::{DeviceKey, Login, SignIn};
use crate::plan::{IdChange, Origin};
use crate::response::ResponseHeaders;
use crate::state::{Arrival, SigningIn, State};

/// The session of a request. A clone is the same session.
///
/// It is lazy: the first call of any method looks the session up, and a request that calls none
/// costs nothing. It is saved when the request ends, and what a handler sees is provisional until
/// then: other requests of the same client may change the session at the same time. Edits of
/// different keys never lose each other, of two inserts of one key the later save wins, and
/// [`update`](Self::update) reads and writes in one.
///
/// If other requests use the same session:
///
/// - **absent** or **expired**: the session is new and empty, under a new id; it is stored, and its
///   cookie sent, only once something is inserted.
/// - **malformed**: a value that is not of the asked type is an error for that key alone. A record
///   that cannot be read is an error for the request, is not overwritten, and is kept for 30 seconds after the last
///   look; an end and a new beginning need nothing of it.
/// - **raced**: the edits are done to what the others saved. If another request **ended** the
///   session meanwhile, they are dropped, and nothing brings it back.
///
/// # Errors
///
/// Every method can fail as the store can; what else is said of each.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    engine: Arc<Engine>,
    slot: Mutex<Slot>,
    /// A task that had the session has panicked.
    has_panicked: AtomicBool,
    /// The session that a layer around this one's has opened for the same request.
    #[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "there are no layers"))]
    outer: Option<Session>,
}

/// What there is of a session: little until somebody asks for it, since many requests do not.
enum Slot {
    Unused(Unused),
    Used(Box<State>),
}

/// A session that nobody has asked for.
struct Unused {
    arrival: Arrival,
    is_closed: bool,
}

impl Session {
    /// Opens the session of the first of these ids that is a session's.
    pub(crate) fn new(engine: Arc<Engine>, arrival: Arrival, outer: Option<Self>) -> Self {
        let slot = Mutex::new(Slot::Unused(Unused { arrival, is_closed: false }));
        Self(Arc::new(Inner { engine, slot, has_panicked: AtomicBool::new(false), outer }))
    }

    /// Returns this session and those that layers around this one's have opened for the same request.
    #[cfg(feature = "tower")]
    pub(crate) fn with_outer(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |session| session.0.outer.as_ref())
    }

    /// Returns the value of a key, `None` if there is none.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// assert_eq!(session.get::<String>("user").await?.as_deref(), Some("ada"));
    /// assert_eq!(session.get::<u8>("age").await?, None);
    /// assert!(session.get::<u8>("user").await.is_err());
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the value is not a `V`; session and value stay as they are.
    pub async fn get<V: DeserializeOwned>(&self, key: impl FieldKey<V>) -> Result<Option<V>> {
        let key = key.as_ref();
        self.loaded().await?.look_up(key).map(|value| decode(key, value)).transpose()
    }

    /// Inserts a value, whatever the key had before. A value equal to that is no change. It is encoded at once, so that
    /// a value that is not `Send` does not make the handler so.
    ///
    /// A [`Field`](crate::Field) takes its type by value and by reference:
    ///
    /// ```
    /// # use sosa_session::{Field, RequestHead, SessionOptions, Sessions};
    /// const USER: Field<String> = Field::new("user");
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let session = Sessions::new(SessionOptions::memory()).open(RequestHead::new([]));
    /// let user = String::from("ada");
    /// session.insert(USER, &user).await?;
    /// session.insert(USER, "grace").await?;
    /// session.insert("cart", [1, 2]).await?;
    /// assert_eq!(session.get(USER).await?.as_deref(), Some("grace"));
    /// # session.clear().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`] if the value has no JSON form, [`ErrorKind::ReservedKey`] for the key
    /// `sosa`, and for those that [Express](crate::SessionOptions::express) loses where the session is shared
    /// with it; nothing is inserted then.
    // Not `async`, which would keep key and value in the future.
    #[allow(clippy::needless_pass_by_value)]
    pub fn insert<K, V>(&self, key: K, value: V) -> impl Future<Output = Result<()>> + Send
    where
        K: InsertKey<V>,
        V: Serialize,
    {
        let key = self.allowed(key.as_ref());
        let edit = key.and_then(|key| Ok((Box::from(key), encode(key, &value)?)));
        self.insert_encoded(edit)
    }

    async fn insert_encoded(&self, edit: Result<(Box<str>, Vec<u8>)>) -> Result<()> {
        let (key, value) = edit?;
        self.loaded().await?.edit().insert(key, value);
        Ok(())
    }

    /// Removes a key and returns whether it was there.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// assert!(session.remove("user").await?);
    /// assert!(!session.remove("user").await?);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ReservedKey`] as for [`insert`](Self::insert).
    pub async fn remove(&self, key: impl AsRef<str>) -> Result<bool> {
        let key = self.allowed(key.as_ref())?;
        let mut state = self.loaded().await?;
        let was_there = state.look_up(key).is_some();
        if was_there {
            state.edit().remove(key);
        }
        Ok(was_there)
    }

    /// Computes a value from the old one, without losing anybody's change, and returns it.
    ///
    /// `f` gets the value, `None` if there is none. If another request saves the session first, `f`
    /// is called again on what that request saved, so it should do nothing but compute; the value
    /// returned here is then not what is saved in the end.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let session = Sessions::new(SessionOptions::memory()).open(RequestHead::new([]));
    /// let views = session.update("views", |views: Option<u64>| views.unwrap_or(0) + 1).await?;
    /// assert_eq!(views, 1);
    /// # session.clear().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`] if the value is not a `V`, now or when the session is saved; and those
    /// of [`insert`](Self::insert).
    pub async fn update<V, F>(&self, key: impl FieldKey<V>, f: F) -> Result<V>
    where
        V: Serialize + DeserializeOwned,
        F: Fn(Option<V>) -> V + Send + Sync + 'static,
    {
        let name: Box<str> = self.allowed(key.as_ref())?.into();
        let mut state = self.loaded().await?;
        let old = state.look_up(&name).map(|old| decode(&name, old)).transpose()?;
        let value = f(old);
        let text = encode(&name, &value)?;
        let step = {
            let name = name.clone();
            move |old: Option<&[u8]>| encode(&name, &f(old.map(|old| decode(&name, old)).transpose()?))
        };
        state.edit().update(&name, text, Arc::new(step));
        Ok(value)
    }

    /// Removes all keys. The session itself stays; to end it, use [`destroy`](Self::destroy).
    pub async fn clear(&self) -> Result<()> {
        self.loaded().await?.edit().clear();
        Ok(())
    }

    /// Returns the keys, in the order in which they were first inserted.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// session.insert("cart", [1, 2]).await?;
    /// assert_eq!(session.keys().await?, ["user", "cart"]);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn keys(&self) -> Result<Vec<String>> {
        Ok(self.data().await?.keys().map(Into::into).collect())
    }

    /// Returns everything in the session, this request's edits included.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("cart", [1, 2]).await?;
    /// assert_eq!(session.data().await?.json("cart"), Some("[1,2]"));
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn data(&self) -> Result<SessionData> {
        let state = self.loaded().await?;
        let (base, changes) = (state.base(), state.changes());
        if changes.edits.is_empty() && changes.max_age.is_none() {
            return Ok(base.data.clone());
        }
        let engine = &self.0.engine;
        engine.format().preview(base, changes, engine.now())
    }

    /// Lets this session and its cookie live so long after each use, whatever the options say: Express's
    /// `req.session.cookie.maxAge`, in whole milliseconds, `None` for a cookie that ends with the browser's
    /// session. Of a session that is stored it is an edit by itself, where Express forgets it with the request
    /// unless some value changes too; a session that is not stored yet it does not make.
    ///
    /// ```
    /// # use sosa_session::{ExpressOptions, RequestHead, SessionOptions, Sessions};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let collection = sosa_memory::new("myapp").collection("sessions");
    /// # let express = ExpressOptions::new(["keyboard cat"]);
    /// # let sessions = Sessions::new(SessionOptions::express(collection, express));
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// session.set_max_age(Duration::from_secs(30 * 86_400)).await?;
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] for what Express could not read, [`ErrorKind::Unsupported`] if the session is not
    /// shared with Express: then one [`Lifetime`](crate::Lifetime) holds for all.
    #[cfg(feature = "express")]
    pub async fn set_max_age(&self, max_age: impl Into<Option<Duration>>) -> Result<()> {
        let max_age = max_age.into();
        check_max_age(max_age)?;
        let mut state = self.loaded().await?;
        let says_max_age = state.rules().says_max_age;
        supported(says_max_age, "only a session that is shared with Express has a maxAge of its own")?;
        state.change_max_age(max_age.map(|max_age| max_age.as_millis() as u64));
        Ok(())
    }

    /// Gives the session a new id and keeps its data, when it is saved. Do so whenever the rights of a client that
    /// is logged in change, so that an id that leaked before is worth nothing.
    ///
    /// At a login use [`regenerate`](Self::regenerate), and insert again what is to be kept: an attacker who planted the
    /// session's id may have planted its data as well, a token against forged requests or the page to go to. Do
    /// not renew ids by time: a client that does not get the answer has lost its session.
    ///
    /// The absolute lifetime goes on. Requests that are under way with the old id find the session
    /// ended, even if they come up to 30 seconds later: their edits are dropped, and they do not
    /// replace the new cookie. Of two renewals at once the second begins a session of its own if its edits replace
    /// all that it had read, as a login that is sent twice does. One that would keep any of that is
    /// [`ErrorKind::Ended`]: half a session is none. With Express, which leaves no marker, the second always is.
    ///
    /// **If the answer is lost**, the client comes with the old cookie alone, and for 30 seconds its edits are dropped:
    /// a form whose token they hold is refused. A page that begins a login should therefore call `regenerate` before
    /// it inserts a token: that always gives the client a session. A record that cannot be read is
    /// regenerated, since there is nothing that could be kept.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("cart", [1, 2]).await?;
    /// session.save().await?;
    /// let before = session.public_id().await?;
    /// session.renew().await?;
    /// session.insert("user", "ada").await?;
    /// session.save().await?;
    /// assert_ne!(session.public_id().await?, before);
    /// assert_eq!(session.keys().await?, ["cart", "user"]);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn renew(&self) -> Result<()> {
        self.renew_into(None).await
    }

    /// Does as [`renew`](Self::renew), and puts the session into another class, or anew into the one that it has: see
    /// [`SessionOptions::class`](crate::SessionOptions::class). It keeps the data, and begins anew: its absolute lifetime
    /// counts from now. Where nothing is stored yet, it is the class of the session to come. Back to the default class lead
    /// [`regenerate`](Self::regenerate) and [`destroy`](Self::destroy) alone.
    ///
    /// ```
    /// # use sosa_session::{Lifetime, RequestHead, SessionOptions, Sessions};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// const DAY: Duration = Duration::from_secs(86_400);
    /// let remembered = Lifetime::new().idle(30 * DAY).absolute(90 * DAY).persistent();
    /// let sessions = Sessions::new(SessionOptions::memory().class("remembered", remembered));
    /// let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// session.renew_as("remembered").await?;
    /// let headers = sessions.close(&session).await?;
    /// assert!(headers.set_cookie().unwrap().value().contains(".remembered; Path=/; Max-Age=7776000;"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] if there is no such class; [`ErrorKind::Unsupported`] where sessions are shared with Express, and
    /// for one that is [signed in](Self::sign_in), if the options have no [`owners`](crate::SessionOptions::owners).
    pub async fn renew_as(&self, class: &str) -> Result<()> {
        self.renew_into(Some(self.0.engine.format().class(class)?)).await
    }

    async fn renew_into(&self, class: Option<Class>) -> Result<()> {
        let mut state = self.loaded_to_leave().await?;
        if state.goes_on().is_some_and(|session| session.data.login().is_some()) {
            // Under another id nobody would find it.
            self.0.engine.check_owners()?;
        }
        match (state.id_change(), state.origin()) {
            // There is nothing that could be kept.
            (IdChange::Keep, Origin::Unreadable) => {
                self.0.engine.start_over(&mut state, IdChange::Regenerate, class);
            }
            _ => state.ask_for_renewal(class),
        }
        Ok(())
    }

    /// Starts a new session under a new id, when it is saved, and ends this one: its data is
    /// dropped at once. After [`destroy`](Self::destroy), which begins anew already, it drops nothing. What to do at a login. It needs nothing of what is stored, and so works if that cannot be
    /// read, too. If nothing is inserted, there is no session then; but where it is shared with
    /// Express there is an empty one, as there.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("cart", [1, 2]).await?;
    /// session.save().await?;
    /// session.regenerate().await?;
    /// session.insert("user", "ada").await?;
    /// session.save().await?;
    /// assert_eq!(session.keys().await?, ["user"]);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn regenerate(&self) -> Result<()> {
        self.regenerate_into(None).await
    }

    /// Does as [`regenerate`](Self::regenerate), and starts a session of this class: see
    /// [`SessionOptions::class`](crate::SessionOptions::class). What to do at a login whose *stay signed in* was ticked.
    ///
    /// ```
    /// # async fn example(session: sosa_session::Session, stay: bool) -> sosa_session::Result<()> {
    /// match stay {
    ///     true => session.regenerate_as("remembered").await?,
    ///     false => session.regenerate().await?,
    /// }
    /// session.insert("user", "ada").await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`renew_as`](Self::renew_as).
    pub async fn regenerate_as(&self, class: &str) -> Result<()> {
        self.regenerate_into(Some(self.0.engine.format().class(class)?)).await
    }

    async fn regenerate_into(&self, class: Option<Class>) -> Result<()> {
        let mut state = self.loaded_to_leave().await?;
        match state.id_change() {
            IdChange::Destroy => state.set_class(class),
            _ => self.0.engine.start_over(&mut state, IdChange::Regenerate, class),
        }
        Ok(())
    }

    /// Ends the session, when it is saved, and takes the cookie back. What is inserted afterwards
    /// is a new session under a new id.
    ///
    /// A session that another request renewed a moment ago ends under its new id. Where the request came with several
    /// cookies of sessions, all of these end. It needs nothing of what is stored, and so works if that cannot be read.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// session.save().await?;
    /// session.destroy().await?;
    /// session.save().await?;
    /// assert!(session.is_new().await? && session.keys().await?.is_empty());
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    pub async fn destroy(&self) -> Result<()> {
        let mut state = self.loaded_to_leave().await?;
        self.0.engine.start_over(&mut state, IdChange::Destroy, None);
        Ok(())
    }

    /// Signs somebody in, when the session is saved: begins a session under a new id, which is registered as a device of this
    /// owner, and returns the device's key. What to do at a login, where an application wants to know who is signed in where.
    ///
    /// Of what the session held it keeps what this request has inserted, before or after, and the keys that [`SignIn::keep`]
    /// names; an attacker may have planted the rest, and the id. A session that is signed in already is signed out by it,
    /// whoever its owner is. [`renew`](Self::renew) goes on as the same device; [`regenerate`](Self::regenerate) and
    /// [`destroy`](Self::destroy) sign out.
    ///
    /// The owner is what the application knows the user by, best a number that does not change. The cookie exists only once
    /// the owner's record names the session, so that [`Owner::end_all`] finds each that there is.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions, SignIn};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let store = sosa_memory::new("myapp");
    /// # let options = SessionOptions::new(store.collection("sessions")).owners(store.collection("owners"));
    /// # let sessions = Sessions::new(options);
    /// # let session = sessions.open(RequestHead::new([]));
    /// let key = session.sign_in("ada", SignIn::new().label("Firefox on Linux").keep(["cart"])).await?;
    /// session.save().await?;
    ///
    /// let ada = session.owner().await?.expect("somebody is signed in");
    /// assert_eq!((ada.name(), ada.list().await?[0].key), ("ada", key));
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] without [`SessionOptions::owners`](crate::SessionOptions::owners);
    /// [`ErrorKind::Options`] if there is no such class, or the owner's name is empty, which would be everybody's whom an
    /// application forgot to name. When it is saved: those of [`save`](Self::save), [`ErrorKind::TooManyDevices`], and
    /// [`ErrorKind::Ended`] if the sign-in was ended by then; the session stays as it was, and the request is answered with
    /// 409 even if the handler has returned.
    pub async fn sign_in(&self, owner: impl Into<String>, sign_in: SignIn) -> Result<DeviceKey> {
        let engine = &self.0.engine;
        let owner = owner.into().into_boxed_str();
        engine.check_owners()?;
        if owner.is_empty() {
            return Err(Error::new(ErrorKind::Options, "an owner has a name: this one is empty"));
        }
        let SignIn { class, label, keep } = sign_in;
        let class = class.map(|class| engine.format().class(&class)).transpose()?;
        let key = DeviceKey::random()?;
        let mut state = self.loaded_to_leave().await?;
        let before = state.signing_in().map(|sign_in| &sign_in.kept);
        let kept = match before.or_else(|| state.goes_on()) {
            Some(session) => Snapshot::new(session.data.only(&keep)?, session.class),
            None => Snapshot::empty().clone(),
        };
        let login = Login { owner, key };
        state.ask_for_sign_in(SigningIn { login, label, kept }, class)?;
        Ok(key)
    }

    /// Returns who is signed in, `None` if nobody is. The sign-in of this request counts, though it is not saved yet.
    pub async fn owner(&self) -> Result<Option<Owner>> {
        let state = self.loaded().await?;
        let asked = state.signing_in().map(|sign_in| sign_in.login.clone());
        let login = asked.or_else(|| state.goes_on()?.data.login());
        let engine = &self.0.engine;
        Ok(login.map(|Login { owner, key }| Owner::new(engine.clone(), owner, Some(key))))
    }

    /// Signs out all other devices of who is signed in, now, and returns how many: *sign out elsewhere*, and after a password
    /// was changed. A sign-in of this request has to be saved before.
    ///
    /// ```
    /// # async fn example(session: sosa_session::Session) -> sosa_session::Result<String> {
    /// let others = session.end_others().await?;
    /// Ok(format!("Signed out on {others} other devices."))
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotSignedIn`] if nobody is signed in; those of [`Owner`].
    pub async fn end_others(&self) -> Result<usize> {
        let engine = &self.0.engine;
        let login = self.loaded().await?.goes_on().and_then(|session| session.data.login());
        let Some(Login { owner, key }) = login else {
            return Err(Error::new(ErrorKind::NotSignedIn, "nobody is signed in by the session"));
        };
        Ok(engine.end_devices(&owner, |other| other != key).await?.devices)
    }

    /// Counts this request as a use of the session, though it reads nothing; in a response that
    /// takes long, such as a stream, it counts as one each time that [`save`](Self::save) follows, which is
    /// [`ErrorKind::Ended`] if the session has ended elsewhere. In an [`unattended`](Self::unattended) request it is none.
    pub async fn touch(&self) -> Result<()> {
        let mut state = self.state().await;
        if state.origin() == Origin::Unloaded && !state.is_closed() {
            return self.0.engine.load(&mut state).await;
        }
        state.ask_for_touch();
        Ok(())
    }

    /// Makes what this request does no use of its session, for requests that a page makes by itself: polling must not keep
    /// a session alive that nobody is in front of. Looks do not move the deadline, saves keep it, and a renewal copies it,
    /// but for one [into a class](Self::renew_as); a session that begins gets its lifetime. A cookie that rolls is not sent
    /// again. For whole routes there is `UnattendedLayer` of the feature `tower`.
    ///
    /// Call it before anything else is asked of the session, by a middleware either. If another request uses the session
    /// while this one saves its renewal, that use is lost.
    ///
    /// ```
    /// # use sosa_session::sosa::Clock;
    /// # use sosa_session::{Lifetime, RequestHead, Session, SessionOptions, Sessions};
    /// # use std::time::Duration;
    /// /// Asked by each open page once a minute.
    /// async fn unread(session: Session) -> sosa_session::Result<u32> {
    ///     session.unattended()?;
    ///     Ok(session.get("unread").await?.unwrap_or(0))
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let clock = Clock::manual();
    /// # let lifetime = Lifetime::new().idle(Duration::from_secs(30 * 60));
    /// # let sessions = Sessions::new(SessionOptions::memory().clock(clock.clone()).lifetime(lifetime));
    /// # let login = sessions.open(RequestHead::new([]));
    /// # login.insert("unread", 2).await?;
    /// # let cookie = sessions.close(&login).await?.into_set_cookie().unwrap();
    /// # let open = || sessions.open(RequestHead::new([("cookie", cookie.value().split(';').next().unwrap().as_bytes())]));
    /// # for minute in 1..=40 {
    /// #     clock.advance(Duration::from_secs(60));
    /// #     assert_eq!(unread(open()).await?, if minute < 30 { 2 } else { 0 });
    /// # }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`], with an event the first time, if the session has been looked up before: that was a use.
    pub fn unattended(&self) -> Result<()> {
        let in_time = match self.0.slot.try_lock().as_deref_mut() {
            Ok(Slot::Unused(unused)) => {
                unused.arrival.is_unattended = true;
                true
            }
            Ok(Slot::Used(state)) => state.set_unattended(),
            // Some task is looking.
            Err(_) => false,
        };
        if in_time {
            return Ok(());
        }
        if OF_LATE.is_now() {
            warn!(
                "a request is to be no use of its session, which it has looked up before: that was a use; an \
                 UnattendedLayer goes around whatever looks"
            );
        }
        Err(Error::new(ErrorKind::Options, "the session was looked up before: ask for `unattended` first"))
    }

    /// Returns when the session ends if nobody uses it any more; `None` for one that is not stored yet, or never ends.
    ///
    /// In an [`unattended`](Self::unattended) request it costs no call beside the look, and moves nothing: what a page asks
    /// that warns its user in time. In others it is a use like any, and asks the store by a call of its own. It is the
    /// store's time, or the absolute end if that is sooner.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # use std::time::{Duration, SystemTime};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// assert_eq!(session.expires().await?, None);
    /// session.insert("user", "ada").await?;
    /// session.save().await?;
    /// let left = session.expires().await?.unwrap().duration_since(SystemTime::now()).unwrap();
    /// assert!(left > Duration::from_secs(86_000), "a day, unless the options say otherwise");
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`] if it has ended since this request looked it up.
    pub async fn expires(&self) -> Result<Option<SystemTime>> {
        let mut state = self.loaded().await?;
        let expires = self.0.engine.expires(&mut state).await?;
        Ok(expires.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis))))
    }

    /// Throws away all that this request did and did not save, and loads the session again. In a response that is under way
    /// this is no use of the session, so that an open stream does not keep it alive; call [`touch`](Self::touch) and
    /// [`save`](Self::save) where it should.
    pub async fn reload(&self) -> Result<()> {
        let mut state = self.state().await;
        self.0.engine.reload(&mut state).await
    }

    /// Gives up all that this request asked for and did not save, without a call of the store, and lets the request be
    /// answered even if the store could not be asked: for a page that does not depend on its session.
    ///
    /// Without it a request for whose session the store was out is answered with 503, even if its handler ignores the
    /// error: that way an outage looks the same to every visitor, whether there was a session to look up or one to save.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, Session, SessionOptions, Sessions};
    /// /// Counts the readers where that is possible, and shows the article in any case.
    /// async fn article(session: Session) -> &'static str {
    ///     let counted = session.update("read", |n: Option<u32>| n.unwrap_or(0) + 1).await;
    ///     if counted.is_err() || session.save().await.is_err() {
    ///         session.discard().await;
    ///     }
    ///     "the article"
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// # assert_eq!(article(session.clone()).await, "the article");
    /// # session.insert("user", "ada").await?;
    /// # session.discard().await;
    /// # assert_eq!(session.get::<String>("user").await?, None);
    /// # assert!(sessions.close(&session).await?.set_cookie().is_some());
    /// # Ok(()) }
    /// ```
    pub async fn discard(&self) {
        let mut state = self.state().await;
        state.drop_changes();
        state.set_failure(None);
    }

    /// Saves the session now, and not only when the request ends. What was asked of it has happened
    /// when this returns, and other requests see it.
    ///
    /// **After an error the request is not saved once more when it ends**, unless more is asked for: the handler was
    /// told, and answers. It may call this again, or [`discard`](Self::discard).
    ///
    /// Where the error is [`ErrorKind::Store`] and its [`outcome`](sosa::Error::outcome) is
    /// [`Unknown`](sosa::Outcome::Unknown), or this call is dropped before it returns, the edits may
    /// have been saved. Then the end of the request fails if more was asked for since; calling this again may do an
    /// [`update`](Self::update) twice.
    ///
    /// ```
    /// # use sosa_session::{RequestHead, SessionOptions, Sessions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
    /// # let sessions = Sessions::new(SessionOptions::memory());
    /// # let session = sessions.open(RequestHead::new([]));
    /// session.insert("user", "ada").await?;
    /// assert_eq!(session.rev().await?, 0);
    /// session.save().await?;
    /// assert_eq!(session.rev().await?, 1);
    /// # sessions.close(&session).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Ended`] if another request ended the session, [`ErrorKind::TooLarge`] if it would be larger than
    /// [`SessionOptions::max_size`](crate::SessionOptions::max_size), [`ErrorKind::Busy`] if too many others write it,
    /// [`ErrorKind::Insecure`] if its cookie must not travel over plain http, [`ErrorKind::Closed`] if the response is under way and
    /// cannot announce a new session or a new id, [`ErrorKind::Decode`] if an update met a value of another type.
    pub async fn save(&self) -> Result<()> {
        let mut state = self.state().await;
        self.0.engine.save_now(&mut state).await
    }

    /// Returns the session's public id, which is safe to show and to log. It changes with the id in the cookie;
    /// that of a new session is the one under which it will be stored.
    pub async fn public_id(&self) -> Result<PublicId> {
        Ok(self.loaded().await?.current_id()?.public_id())
    }

    /// Returns the id itself, Express's `req.sessionID`, for programs that hand it to others which know the
    /// session by it. **With the id, and the server's secret or access to the store, one has the session**: do not
    /// show or log it; for that there is [`public_id`](Self::public_id).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the session is not shared with Express: then the id is the cookie's alone.
    #[cfg(feature = "express")]
    pub async fn expose_id(&self) -> Result<String> {
        let mut state = self.loaded().await?;
        let shows_id = state.rules().shows_id;
        supported(shows_id, "the id of a session that is not shared with Express is for its cookie alone")?;
        Ok(state.current_id()?.expose().to_owned())
    }

    /// Returns how often the session was saved: 0 for a new one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the session is shared with Express, whose records do not say.
    pub async fn rev(&self) -> Result<u64> {
        let state = self.loaded().await?;
        supported(state.rules().says_history, "a record of Express does not say how often it was saved")?;
        Ok(state.base().data.rev())
    }

    /// Returns when the session began; `None` for a new one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the session is shared with Express, whose records do not say.
    pub async fn created(&self) -> Result<Option<SystemTime>> {
        let state = self.loaded().await?;
        supported(state.rules().says_history, "a record of Express does not say when its session began")?;
        Ok(state.base().data.created())
    }

    /// Returns the class of the session, `None` for the default one: see
    /// [`SessionOptions::class`](crate::SessionOptions::class). That of a session which this request puts into another is
    /// told once it is saved.
    pub async fn class(&self) -> Result<Option<String>> {
        let state = self.loaded().await?;
        let class = state.goes_on().map(|session| session.class).filter(|class| !class.is_default());
        Ok(class.map(|class| class.as_str().to_owned()))
    }

    /// Returns whether nothing is stored of the session yet.
    pub async fn is_new(&self) -> Result<bool> {
        Ok(self.loaded().await?.goes_on().is_none())
    }

    /// Returns whether it was opened by this engine.
    pub(crate) fn is_of(&self, engine: &Arc<Engine>) -> bool {
        Arc::ptr_eq(&self.0.engine, engine)
    }

    #[cfg(feature = "tower")]
    pub(crate) fn cookie_name(&self) -> &str {
        self.0.engine.options().cookie.effective_name()
    }

    /// Does as [`close`](Self::close) where nothing has to be waited for; otherwise nothing.
    pub(crate) fn close_at_once(&self) -> Option<ResponseHeaders> {
        let Inner { engine, slot, .. } = &*self.0;
        let mut slot = slot.try_lock().ok()?;
        let state = match &mut *slot {
            Slot::Unused(unused) if unused.arrival.ids.first.is_none() || !engine.rules().touches_each_request => {
                unused.is_closed = true;
                return Some(ResponseHeaders::default());
            }
            _ => slot.state(engine),
        };
        if state.is_closed() {
            return Some(ResponseHeaders::default());
        }
        if self.0.has_panicked.load(Ordering::Relaxed) {
            return Some(engine.close_after_panic(state));
        }
        engine.close_at_once(state)
    }

    /// Saves what is left to save, and says what the response has to carry.
    pub(crate) async fn close(&self) -> Result<ResponseHeaders> {
        if let Some(headers) = self.close_at_once() {
            return Ok(headers);
        }
        let Inner { engine, slot, has_panicked, .. } = &*self.0;
        let mut slot = slot.lock().await;
        let state = slot.state(engine);
        if state.is_closed() {
            return Ok(ResponseHeaders::default());
        }
        if has_panicked.load(Ordering::Relaxed) {
            return Ok(engine.close_after_panic(state));
        }
        engine.close(state).await
    }

    /// Returns the key, unless it is the record's own, or Express would lose it.
    fn allowed<'a>(&self, key: &'a str) -> Result<&'a str> {
        self.0.engine.format().check_key(key).map(|()| key)
    }

    async fn state(&self) -> MappedMutexGuard<'_, State> {
        let Inner { engine, slot, .. } = &*self.0;
        MutexGuard::map(slot.lock().await, |slot| {
            let state = slot.state(engine);
            state.use_it();
            state
        })
    }

    async fn loaded(&self) -> Result<MappedMutexGuard<'_, State>> {
        let mut state = self.state().await;
        self.0.engine.load(&mut state).await?;
        Ok(state)
    }

    async fn loaded_to_leave(&self) -> Result<MappedMutexGuard<'_, State>> {
        let mut state = self.state().await;
        self.0.engine.load_to_leave(&mut state).await?;
        Ok(state)
    }
}

/// Sees to it that what a panic has left half done is not saved, even if a layer makes a response of the panic.
impl Drop for Session {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.has_panicked.store(true, Ordering::Relaxed);
        }
    }
}

impl Slot {
    /// Returns the state, which begins with the first use.
    fn state(&mut self, engine: &Engine) -> &mut State {
        if let Self::Unused(unused) = self {
            // A clone, since what is moved away stays in memory as it was: what is dropped is wiped.
            let state = State::new(engine.rules(), unused.arrival.clone(), unused.is_closed);
            *self = Self::Used(Box::new(state));
        }
        match self {
            Self::Used(state) => state,
            Self::Unused(_) => unreachable!("it is used now"),
        }
    }
}

static OF_LATE: Once = Once::new();

fn supported(is_so: bool, otherwise: &str) -> Result<()> {
    if is_so { Ok(()) } else { Err(Error::new(ErrorKind::Unsupported, otherwise)) }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
