//! Which peers are proxies, and what they say of the client.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::cookie::Scheme;
use crate::error::{Error, ErrorKind, Result};

/// Which peers are proxies whose `X-Forwarded-Proto` is believed.
///
/// A client can send that header as well, so a trusted proxy must replace it. An IPv4 address counts as itself even if
/// the server listens on IPv6 and sees `::ffff:127.0.0.1`. A peer whose address is not known is believed by
/// [`always`](Self::always) alone.
///
/// ```
/// use sosa_session::{SessionOptions, TrustProxy};
///
/// let balancers = TrustProxy::cidr(["10.0.0.0/8", "fd00::/8"])?;
/// let options = SessionOptions::memory().trust_proxy(balancers);
/// # Ok::<(), sosa_session::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrustProxy(Trust);

#[derive(Clone, Default)]
enum Trust {
    #[default]
    Never,
    Always,
    When(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>),
}

impl TrustProxy {
    /// Believes nobody: the default.
    pub fn never() -> Self {
        Self(Trust::Never)
    }

    /// Believes every peer, known or not: right only where nobody can reach the server but through the proxy.
    pub fn always() -> Self {
        Self(Trust::Always)
    }

    /// Believes the peers for which the function returns true.
    pub fn when(trusts: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Trust::When(Arc::new(trusts)))
    }

    /// Believes a proxy on this very machine.
    pub fn loopback() -> Self {
        Self::when(|peer| peer.is_loopback())
    }

    /// Believes the peers in these networks, each written as `10.0.0.0/8`, a single peer as `10.0.0.1/32`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Options`] if one is no network.
    pub fn cidr<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let parse = |network: &str| {
            network.parse().map_err(|error: ipnet::AddrParseError| {
                let message = format!("{network:?} is no network: write it as 10.0.0.0/8 or fd00::/8");
                Error::new(ErrorKind::Options, message).with_source(error)
            })
        };
        let networks: Vec<IpNet> = networks.into_iter().map(parse).collect::<Result<_>>()?;
        Ok(Self::when(move |peer| networks.iter().any(|network| network.contains(&peer))))
    }

    pub(crate) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        match &self.0 {
            Trust::Never => false,
            Trust::Always => true,
            Trust::When(trusts) => peer.is_some_and(|peer| trusts(peer.to_canonical())),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::Always => "Always",
            Self::When(_) => "When(..)",
        })
    }
}

/// Reads `X-Forwarded-Proto`: the first of a list is what the client used. Some proxies say `wss` and
/// `ws` of web sockets.
pub(crate) fn forwarded_scheme(value: &[u8]) -> Scheme {
    let first = value.split(|byte| *byte == b',').next().unwrap_or_default();
    match &*first.trim_ascii().to_ascii_lowercase() {
        b"https" | b"wss" => Scheme::Https,
        b"http" | b"ws" => Scheme::Http,
        _ => Scheme::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_proxies_are_trusted() {
        let networks = TrustProxy::cidr(["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]).unwrap();
        let (never, always, loopback) = (TrustProxy::never(), TrustProxy::always(), TrustProxy::loopback());
        for (peer, named) in [
            (Some("127.0.0.1"), [false, true, true, false]),
            (Some("::1"), [false, true, true, false]),
            (Some("::ffff:127.0.0.1"), [false, true, true, false]),
            (Some("::ffff:10.1.2.3"), [false, true, false, true]),
            (Some("fd00::7"), [false, true, false, true]),
            (Some("192.0.2.1"), [false, true, false, true]),
            (Some("192.0.2.2"), [false, true, false, false]),
            (None, [false, true, false, false]),
        ] {
            let peer = peer.map(|peer| peer.parse().unwrap());
            assert_eq!([&never, &always, &loopback, &networks].map(|proxy| proxy.trusts(peer)), named, "{peer:?}");
        }
        for network in ["", "10.0.0.0", "10.0.0.0/33", "example.test/8"] {
            assert_eq!(TrustProxy::cidr([network]).unwrap_err().kind(), ErrorKind::Options, "{network}");
        }
    }
}
