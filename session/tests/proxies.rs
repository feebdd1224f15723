//! Proxies: which headers of whom are believed, and what becomes of a cookie that is secure where the request was.

use std::net::IpAddr;

use sosa_session::{CookieOptions, RequestHead, Scheme, Secure, SessionOptions, Sessions, TrustProxy};

/// Whom the options trust, and who the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trusts {
    Nobody,
    All,
    /// The peer, by its address.
    ThisPeer,
    /// The peer, which a server that listens on IPv6 sees as `::ffff:127.0.0.1`.
    ThisPeerMapped,
    /// Another.
    AnotherPeer,
    /// Some, and the peer's address is not known.
    UnknownPeer,
}

use Trusts::{All, AnotherPeer, Nobody, ThisPeer, ThisPeerMapped, UnknownPeer};

const ALL: [Trusts; 6] = [Nobody, All, ThisPeer, ThisPeerMapped, AnotherPeer, UnknownPeer];

impl Trusts {
    fn options(self) -> (TrustProxy, Option<IpAddr>) {
        let peer = |text: &str| Some(text.parse().unwrap());
        match self {
            Nobody => (TrustProxy::never(), peer("127.0.0.1")),
            All => (TrustProxy::always(), None),
            ThisPeer => (TrustProxy::loopback(), peer("127.0.0.1")),
            ThisPeerMapped => (TrustProxy::loopback(), peer("::ffff:127.0.0.1")),
            AnotherPeer => (TrustProxy::cidr(["10.0.0.0/8"]).unwrap(), peer("127.0.0.1")),
            UnknownPeer => (TrustProxy::loopback(), None),
        }
    }

    fn is_trusted(self) -> bool {
        [All, ThisPeer, ThisPeerMapped].contains(&self)
    }
}

/// What a proxy says, and what that means.
const SAYS: [(&[(&str, &str)], Scheme); 8] = [
    (&[], Scheme::Unknown),
    (&[("X-Forwarded-Proto", "https")], Scheme::Https),
    (&[("X-Forwarded-Proto", "http")], Scheme::Http),
    (&[("Forwarded", "for=192.0.2.1;proto=https")], Scheme::Https),
    (&[("Forwarded", "for=192.0.2.1")], Scheme::Unknown),
    (&[("X-Forwarded-Ssl", "on")], Scheme::Https),
    (&[("X-Forwarded-Proto", "http"), ("Forwarded", "proto=https")], Scheme::Http),
    (&[("X-Forwarded-For", "192.0.2.1")], Scheme::Unknown),
];

#[tokio::test]
async fn a_cookie_is_secure_where_whom_the_options_trust_says_so() {
    for trusts in ALL {
        let (proxy, peer) = trusts.options();
        for (headers, scheme) in SAYS {
            // What the server itself knows counts where no proxy says otherwise.
            for known in [Scheme::Unknown, Scheme::Http, Scheme::Https] {
                let cookie = CookieOptions::new().secure(Secure::Auto);
                let sessions = Sessions::new(SessionOptions::memory().cookie(cookie).trust_proxy(proxy.clone()));
                let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
                let session = sessions.open(RequestHead::new(headers).peer(peer).scheme(known));
                session.insert("user", "ada").await.unwrap();
                let sent = sessions.close(&session).await.unwrap().into_set_cookie().expect("Auto is always sent");
                let says = if trusts.is_trusted() && scheme != Scheme::Unknown { scheme } else { known };
                assert_eq!(
                    sent.value().contains("; Secure"),
                    says == Scheme::Https,
                    "{trusts:?}, {scheme:?} by the headers, {known:?} by the server"
                );
            }
        }
    }
}
