//! The servers: this very program, started with another argument.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::exit;
use std::thread;

use actix_session::SessionMiddleware;
use actix_session::config::{BrowserSession, CookieContentSecurity, TtlExtensionPolicy};
use actix_session::storage::RedisSessionStore;
use actix_web::cookie::Key;
use actix_web::{App, HttpServer};
use axum::Router;
use axum_session::{SessionConfig, SessionNullPool, SessionStore};
use axum_session_redispool::SessionRedisPool;
use redis_pool::RedisPool;
use sosa_peers::apps;
use sosa_session::{SessionOptions, SigningKey};
use time::Duration;
use tokio::net::TcpListener;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config as FredConfig, Pool as FredPool};

use crate::CONNECTIONS;
use crate::names::*;

/// How many connections to Redis a pool has from which each call takes one of its own: one for each request at once.
/// Left to their defaults, 4 and 16, these pools are slower here: one makes its callers wait, the other connects
/// anew.
const POOL: usize = CONNECTIONS;

/// How many threads a server has for them, or processes.
const WORKERS: usize = 2;

/// How long sessions live.
const LIFETIME: Duration = Duration::days(1);

/// Is a server until the input ends.
pub fn serve(name: &str, redis: Option<&str>) {
    thread::spawn(|| {
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        exit(0);
    });
    if [ACTIX, ACTIX_POOL, ACTIX_SLIDING].contains(&name) {
        return serve_actix(name, redis.expect("a URL")).expect("it serves");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let router = match redis {
            None => router_in_memory(name).await,
            Some(url) => router_on_redis(name, url).await,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        announce(listener.local_addr().expect("it is bound"));
        axum::serve(listener, router).await.expect("it serves");
    });
}

fn announce(address: SocketAddr) {
    println!("{address}");
    io::stdout().flush().expect("somebody reads");
}

async fn router_in_memory(name: &str) -> Router {
    match name {
        BARE => apps::bare(),
        SOSA => apps::sosa(SessionOptions::memory()),
        SOSA_SIGNED => {
            let key = SigningKey::new("0123456789abcdef0123456789abcdef").expect("long enough");
            apps::sosa(SessionOptions::memory().signed([key]))
        }
        TOWER_15 => {
            use tower_sessions::{Expiry, MemoryStore, SessionManagerLayer};
            let layer = SessionManagerLayer::new(MemoryStore::default());
            apps::tower_sessions(layer.with_secure(false).with_expiry(Expiry::OnInactivity(LIFETIME)))
        }
        AXUM_SESSION => {
            let config = SessionConfig::default().with_lifetime(LIFETIME);
            apps::axum_session(SessionStore::<SessionNullPool>::new(None, config).await.expect("a store"))
        }
        _ => panic!("nobody is called {name}"),
    }
}

async fn router_on_redis(name: &str, url: &str) -> Router {
    let store = |prefix| sosa_redis::from_url(url, prefix).expect("a URL");
    match name {
        BARE => apps::bare(),
        SOSA => apps::sosa(SessionOptions::new(store("bench").collection("sessions"))),
        SOSA_UNINDEXED => apps::sosa(SessionOptions::new(store("unindexed").collection("sessions").unindexed())),
        TOWER_14 | TOWER_14_SLIDING => {
            use tower_sessions_14::{Expiry, SessionManagerLayer};
            let pool = FredPool::new(FredConfig::from_url(url).expect("a URL"), None, None, None, 6).expect("a pool");
            pool.init().await.expect("a connection");
            let layer = SessionManagerLayer::new(RedisStore::new(pool)).with_always_save(name == TOWER_14_SLIDING);
            apps::tower_sessions_14(layer.with_secure(false).with_expiry(Expiry::OnInactivity(LIFETIME)))
        }
        AXUM_SESSION | AXUM_SESSION_UNCACHED => {
            let mut config = SessionConfig::default().with_lifetime(LIFETIME);
            if name == AXUM_SESSION_UNCACHED {
                config = config.with_memory_lifetime(Duration::ZERO);
            }
            let client = redis::Client::open(url).expect("a URL");
            let pool = RedisPool::new(client, POOL, Some(POOL));
            let store = SessionStore::<SessionRedisPool>::new(Some(pool.into()), config).await;
            apps::axum_session(store.expect("a store"))
        }
        _ => panic!("nobody is called {name}"),
    }
}

fn serve_actix(name: &str, url: &str) -> io::Result<()> {
    actix_web::rt::System::new().block_on(async {
        let store = if name == ACTIX_POOL {
            use deadpool_redis_22::{Config, PoolConfig, Runtime};
            let mut config = Config::from_url(url);
            config.pool = Some(PoolConfig::new(POOL));
            let pool = config.create_pool(Some(Runtime::Tokio1)).expect("a pool");
            RedisSessionStore::new_pooled(pool).await
        } else {
            RedisSessionStore::new(url).await
        };
        let store = store.expect("a store");
        let key = Key::from(&[7; 64]);
        let policy =
            if name == ACTIX_SLIDING { TtlExtensionPolicy::OnEveryRequest } else { TtlExtensionPolicy::OnStateChanges };
        let lifecycle = BrowserSession::default().state_ttl(LIFETIME).state_ttl_extension_policy(policy);
        let server = HttpServer::new(move || {
            let sessions = SessionMiddleware::builder(store.clone(), key.clone())
                .cookie_secure(false)
                // "More than enough" for sessions on Redis, it says.
                .cookie_content_security(CookieContentSecurity::Signed)
                .session_lifecycle(lifecycle.clone())
                .build();
            App::new().wrap(sessions).configure(apps::actix_session)
        });
        let server = server.workers(WORKERS).bind("127.0.0.1:0")?;
        announce(server.addrs()[0]);
        server.run().await
    })
}
