//! What values are found by, and how they are passed.

use std::borrow::Cow;
use std::rc::Rc;

use sosa_session::{Field, RequestHead, Session, SessionOptions, Sessions};

const USER: Field<String> = Field::new("user");
const CART: Field<Vec<u32>> = Field::new("cart");
const VISITS: Field<u64> = Field::new("visits");

fn session() -> Session {
    Sessions::new(SessionOptions::memory()).open(RequestHead::new([]))
}

#[tokio::test]
async fn a_field_takes_its_type_by_value_and_by_reference() {
    let session = session();
    let (user, cart) = ("ada".to_owned(), vec![1, 2]);
    session.insert(USER, user.clone()).await.unwrap();
    session.insert(USER, &user).await.unwrap();
    session.insert(USER, "ada").await.unwrap();
    session.insert(USER, &*user).await.unwrap();
    session.insert(CART, &cart).await.unwrap();
    session.insert(CART, &cart[..]).await.unwrap();
    session.insert(CART, cart).await.unwrap();
    session.insert(VISITS, 1).await.unwrap();
    assert_eq!(session.get(USER).await.unwrap(), Some(user));
    assert_eq!(session.get(CART).await.unwrap(), Some(vec![1, 2]));
    assert_eq!(session.update(VISITS, |visits| visits.unwrap_or(0) + 1).await.unwrap(), 2);
    for key in [USER.as_ref(), CART.as_ref(), VISITS.as_ref()] {
        assert!(session.remove(key).await.unwrap());
    }
    assert!(!session.remove(USER).await.unwrap());
}

#[tokio::test]
async fn every_text_is_a_key() {
    let session = session();
    let owned = "b".to_owned();
    session.insert("a", 1).await.unwrap();
    session.insert(&owned, 2).await.unwrap();
    session.insert(owned.clone(), 3).await.unwrap();
    session.insert(Cow::Borrowed("c"), 4).await.unwrap();
    session.insert(Cow::<str>::Owned("d".to_owned()), 5).await.unwrap();
    assert_eq!(session.get::<u8>(owned.clone()).await.unwrap(), Some(3));
    assert_eq!(session.get::<u8>(&owned).await.unwrap(), Some(3));
    assert_eq!(session.get::<u8>(Cow::Borrowed("c")).await.unwrap(), Some(4));
    assert_eq!(session.update(format!("d{}", ""), |n: Option<u8>| n.unwrap_or(0)).await.unwrap(), 5);
    assert_eq!(session.keys().await.unwrap(), ["a", "b", "c", "d"]);
    assert!(session.remove(owned).await.unwrap() && session.remove(Cow::Borrowed("c")).await.unwrap());
    session.clear().await.unwrap();
}

/// A handler must be `Send`, whatever it inserts.
#[tokio::test]
async fn a_value_that_cannot_be_sent_makes_no_handler_so() {
    fn is_send<F: Future + Send>(handler: F) -> F {
        handler
    }
    struct Shared(Rc<str>);
    impl serde::Serialize for Shared {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(&self.0)
        }
    }
    let session = session();
    is_send(async { session.insert("user", Shared("ada".into())).await.unwrap() }).await;
    assert_eq!(session.get(USER).await.unwrap().as_deref(), Some("ada"));
    session.clear().await.unwrap();
}

/// What cannot be inserted is told when the call is awaited, like any other error.
#[tokio::test]
async fn nothing_happens_before_it_is_awaited() {
    let session = session();
    drop(session.insert("user", "ada"));
    drop(session.insert("sosa", "ada"));
    assert!(session.keys().await.unwrap().is_empty());
}
