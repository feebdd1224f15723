//! Store URLs: parsed into the driver's clients.

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{ConnectionInfo, IntoConnectionInfo};
use sosa::Result;

use crate::connections::Connections;
use crate::error;
use crate::transport::limits::KEEPALIVE;
use crate::transport::tls;

/// Makes connections to what the URL names.
pub(crate) fn connections(url: &str) -> Result<Connections> {
    let invalid = || error::invalid_url(url);
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    let connections = match scheme {
        "redis-cluster" | "rediss-cluster" => cluster(&Hosts::of(scheme, rest).ok_or_else(invalid)?, url),
        "redis-sentinel" | "rediss-sentinel" => sentinel(&Hosts::of(scheme, rest).ok_or_else(invalid)?, url),
        _ => Ok(redis::Client::open(info(url).ok_or_else(invalid)?).map_err(|_| invalid())?.into()),
    }?;
    match scheme.split('-').next() {
        Some("rediss" | "valkeys") if !tls::is_ready() => Err(error::no_cryptography()),
        _ => Ok(connections),
    }
}

/// Requests of many tasks are gathered before they are written; none waits for more to come. And routers remember the
/// connection.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
}

fn info(url: &str) -> Option<ConnectionInfo> {
    Some(url.into_connection_info().ok()?.set_tcp_settings(tcp()))
}

#[cfg(feature = "cluster")]
fn cluster(hosts: &Hosts<'_>, url: &str) -> Result<Connections> {
    use redis::cluster::ClusterClientBuilder;

    let invalid = || error::invalid_url(url);
    let nodes = hosts.urls(6379).map(|node| info(&node).ok_or_else(invalid)).collect::<Result<Vec<_>>>()?;
    let client = ClusterClientBuilder::new(nodes)
        .tcp_settings(tcp())
        // Enough to follow a slot. Waiting for a node to come back is not the driver's job: see `Cluster`.
        .retries(4)
        .min_retry_wait(16)
        .max_retry_wait(250)
        .build();
    Ok(client.map_err(|_| invalid())?.into())
}

#[cfg(not(feature = "cluster"))]
fn cluster(_: &Hosts<'_>, url: &str) -> Result<Connections> {
    Err(error::missing_feature(url, "cluster"))
}

#[cfg(feature = "sentinel")]
fn sentinel(hosts: &Hosts<'_>, url: &str) -> Result<Connections> {
    use redis::RedisResult;
    use redis::sentinel::{SentinelClientBuilder, SentinelServerType};

    let invalid = || error::invalid_url(url);
    let (parameters, name) = hosts.parameter("sentinelMasterId").ok_or_else(invalid)?;
    let hosts = Hosts { parameters: &parameters, ..*hosts };
    let server = info(&hosts.urls(26379).next().ok_or_else(invalid)?).ok_or_else(invalid)?;
    let sentinels = hosts.urls(26379).map(|node| Some(info(&node)?.addr().clone()));
    let sentinels = sentinels.collect::<Option<Vec<_>>>().ok_or_else(invalid)?;
    let redis = server.redis_settings();
    // A client for each, so that one which does not answer does not keep the others from being asked.
    let clients = sentinels.into_iter().map(|sentinel| {
        let builder = SentinelClientBuilder::new([sentinel], name, SentinelServerType::Master)?;
        let mut builder = builder
            .set_client_to_redis_db(redis.db())
            .set_client_to_redis_protocol(redis.protocol())
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_sentinel_tcp_settings(tcp());
        // Not for the sentinels, which have users of their own.
        if let Some(username) = redis.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = redis.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if hosts.scheme == "rediss" {
            builder = builder
                .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure);
        }
        builder.build()
    });
    let clients = clients.collect::<RedisResult<_>>().map_err(|_| invalid())?;
    Ok(Connections::of_sentinels(clients))
}

#[cfg(not(feature = "sentinel"))]
fn sentinel(_: &Hosts<'_>, url: &str) -> Result<Connections> {
    Err(error::missing_feature(url, "sentinel"))
}

/// A URL with several hosts: `redis-cluster://[user][:password@]host[:port][,host[:port]…][/database][?…]`
#[cfg_attr(not(all(feature = "cluster", feature = "sentinel")), allow(dead_code))]
struct Hosts<'a> {
    /// Of each node by itself.
    scheme: &'a str,
    /// With the `@` behind it, if there is one.
    user: &'a str,
    hosts: &'a str,
    path: &'a str,
    /// With the `?` before it, if there are any.
    parameters: &'a str,
}

#[cfg_attr(not(all(feature = "cluster", feature = "sentinel")), allow(dead_code))]
impl<'a> Hosts<'a> {
    fn of(scheme: &'a str, rest: &'a str) -> Option<Self> {
        let (scheme, _) = scheme.split_once('-')?;
        // A password is percent-encoded, so that none of these is in it.
        let (rest, parameters) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let is_empty = hosts.split(',').any(str::is_empty);
        (!is_empty).then_some(Self { scheme, user, hosts, path, parameters })
    }

    /// Returns the URL of each; its default port is this one.
    fn urls(&self, port: u16) -> impl Iterator<Item = String> {
        let Self { scheme, user, hosts, path, parameters } = self;
        hosts.split(',').map(move |host| {
            // An IPv6 address is in brackets.
            let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
            let port = if has_port { String::new() } else { format!(":{port}") };
            format!("{scheme}://{user}{host}{port}{path}{parameters}")
        })
    }

    /// Takes a parameter out: returns the others, and its value.
    fn parameter(&self, name: &str) -> Option<(String, &'a str)> {
        let is_it = |parameter: &&str| parameter.split_once('=').is_some_and(|(found, _)| found == name);
        let parameters = self.parameters.strip_prefix('?')?.split('&');
        let (_, value) = parameters.clone().find(is_it)?.split_once('=')?;
        let others: Vec<_> = parameters.filter(|parameter| !is_it(parameter)).collect();
        let others = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
        (!value.is_empty()).then_some((others, value))
    }
}

#[cfg(test)]
mod tests {
    use sosa::ErrorKind;

    use super::*;

    #[test]
    fn hosts_share_all_else() {
        let urls = |url: &str| {
            let (scheme, rest) = url.split_once("://").unwrap();
            Hosts::of(scheme, rest).map(|hosts| hosts.urls(7000).collect::<Vec<_>>())
        };
        assert_eq!(
            urls("redis-cluster://ada:%40%2F@a,b:1,[::1],[::1]:2/?protocol=resp3").unwrap(),
            [
                "redis://ada:%40%2F@a:7000/?protocol=resp3",
                "redis://ada:%40%2F@b:1/?protocol=resp3",
                "redis://ada:%40%2F@[::1]:7000/?protocol=resp3",
                "redis://ada:%40%2F@[::1]:2/?protocol=resp3",
            ]
        );
        assert_eq!(urls("rediss-sentinel://a").unwrap(), ["rediss://a:7000"]);
        for url in ["redis-cluster://", "redis-cluster:///0", "redis-cluster://a,,b", "redis-cluster://ada@"] {
            assert_eq!(urls(url), None, "{url}");
        }
        let hosts = Hosts::of("redis-sentinel", "a/3?protocol=resp3&sentinelMasterId=main").unwrap();
        assert_eq!(hosts.parameter("sentinelMasterId"), Some(("?protocol=resp3".to_owned(), "main")));
        assert_eq!(Hosts::of("redis-sentinel", "a/3?sentinelMasterId=").unwrap().parameter("sentinelMasterId"), None);
    }

    #[test]
    fn what_is_no_url_is_told_without_its_password() {
        for url in [
            "redis-cluster://ada:sesame@",
            "redis-cluster://ada:sesame@host:port",
            "redis-sentinel://ada:sesame@host/",
            "redis-sentinel://ada:sesame@host/sesame?sentinelMasterId=main",
            "redis-other://ada:sesame@host/",
        ] {
            let error = connections(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOption, "{url}");
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error:?}");
        }
    }
}
