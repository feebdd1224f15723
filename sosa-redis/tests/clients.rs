//! What a store is made from, and what it makes of that.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use sosa_redis::RedisCollection;
use sosa_redis::deadpool_redis::{Config, Runtime};
use sosa_redis::redis::{self, Client, Commands, Connection};
use sosa_redis::sosa::{
    Codec, Collection, CollectionExt, Condition, ErrorKind, Expiry, Json, Key, ListOptions, Outcome, Result,
    SaveOptions,
};
use sosa_tests::Redis;

/// Returns how often each command was called, but for those of this connection.
fn calls(control: &mut Connection) -> BTreeMap<String, u64> {
    let info: String = redis::cmd("INFO").arg("commandstats").query(control).unwrap();
    let calls = info.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    calls.filter(|(name, _)| !["info", "config|resetstat", "client|setinfo"].contains(&&**name)).collect()
}

/// A pool of four is four connections that all share, beside those that it lends out, and costs nothing
/// but the commands.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_so_many_shared_connections() {
    let server = Redis::start(&[]);
    let pool = Config::from_url(server.url()).create_pool(Some(Runtime::Tokio1)).unwrap();
    pool.resize(4);
    let things = sosa_redis::new(pool.clone(), "clients").collection::<u64>("things").unindexed();
    let mut control = server.control();
    // All that the pool has is lent out, and nobody waits for it.
    let mut lent = Vec::new();
    for _ in 0..4 {
        lent.push(pool.get().await.unwrap());
    }
    let ids: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    things.load_many(&ids).await.unwrap();
    things.save("7", &7).await.unwrap();
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut control).unwrap();
    assert_eq!(clients.lines().count(), 4 + 4 + 1, "{clients}");
    assert_eq!(
        calls(&mut control),
        BTreeMap::from([("client|list".into(), 1), ("get".into(), 1000), ("set".into(), 1)])
    );
}

/// Making stores and collections connects to nothing, and needs no runtime. Once the runtime of a connection
/// has ended, the first verb in another makes it anew, a save as well as a load.
#[test]
fn nothing_connects_before_the_first_verb() {
    let server = Redis::start(&[]);
    let client = Client::open(server.url()).unwrap();
    let pool = Config::from_url(server.url()).create_pool(Some(Runtime::Tokio1)).unwrap();
    let stores = [
        sosa_redis::new(client, "clients"),
        sosa_redis::new(pool, "clients"),
        sosa_redis::from_url(&server.url(), "clients").unwrap(),
    ];
    let things: Vec<RedisCollection<u64>> = stores.iter().map(|store| store.collection("things")).collect();
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.control()).unwrap();
    assert_eq!(clients.lines().count(), 1, "{clients}");
    for round in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for things in &things {
            // Of the runtime that is gone.
            assert_eq!(runtime.block_on(things.load("a")).unwrap().is_some(), round > 0);
        }
        for things in &things {
            runtime.block_on(things.save("a", &round)).unwrap();
        }
    }
    for round in 3..6 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for things in &things {
            runtime.block_on(things.save("a", &round)).unwrap();
        }
    }
    // Outside of a runtime a verb is an error, and no panic.
    for things in &things {
        let error = things.load("a").now_or_never().expect("it does not wait").unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unsupported, Outcome::NotApplied));
    }
}

#[tokio::test]
async fn a_url_names_user_password_and_database() {
    let server = Redis::start(&[]);
    let mut control = server.control();
    let _: () =
        redis::cmd("ACL").arg(&["SETUSER", "ada", "on", ">sesame", "~clients:*", "+@all"]).query(&mut control).unwrap();
    for (scheme, parameters) in [
        (format!("redis://ada:sesame@{}/3", server.address()), ""),
        (server.unix_url(), "?user=ada&pass=sesame&db=3"),
        (format!("redis://ada:sesame@{}/3", server.address()), "?protocol=resp3"),
    ] {
        let things = sosa_redis::from_url(&format!("{scheme}{parameters}"), "clients").unwrap().collection("things");
        things.save("a", &parameters.to_owned()).await.unwrap();
        let _: () = redis::cmd("SELECT").arg(3).query(&mut control).unwrap();
        let stored: String = control.get("clients:things:a").unwrap();
        assert_eq!(stored, format!("{parameters:?}"));
    }
    for url in ["redis://", "http://127.0.0.1/", "127.0.0.1", ""] {
        let error = sosa_redis::from_url(url, "clients").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{url}");
    }
}

/// The bytes in the store are the codec's and nothing else, under keys that other programs can name.
#[tokio::test]
async fn other_programs_read_and_write_the_same() {
    let server = Redis::start(&[]);
    let mut control = server.control();
    let store = sosa_redis::from_url(&server.url(), "clients").unwrap();

    let people = store.collection::<String>("people");
    people.save("ada", &"Ada".to_owned()).await.unwrap();
    people.within("a/b").save("x:y", &"Bob".to_owned()).await.unwrap();
    let keys: Vec<String> = control.keys("*").unwrap();
    let mut expected = ["clients:people", "clients:people:ada", "clients:people/a%2Fb", "clients:people/a%2Fb:x:y"];
    expected.sort_unstable();
    assert_eq!(
        BTreeMap::from_iter(keys.iter().map(|key| (key.as_str(), ()))).into_keys().collect::<Vec<_>>(),
        expected
    );
    assert_eq!(control.get::<_, String>("clients:people:ada").unwrap(), "\"Ada\"");
    let _: () = control.set("clients:people:bob", "\"Bob\"").unwrap();
    let _: () = control.zadd("clients:people", "bob", 0).unwrap();
    assert!(people.list().await.unwrap().ids().eq(["ada", "bob"]));

    // Another program's data, under its own keys.
    let sessions = store.collection_at::<String>("sess:");
    let _: () = control.set("sess:abc", "\"theirs\"").unwrap();
    assert_eq!(sessions.load("abc").await.unwrap().as_deref(), Some("theirs"));
    sessions.update("abc", |_| Some("ours".to_owned())).await.unwrap();
    assert_eq!(control.get::<_, String>("sess:abc").unwrap(), "\"ours\"");
    assert!(sessions.destroy("abc").await.unwrap());
    assert_eq!(sessions.list().await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(!control.exists::<_, bool>("sess").unwrap());

    let shouted = store.collection::<String>("people").with_codec(Shout);
    shouted.save("ada", &"Ada".to_owned()).await.unwrap();
    assert_eq!(control.get::<_, String>("clients:people:ada").unwrap(), "\"ADA\"");
    assert_eq!(shouted.load("ada").await.unwrap().as_deref(), Some("ada"));
}

/// Capitals in the store, small letters in the program.
#[derive(Debug)]
struct Shout;

impl Codec<String> for Shout {
    fn encode(&self, key: &Key<'_>, value: &String) -> Result<Vec<u8>> {
        Json.encode(key, &value.to_uppercase())
    }

    fn decode(&self, key: &Key<'_>, bytes: &[u8]) -> Result<String> {
        Json.decode(key, bytes).map(|value: String| value.to_lowercase())
    }
}

/// Dead ids are not listed, and what a program did not save is no id.
#[tokio::test]
async fn a_listing_survives_what_others_put_into_the_index() {
    let server = Redis::start(&[]);
    let mut control = server.control();
    let things = sosa_redis::from_url(&server.url(), "clients").unwrap().collection::<u64>("things");
    things.save("a", &1).await.unwrap();
    things.save_with("b", &2, SaveOptions::from(Expiry::After(Duration::from_millis(1)))).await.unwrap();
    let _: () = control.zadd("clients:things", b"\xff\xfe", 0).unwrap();
    let _: () = control.set(b"clients:things:\xff\xfe", "3").unwrap();
    let _: () = control.zadd("clients:things", "", 0).unwrap();
    let _: () = control.zadd("clients:things", "x".repeat(2000), 0).unwrap();
    let _: () = control.set(format!("clients:things:{}", "x".repeat(2000)), "4").unwrap();
    while things.load("b").await.unwrap().is_some() {}
    let page = things.list().await.unwrap();
    assert!(page.ids().eq(["a"]), "{:?}", page.ids().collect::<Vec<_>>());

    // A page that ends with what is no text cannot say where the next one starts.
    let descending = ListOptions::new().reverse().limit(1);
    assert_eq!(things.list_with(descending).await.unwrap_err().kind(), ErrorKind::Other);

    // What lost its place in the index gets it back by any save.
    for save in [SaveOptions::new(), Condition::Present.into(), Expiry::Keep.into()] {
        let _: () = control.del("clients:things").unwrap();
        things.save_with("a", &1, save).await.unwrap();
        assert!(things.list().await.unwrap().ids().eq(["a"]));
    }
    assert!(things.save_with("c", &1, Condition::Present.into()).await.unwrap_err().is_conflict());
    assert_eq!(control.zcard::<_, u64>("clients:things").unwrap(), 1);
}
