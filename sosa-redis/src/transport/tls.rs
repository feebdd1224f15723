//! TLS by rustls, whose cryptography the program chooses: it is installed once, for all of the program.

use redis::{ConnectionAddr, RedisError};

use crate::error::NO_CRYPTOGRAPHY;

/// Returns whether TLS can be spoken.
pub(crate) fn is_ready() -> bool {
    #[cfg(feature = "tls-rustls")]
    return rustls::crypto::CryptoProvider::get_default().is_some();
    #[cfg(not(feature = "tls-rustls"))]
    true
}

/// Checks that a server can be connected to, if that is by TLS: rustls would panic.
///
/// # Errors
///
/// If no cryptography is installed.
pub(crate) fn check(address: &ConnectionAddr) -> Result<(), RedisError> {
    match address {
        ConnectionAddr::TcpTls { .. } if !is_ready() => {
            Err((redis::ErrorKind::InvalidClientConfig, "TLS", NO_CRYPTOGRAPHY.to_owned()).into())
        }
        _ => Ok(()),
    }
}
