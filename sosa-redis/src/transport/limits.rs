//! All time limits of ours, which the README shows as a table. The driver's own retries on a cluster are in `url`.

use std::time::Duration;

/// How long a verb may take, connecting included, unless the store says otherwise.
pub(crate) const VERB: Duration = Duration::from_secs(2);

/// How long an attempt to connect to one server may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(1);

/// And to one of several, of which some may not answer.
#[cfg(any(feature = "cluster", feature = "sentinel"))]
pub(crate) const CONNECT_TO_SOME: Duration = Duration::from_secs(3);

/// The first pause after a failed attempt, and after the answer that no node serves a slot. It doubles each time, and a
/// random part of up to half is taken off, so that many programs do not come back at once.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(32);

/// The longest of these pauses, short enough to serve within a second of the server's return.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How often the Sentinels are asked whether the server is still the one, while it is used. When it steps down for
/// another, it goes on to take writes for some ten seconds, all of which are lost.
#[cfg(feature = "sentinel")]
pub(crate) const SENTINELS: Duration = Duration::from_secs(1);

/// How long a node of a cluster may answer no request before its connection is made anew. If the network dropped the
/// connection silently, nothing else would tell for many minutes.
#[cfg(feature = "cluster")]
pub(crate) const SILENT_NODE: Duration = Duration::from_secs(1);

/// How long its answer is waited for at all. The driver does not notice when its caller has timed out.
#[cfg(feature = "cluster")]
pub(crate) const ABANDONED: Duration = Duration::from_secs(60);

/// How long a node may take to answer CLUSTER SLOTS: all requests wait for that.
#[cfg(feature = "cluster")]
pub(crate) const SLOTS: Duration = Duration::from_millis(300);

/// The same for a node to which the connection is lost: the others can answer as well.
#[cfg(feature = "cluster")]
pub(crate) const SLOTS_OF_LOST_NODE: Duration = Duration::from_millis(2);

/// How long a request waits for a lost connection to a node, before the driver is told to ask which node serves the slot
/// now.
#[cfg(feature = "cluster")]
pub(crate) const LOST_NODE: Duration = Duration::from_millis(20);

/// How often a node that cannot be reached makes the driver refresh its map of the slots. All other requests wait for
/// that.
#[cfg(feature = "cluster")]
pub(crate) const LOOK_AROUND: Duration = Duration::from_millis(100);

/// For how long all connections know that one of them has lost a node.
#[cfg(feature = "cluster")]
pub(crate) const KNOWN_LOST: Duration = Duration::from_millis(500);

/// A connection that has answered nothing for this long is asked whether it is alive before a write is sent over it, since
/// a write is never sent twice: a server's `timeout`, a balancer or a router may have ended it.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// How long it may take to answer that, before another is made.
pub(crate) const ALIVE: Duration = Duration::from_millis(500);

/// After how long without a packet the system asks whether a connection that a URL made is alive, so that routers remember
/// it.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(30);

/// After this part of a verb's time a read is sent once more, over another connection, if its own answers nobody.
pub(crate) const READ_AGAIN: u32 = 2;

/// How long one of several Sentinels may take to answer, before the next is asked.
#[cfg(feature = "sentinel")]
pub(crate) const SENTINEL: Duration = Duration::from_millis(500);

/// A deadline that no clock reaches, and none overflows with.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(all(test, feature = "cluster", feature = "sentinel"))]
mod tests {
    use super::*;

    const TABLE: [(&str, Duration); 17] = [
        ("a verb, connecting included; `with_timeout` sets it", VERB),
        ("an attempt to connect to a server", CONNECT),
        ("an attempt to connect to what Sentinels name, or to a cluster", CONNECT_TO_SOME),
        ("the first pause after a failed attempt; they double", FIRST_PAUSE),
        ("the longest of these pauses", LONGEST_PAUSE),
        ("an idle connection, until a write over it asks first whether it is alive", IDLE),
        ("the answer to that, until another connection is made", ALIVE),
        ("TCP keepalive, on connections from a URL", KEEPALIVE),
        ("Sentinels: one that does not answer, until the next is asked; for a URL", SENTINEL),
        ("Sentinels: how often they are asked again", SENTINELS),
        ("cluster: a node that answers nobody, until its connection is made anew", SILENT_NODE),
        ("cluster: an answer that nobody waits for any more", ABANDONED),
        ("cluster: a node is asked for the slots", SLOTS),
        ("cluster: and one to which the connection is lost", SLOTS_OF_LOST_NODE),
        ("cluster: a lost connection to a node, until another node is looked for", LOST_NODE),
        ("cluster: how often others are looked for", LOOK_AROUND),
        ("cluster: a node that one connection has lost counts as lost for all", KNOWN_LOST),
    ];

    #[test]
    fn the_readme_has_them() {
        let readme = include_str!("../../README.md");
        for (what, limit) in TABLE {
            let line = format!("| {what} | {limit:?} |\n");
            assert!(readme.contains(&line), "{line}");
        }
    }
}
