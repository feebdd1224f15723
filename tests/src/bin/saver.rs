//! A process that saves: `saver URL LIFETIME` saves new entries, which live for so many milliseconds, 16 at a
//! time. A test starts several, and kills them.

use std::time::Duration;

use sosa_redis::sosa::{Collection, Error, Expiry, SaveOptions};
use tokio::task::JoinSet;

const TASKS: u64 = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("a URL is missing")?;
    let lifetime = Duration::from_millis(arguments.next().ok_or("a lifetime is missing")?.parse()?);
    let things = sosa_redis::from_url(&url, "index")?.collection("things");
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let things = things.clone();
        tasks.spawn(async move {
            let options = SaveOptions::from(Expiry::After(lifetime)).without_revision();
            for n in 0_u64.. {
                // In no order, as ids of sessions are.
                let id = format!("{:032x}", fastrand::u128(..));
                things.save_with(&id, &n, options).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}
