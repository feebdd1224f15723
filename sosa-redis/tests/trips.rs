//! What each verb sends, and how often it waits for an answer.

use std::time::Duration;

use sosa_redis::RedisCollection;
use sosa_redis::sosa::{Collection, CollectionExt, Condition, DestroyOptions, Expiry, ListOptions, LoadOptions};
use sosa_tests::{Fault, Proxy, Redis};

/// Longer than a busy machine needs between two requests that belong together.
const QUIET: Duration = Duration::from_millis(60);

struct Watched {
    proxy: Proxy,
    things: RedisCollection<String>,
}

impl Watched {
    async fn start(server: &Redis) -> Self {
        let proxy = Proxy::start(server.address()).await;
        let things = sosa_redis::from_url(&proxy.url(), "trips").unwrap().collection("things");
        // Connects, which is not what is counted.
        things.load("connected").await.unwrap();
        proxy.set(Fault::Gather(QUIET));
        Self { proxy, things }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verb_sends_what_the_documentation_says() {
    let server = Redis::start(&[]);
    let Watched { proxy, things } = Watched::start(&server).await;
    let value = "1".to_owned();
    let counted = |what: &str, commands: &str, trips: usize| {
        let (sent, waited) = proxy.take();
        assert_eq!((sent.join(" "), waited), (commands.to_owned(), trips), "{what}");
    };
    proxy.take();

    let plain = things.clone().unindexed();
    plain.save("plain", &value).await.unwrap();
    counted("save, unindexed", "SET", 1);
    let minute = Duration::from_secs(60);
    plain.save_with("plain", &value, Expiry::After(minute).into()).await.unwrap();
    counted("save with an expiry", "SET", 1);
    plain.save_with("plain", &value, Condition::Present.into()).await.unwrap();
    counted("save if present", "SET", 1);
    plain.load("plain").await.unwrap();
    counted("load", "GET", 1);
    plain.load_with("plain", LoadOptions::new().touch(minute)).await.unwrap();
    counted("load with a touch", "GETEX", 1);
    plain.load_with("plain", LoadOptions::new().with_expiry()).await.unwrap();
    counted("the first load with the expiry", "EVALSHA EVAL", 2);
    plain.load_with("plain", LoadOptions::new().touch(minute).with_expiry()).await.unwrap();
    counted("load with the expiry", "EVALSHA", 1);
    plain.destroy("plain").await.unwrap();
    counted("destroy, unindexed", "DEL", 1);
    plain.destroy_with("absent", DestroyOptions::new()).await.unwrap();
    counted("destroy what is absent", "DEL", 1);

    // The server does not know the script yet.
    things.save_with("a", &value, Condition::Absent.into()).await.unwrap();
    let (sent, waited) = proxy.take();
    // One in 16 goes on to sweep, for the first time.
    let sweeps = usize::from(sent.len() > 4);
    assert_eq!((sent[..4].join(" "), waited), ("MULTI SET ZADD EXEC".to_owned(), 1 + 2 * sweeps), "save if absent");
    things.save("a", &value).await.unwrap();
    counted("save over what is indexed", "MULTI SET ZADD EXEC", 1);
    let read = things.load_with("a", LoadOptions::new()).await.unwrap().unwrap().revision;
    counted("load with the revision", "GET", 1);
    things.save_with("a", &value, Condition::Revision(read).into()).await.unwrap();
    counted("the first save on condition", "EVALSHA EVAL", 2);
    things.save_with("a", &value, Condition::Revision(read).into()).await.unwrap();
    counted("save on condition", "EVALSHA", 1);
    things.update("a", |value| value).await.unwrap();
    counted("update", "GET EVALSHA", 2);
    things.save_with("a", &value, Condition::Present.into()).await.unwrap();
    counted("save if present", "EVALSHA", 1);
    things.destroy_with("a", DestroyOptions::new().revision(read)).await.unwrap();
    counted("the first destroy on condition", "EVALSHA EVAL", 2);
    things.destroy_with("a", DestroyOptions::new().revision(read)).await.unwrap_err();
    counted("destroy on condition", "EVALSHA", 1);
    things.destroy("a").await.unwrap();
    counted("destroy", "EVALSHA", 1);

    proxy.set(Fault::None);
    let ids: Vec<_> = (0..256).map(|n| format!("{n:03}")).collect();
    for id in &ids {
        let expiry = if id.ends_with('7') { Expiry::After(Duration::from_millis(1)) } else { Expiry::Never };
        things.save_with(id, id, expiry.into()).await.unwrap();
    }
    while things.load("247").await.unwrap().is_some() {}
    drop(things.list_with(ListOptions::new().starts_with("none")).await.unwrap());
    proxy.set(Fault::Gather(QUIET));
    proxy.take();
    let loaded = things.load_many(&ids).await.unwrap();
    assert_eq!(loaded.iter().flatten().count(), 256 - 25);
    counted("load_many", &["GET"; 256].join(" "), 1);
    let page = things.list_with(ListOptions::new().limit(100)).await.unwrap();
    assert_eq!(page.items.len(), 100);
    counted("a page", "EVALSHA MGET", 2);
    let page = things.list_with(ListOptions::new().ids_only()).await.unwrap();
    assert_eq!(page.items.len(), 256 - 25);
    counted("a page of ids", "EVALSHA", 1);
    drop(things.list_with(ListOptions::new().starts_with("none")).await.unwrap());
    counted("a page of nothing", "EVALSHA", 1);
    drop(things.list_with(ListOptions::new().limit(2).with_expiry().reverse()).await.unwrap());
    counted("a page with expiries", "EVALSHA EVALSHA", 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_sixteen_new_ids_is_followed_by_a_sweep() {
    const SAVES: usize = 3200;
    let server = Redis::start(&[]);
    let Watched { proxy, things } = Watched::start(&server).await;
    proxy.set(Fault::None);
    proxy.take();
    for n in 0..SAVES {
        things.save(&n.to_string(), &String::new()).await.unwrap();
        // An id that is known is none to sweep after.
        things.save(&n.to_string(), &String::new()).await.unwrap();
    }
    let (sent, _) = proxy.take();
    let sweeps = sent.iter().filter(|command| command.starts_with("EVAL")).count();
    assert_eq!(sent.len(), 2 * 4 * SAVES + sweeps);
    // 200 are expected; 14 is the standard deviation.
    assert!((120..=280).contains(&sweeps), "{sweeps} sweeps");
}
