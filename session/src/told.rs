//! What is told once, since it is a mistake of the program and the same for each request; and what is wrong with how a
//! request came.

use tracing::field::display;
use tracing::{info, warn};

use crate::cookie::Scheme;
use crate::format::Refused;
use crate::once::Once;
use crate::options::SessionOptions;
use crate::state::Arrival;

/// What was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    of_no_peer: Once,
    of_no_scheme: Once,
    #[cfg(feature = "tower")]
    pub(crate) of_layers: Once,
}

impl Told {
    /// Tells what is wrong with how a request came, unless that was told before.
    pub(crate) fn note_arrival(
        &self,
        options: &SessionOptions,
        arrival: &Arrival,
        refused: Option<Refused>,
        is_believed: bool,
    ) {
        let SessionOptions { proxy, cookie, .. } = options;
        let peer = arrival.peer.map(display);
        match refused {
            Some(Refused::Value) => info!(peer, "the signature of a session's cookie was refused"),
            Some(Refused::Class) => info!(peer, "the class of a session's cookie is none of the options'"),
            None => {}
        }
        if proxy.needs_peer() && arrival.peer.is_none() && self.of_no_peer.is_now() {
            warn!(
                "which proxy is trusted depends on the peer, whose address is not known, so that none is: give it to \
                 SessionLayer::peer or RequestHead::peer"
            );
        }
        if is_believed && arrival.scheme == Scheme::Unknown && cookie.needs_scheme() && self.of_no_scheme.is_now() {
            warn!(
                "a trusted proxy does not say how requests come, so that cookies go without Secure: let it set \
                 X-Forwarded-Proto or Forwarded, or use Secure::Always"
            );
        }
    }
}
