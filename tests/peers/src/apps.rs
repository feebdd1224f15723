//! The apps that are measured: the same routes over the sessions of each library.
//!
//! `/fill` puts into a session what that of a shop holds, `/tiny` one number alone, and `/large` much more beside it.
//! `/untouched` has a session and does not use it, `/read` answers one value of it, and `/write` sets that to another
//! one. `/untouched` and `/write` answer any number.

use std::fmt::Debug;
use std::hint::black_box;
use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::routing::get;
use axum::{Extension, Router};
use axum_session::{DatabasePool, SessionStore};
use serde_json::{Map, Value};
use sosa_session::{CookieOptions, Lifetime, Secure, SessionLayer, SessionOptions};
use tower::util::MapRequestLayer;

use crate::shop;

/// Some number, of as many digits as most.
fn views() -> u32 {
    fastrand::u32(100_000_000..)
}

/// Answers as those with sessions do.
pub fn bare() -> Router {
    let answer = |headers: HeaderMap| async move {
        black_box(headers.get(header::COOKIE).map(|cookie| cookie.as_bytes().len()));
        views().to_string()
    };
    Router::new().route("/untouched", get(answer)).route("/read", get(answer)).route("/write", get(answer))
}

/// The same behind a layer that gives each request an object of its own, which is the least that sessions do.
pub fn layered() -> Router {
    type Object = Arc<[u64; 16]>;
    let layer = MapRequestLayer::new(|mut request: Request| {
        request.extensions_mut().insert(Object::default());
        request
    });
    let answer = |Extension(object): Extension<Object>, headers: HeaderMap| async move {
        black_box((object, headers.get(header::COOKIE).map(|cookie| cookie.as_bytes().len())));
        views().to_string()
    };
    Router::new().route("/untouched", get(answer)).route("/read", get(answer)).route("/write", get(answer)).layer(layer)
}

/// That of sessions which are begun at `/remembered`.
const CLASS: &str = "remembered";

/// sosa-session, with a cookie that travels over plain http.
pub fn sosa(options: SessionOptions) -> Router {
    use sosa_session::{Result, Session};
    async fn untouched(_session: Session) -> String {
        views().to_string()
    }
    async fn read(session: Session) -> Result<String> {
        Ok(session.get::<u32>("views").await?.unwrap_or_default().to_string())
    }
    async fn write(session: Session) -> Result<String> {
        let views = views();
        session.insert("views", views).await?;
        Ok(views.to_string())
    }
    async fn fill(session: Session, contents: Map<String, Value>) -> Result<()> {
        for (key, value) in contents {
            session.insert(&key, value).await?;
        }
        Ok(())
    }
    async fn remembered(session: Session) -> Result<()> {
        session.regenerate_as(CLASS).await?;
        fill(session, shop::contents()).await
    }
    let options = options.cookie(CookieOptions::new().secure(Secure::Never)).class(CLASS, Lifetime::new());
    Router::new()
        .route("/untouched", get(untouched))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill", get(|session| fill(session, shop::contents())))
        .route("/tiny", get(|session| fill(session, shop::tiny())))
        .route("/large", get(|session| fill(session, shop::large())))
        .route("/remembered", get(remembered))
        .layer(SessionLayer::new(options))
}

/// The layers of two versions have nothing in common but their names.
macro_rules! tower_sessions {
    ($(#[$doc:meta])* $name:ident, $version:ident) => {
        $(#[$doc])*
        pub fn $name<S>(layer: $version::SessionManagerLayer<S>) -> Router
        where
            S: $version::SessionStore + Clone,
        {
            use $version::Session;
            async fn untouched(_session: Session) -> String {
                views().to_string()
            }
            async fn read(session: Session) -> String {
                session.get::<u32>("views").await.expect("read").unwrap_or_default().to_string()
            }
            async fn write(session: Session) -> String {
                let views = views();
                session.insert("views", views).await.expect("written");
                views.to_string()
            }
            async fn fill(session: Session, contents: Map<String, Value>) {
                for (key, value) in contents {
                    session.insert(&key, value).await.expect("written");
                }
            }
            Router::new()
                .route("/untouched", get(untouched))
                .route("/read", get(read))
                .route("/write", get(write))
                .route("/fill", get(|session| fill(session, shop::contents())))
                .route("/tiny", get(|session| fill(session, shop::tiny())))
                .route("/large", get(|session| fill(session, shop::large())))
                .layer(layer)
        }
    };
}

tower_sessions! {
    /// tower-sessions 0.15.
    tower_sessions, tower_sessions
}

tower_sessions! {
    /// tower-sessions 0.14, the latest that its store on Redis is made for.
    tower_sessions_14, tower_sessions_14
}

/// What axum_session asks of a place for its sessions.
pub trait Pool: DatabasePool + Clone + Debug + Send + Sync + 'static {}

impl<P: DatabasePool + Clone + Debug + Send + Sync + 'static> Pool for P {}

/// axum_session. It starts a task, and so is called within a runtime.
pub fn axum_session<P: Pool>(store: SessionStore<P>) -> Router {
    use axum_session::{Session, SessionLayer};
    async fn untouched<P: Pool>(_session: Session<P>) -> String {
        views().to_string()
    }
    async fn read<P: Pool>(session: Session<P>) -> String {
        session.get::<u32>("views").unwrap_or_default().to_string()
    }
    async fn write<P: Pool>(session: Session<P>) -> String {
        let views = views();
        session.set("views", views);
        views.to_string()
    }
    async fn fill<P: Pool>(session: Session<P>) {
        for (key, value) in shop::contents() {
            session.set(&key, value);
        }
    }
    Router::new()
        .route("/untouched", get(untouched::<P>))
        .route("/read", get(read::<P>))
        .route("/write", get(write::<P>))
        .route("/fill", get(fill::<P>))
        .layer(SessionLayer::new(store))
}

/// The routes over actix-session, whose middleware is laid around them.
pub fn actix_session(routes: &mut ServiceConfig) {
    use actix_session::Session;
    use actix_web::Result;
    async fn untouched(_session: Session) -> String {
        views().to_string()
    }
    async fn read(session: Session) -> Result<String> {
        Ok(session.get::<u32>("views")?.unwrap_or_default().to_string())
    }
    async fn write(session: Session) -> Result<String> {
        let views = views();
        session.insert("views", views)?;
        Ok(views.to_string())
    }
    async fn fill(session: Session) -> Result<String> {
        for (key, value) in shop::contents() {
            session.insert(key, value)?;
        }
        Ok(String::new())
    }
    routes
        .route("/untouched", web::get().to(untouched))
        .route("/read", web::get().to(read))
        .route("/write", web::get().to(write))
        .route("/fill", web::get().to(fill));
}
