//! The sessions of one owner, as programs see them.

use std::fmt;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::Result;
use crate::owners::{Device, DeviceKey, EndedAll};

/// The sessions of one owner, from [`Sessions::owner`](crate::Sessions::owner) or
/// [`Session::owner`](crate::Session::owner): to list them, and to end them from elsewhere.
///
/// Each sign-in is a device, with a key that stays the same while its session is renewed. Nothing is read before it is asked
/// for.
///
/// - **absent**: an owner who never signed in has no devices.
/// - **malformed**: a record that cannot be read is an error of [`list`](Self::list) and of the ends, never a silent
///   success; the next sign-in replaces it, and tells so by an event.
/// - **raced**: what has been ended when an end returns opens nothing any more, whatever other requests and processes did
///   meanwhile. A sign-in that registers after [`end_all`](Self::end_all) stays alive: where a password was changed, compare its
///   version after the sign-in.
///
/// ```
/// use sosa_session::{RequestHead, SessionOptions, Sessions, SignIn};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sosa_session::Result<()> {
/// let store = sosa_memory::new("myapp");
/// let options = SessionOptions::new(store.collection("sessions")).owners(store.collection("owners"));
/// let sessions = Sessions::new(options);
///
/// for label in ["phone", "laptop"] {
///     let session = sessions.open(RequestHead::new([]));
///     session.sign_in("ada", SignIn::new().label(label)).await?;
///     sessions.close(&session).await?;
/// }
///
/// let ada = sessions.owner("ada");
/// let devices = ada.list().await?;
/// assert_eq!(devices.iter().map(|device| &*device.label).collect::<Vec<_>>(), ["phone", "laptop"]);
/// assert!(ada.end(&devices[0].key).await?);
/// assert_eq!(ada.list().await?.len(), 1);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// Every method can fail as the stores can, with [`Busy`](crate::ErrorKind::Busy) if others change the owner's record for ten
/// seconds without a pause, and with [`Unsupported`](crate::ErrorKind::Unsupported) without
/// [`SessionOptions::owners`](crate::SessionOptions::owners). After an error of an end, call it again.
#[derive(Clone)]
pub struct Owner {
    engine: Arc<Engine>,
    name: Box<str>,
    this: Option<DeviceKey>,
}

impl Owner {
    pub(crate) fn new(engine: Arc<Engine>, name: Box<str>, this: Option<DeviceKey>) -> Self {
        Self { engine, name, this }
    }

    /// Returns the owner's name, as it was given at the sign-in.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key of the device that asks, if this came from its session.
    pub fn this(&self) -> Option<&DeviceKey> {
        self.this.as_ref()
    }

    /// Returns the devices on which the owner is signed in, in the order of the sign-ins.
    ///
    /// It loads the record, and then the devices' sessions, all at once; what has expired meanwhile is left out, and
    /// taken out of the record. It is no use of the sessions: their deadlines stay.
    pub async fn list(&self) -> Result<Vec<Device>> {
        self.engine.devices(&self.name, self.this).await
    }

    /// Signs one device out, and returns whether it is one of this owner's.
    pub async fn end(&self, key: &DeviceKey) -> Result<bool> {
        Ok(self.engine.end_devices(&self.name, |other| other == *key).await?.devices > 0)
    }

    /// Signs the owner out on all devices: when a password is reset, an account is closed, or by an administrator.
    pub async fn end_all(&self) -> Result<EndedAll> {
        self.engine.end_devices(&self.name, |_| true).await
    }

    /// Ends every session of the owner that is found among all sessions there are, and returns how many sessions that were.
    ///
    /// It reads the whole collection, so that it also finds what no record knows: after the owners' store was lost or
    /// restored, and to erase somebody. A session that is begun or renewed meanwhile may be missed; call
    /// [`end_all`](Self::end_all) first. A record that cannot be decoded tells no owner, and stays.
    pub async fn end_all_by_scan(&self) -> Result<u64> {
        self.engine.end_by_scan(&self.name).await
    }
}

// By hand: a name may be an address.
impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("this", &self.this).finish_non_exhaustive()
    }
}
