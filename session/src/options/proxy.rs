//! Which peers are proxies, and what they say of the client.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::cookie::Scheme;
use crate::error::{Error, ErrorKind, Result};

/// Which peers are proxies that are believed when they say how a request came.
///
/// A client can send the same headers, so a trusted proxy must replace them. An IPv4 address counts as itself even if
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

    /// Returns whether there is any peer that is believed.
    #[cfg(feature = "tower")]
    pub(crate) fn trusts_any(&self) -> bool {
        !matches!(self.0, Trust::Never)
    }

    /// Returns whether it depends on the peer's address.
    pub(crate) fn needs_peer(&self) -> bool {
        matches!(self.0, Trust::When(_))
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

/// What a proxy says of how a request came to it.
#[derive(Debug, Default)]
pub(crate) struct Forwarded {
    /// By the rank of the header that says it, of which the first counts.
    schemes: [Scheme; 3],
}

impl Forwarded {
    /// The headers that say it, by rank.
    pub(crate) const HEADERS: [&str; 3] = ["x-forwarded-proto", "forwarded", "x-forwarded-ssl"];

    /// Takes note of a header. Of several of one name, and of a list, the first that says it counts: it is about the
    /// client.
    pub(crate) fn note(&mut self, name: &str, value: &[u8]) {
        let Some(rank) = Self::HEADERS.iter().position(|header| name.eq_ignore_ascii_case(header)) else { return };
        let first = value.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        let scheme = match rank {
            0 => scheme(first),
            1 => scheme(proto(first).unwrap_or_default()),
            _ if first.eq_ignore_ascii_case(b"on") => Scheme::Https,
            _ if first.eq_ignore_ascii_case(b"off") => Scheme::Http,
            _ => Scheme::Unknown,
        };
        if self.schemes[rank] == Scheme::Unknown {
            self.schemes[rank] = scheme;
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.schemes.into_iter().find(|scheme| *scheme != Scheme::Unknown).unwrap_or_default()
    }
}

/// Some proxies say `wss` and `ws` of web sockets.
fn scheme(text: &[u8]) -> Scheme {
    match &*text.to_ascii_lowercase() {
        b"https" | b"wss" => Scheme::Https,
        b"http" | b"ws" => Scheme::Http,
        _ => Scheme::Unknown,
    }
}

/// Returns the parameter `proto` of an element of `Forwarded`, whose value may be quoted.
fn proto(element: &[u8]) -> Option<&[u8]> {
    let mut pairs = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| {
        let (name, value) = pair.split_at_checked(b"proto=".len())?;
        name.eq_ignore_ascii_case(b"proto=").then_some(value)
    })?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
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

    #[test]
    fn the_first_header_that_says_it_counts() {
        for (headers, scheme) in [
            (&[][..], Scheme::Unknown),
            (&[("X-Forwarded-Proto", "https")], Scheme::Https),
            (&[("x-forwarded-proto", " WSS , http")], Scheme::Https),
            (&[("x-forwarded-proto", "http"), ("forwarded", "proto=https")], Scheme::Http),
            (&[("forwarded", "proto=https"), ("x-forwarded-proto", "http")], Scheme::Http),
            (
                &[("x-forwarded-proto", "gopher"), ("Forwarded", "for=192.0.2.1;proto=https;by=10.0.0.1, proto=http")],
                Scheme::Https,
            ),
            (&[("forwarded", "for=\"[2001:db8::1]\"; PROTO=\"http\"")], Scheme::Http),
            (&[("forwarded", "for=192.0.2.1, proto=https")], Scheme::Unknown),
            (&[("forwarded", "proto="), ("x-forwarded-ssl", "on")], Scheme::Https),
            (&[("x-forwarded-ssl", "off")], Scheme::Http),
            (&[("x-forwarded-ssl", "maybe"), ("x-forwarded-host", "https")], Scheme::Unknown),
            (&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], Scheme::Https),
        ] {
            let mut forwarded = Forwarded::default();
            headers.iter().for_each(|(name, value)| forwarded.note(name, value.as_bytes()));
            assert_eq!(forwarded.scheme(), scheme, "{headers:?}");
        }
    }
}
