//! A fair queue for each session on which requests collide.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_timer::Delay;
use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{PublicId, StorageKey};

/// A turn that its holder does not end is over after this part of the longest wait.
const TURNS_IN_A_WAIT: u32 = 5;

/// Requests that lost a race for a session wait here, and behind them those that find somebody waiting: each has its
/// turn in the order in which they came. It is no lock: the condition of each save decides all the same, across
/// processes too. It only keeps many requests from making each other's saves fail over and over, and those that have
/// not lost from overtaking those that have.
///
/// Who has had a turn leaves to the next what it saved (`T`), which spares that a look at the store.
pub(crate) struct Queues<T> {
    shared: Arc<Shared<T>>,
    longest_wait: Duration,
}

struct Shared<T> {
    lines: Mutex<Lines<T>>,
    /// How many lines there are: most requests find none, and need not look.
    count: AtomicUsize,
}

struct Lines<T> {
    by_id: HashMap<PublicId, Line<T>>,
    last_ticket: u64,
}

/// Who has the turn, and who waits.
struct Line<T> {
    /// The ticket of whoever has the turn.
    holder: u64,
    /// When the turn began, or its holder last went on.
    since: Instant,
    waiting: VecDeque<Waiting>,
    left: Option<T>,
    /// Wakes whoever is next, no later than it has to look: one for all in turn, since timers are not free.
    watch: Option<Delay>,
}

struct Waiting {
    ticket: u64,
    /// Wakes one who has the turn now, or has come to be the next.
    woken: Arc<Notify>,
}

/// A place in a line, and in time the turn: the next has it when this is dropped.
pub(crate) struct Turn<T> {
    shared: Arc<Shared<T>>,
    id: PublicId,
    ticket: u64,
}

impl<T> Queues<T> {
    /// Makes queues in which nobody waits longer than this.
    pub(crate) fn new(longest_wait: Duration) -> Self {
        let lines = Mutex::new(Lines { by_id: HashMap::new(), last_ticket: 0 });
        Self { shared: Arc::new(Shared { lines, count: AtomicUsize::new(0) }), longest_wait }
    }

    /// Waits for a turn if anybody has one; returns none otherwise.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter).
    pub(crate) async fn enter_if_occupied(&self, key: &StorageKey) -> Result<Option<Turn<T>>> {
        if self.shared.count.load(Ordering::Relaxed) == 0 || !self.shared.lock().by_id.contains_key(&key.public_id()) {
            return Ok(None);
        }
        self.enter(key).await.map(Some)
    }

    /// Waits for a turn.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if it does not come in time.
    pub(crate) async fn enter(&self, key: &StorageKey) -> Result<Turn<T>> {
        let woken = Arc::new(Notify::new());
        let turn = self.shared.queue_up(key.public_id(), woken.clone());
        let (end, longest_turn) = (Instant::now() + self.longest_wait, self.longest_wait / TURNS_IN_A_WAIT);
        loop {
            match turn.place(longest_turn) {
                Place::Holder => return Ok(turn),
                Place::Next if Instant::now() >= end => {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        "nothing was saved: too many requests write this session at once",
                    ));
                }
                Place::Next | Place::Behind => {}
            }
            let mut woken = pin!(woken.notified());
            poll_fn(|context| match woken.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => turn.poll_watch(context, end, longest_turn),
            })
            .await;
        }
    }
}

/// Where a turn is in its line.
enum Place {
    Holder,
    Next,
    Behind,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Lines<T>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_up(self: &Arc<Self>, id: PublicId, woken: Arc<Notify>) -> Turn<T> {
        let mut lines = self.lock();
        lines.last_ticket += 1;
        let ticket = lines.last_ticket;
        match lines.by_id.get_mut(&id) {
            Some(line) => line.waiting.push_back(Waiting { ticket, woken }),
            None => {
                let line =
                    Line { holder: ticket, since: Instant::now(), waiting: VecDeque::new(), left: None, watch: None };
                lines.by_id.insert(id, line);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        Turn { shared: self.clone(), id, ticket }
    }
}

impl<T> Line<T> {
    /// Gives the turn to the next, and tells who is the next now; returns false if nobody waits.
    fn pass_on(&mut self) -> bool {
        let Some(next) = self.waiting.pop_front() else { return false };
        (self.holder, self.since) = (next.ticket, Instant::now());
        next.woken.notify_one();
        self.wake_next();
        true
    }

    fn is_next(&self, ticket: u64) -> bool {
        self.waiting.front().is_some_and(|next| next.ticket == ticket)
    }

    fn wake_next(&self) {
        if let Some(next) = self.waiting.front() {
            next.woken.notify_one();
        }
    }
}

impl<T> Turn<T> {
    /// Takes what the one before has left.
    pub(crate) fn take_left(&self) -> Option<T> {
        self.in_line(|line, ticket| line.left.take_if(|_| line.holder == ticket))?
    }

    /// Leaves something to the next.
    pub(crate) fn leave(&self, left: T) {
        self.in_line(|line, ticket| {
            if line.holder == ticket {
                line.left = Some(left);
            }
        });
    }

    /// Notes that the holder is still about.
    pub(crate) fn go_on(&self) {
        self.in_line(|line, ticket| {
            if line.holder == ticket {
                line.since = Instant::now();
            }
        });
    }

    fn in_line<R>(&self, act: impl FnOnce(&mut Line<T>, u64) -> R) -> Option<R> {
        self.shared.lock().by_id.get_mut(&self.id).map(|line| act(line, self.ticket))
    }

    /// Returns where this is. Whoever is next takes the turn from a holder who has had it for too long: one whose call of
    /// the store never ends, or whose future nobody polls, must not hold up the others.
    fn place(&self, longest_turn: Duration) -> Place {
        let place = self.in_line(|line, ticket| {
            let is_next = line.is_next(ticket);
            if is_next && line.since.elapsed() >= longest_turn {
                line.pass_on();
            }
            match line.holder == ticket {
                true => Place::Holder,
                false if is_next => Place::Next,
                false => Place::Behind,
            }
        });
        // A line stays until the last of its turns is dropped.
        place.unwrap_or(Place::Holder)
    }

    /// Is ready when whoever is next has to see whether the holder's time is over, or its own. Nobody else has to: they
    /// came later, and are next before their own time is over.
    fn poll_watch(&self, context: &mut Context<'_>, end: Instant, longest_turn: Duration) -> Poll<()> {
        let is_over = self.in_line(|line, ticket| {
            if !line.is_next(ticket) {
                return false;
            }
            let until = end.min(line.since + longest_turn);
            // Of whoever was next before, it is early, and is set again.
            let watch = line.watch.get_or_insert_with(|| Delay::new(until.saturating_duration_since(Instant::now())));
            let is_over = Pin::new(watch).poll(context).is_ready();
            if is_over {
                line.watch = None;
            }
            is_over
        });
        if is_over == Some(true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        let mut lines = self.shared.lock();
        let Some(line) = lines.by_id.get_mut(&self.id) else { return };
        if line.holder == self.ticket {
            if !line.pass_on() {
                lines.by_id.remove(&self.id);
                self.shared.count.fetch_sub(1, Ordering::Relaxed);
            }
        } else if let Some(place) = line.waiting.iter().position(|waiting| waiting.ticket == self.ticket) {
            // It gave up.
            line.waiting.remove(place);
            line.wake_next();
        }
    }
}

impl<T> fmt::Debug for Queues<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").field("longest_wait", &self.longest_wait).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;
    use futures_util::FutureExt;

    const LONG: Duration = Duration::from_secs(3600);

    fn key() -> StorageKey {
        StorageKey::Hashed(SessionId::random().unwrap().public_id())
    }

    fn is_empty(queues: &Queues<u8>) -> bool {
        queues.shared.lock().by_id.is_empty() && queues.shared.count.load(Ordering::Relaxed) == 0
    }

    #[tokio::test]
    async fn turns_come_in_order_and_nothing_is_left() {
        let (queues, key) = (Queues::<u8>::new(LONG), key());
        assert!(queues.enter_if_occupied(&key).await.unwrap().is_none());
        let first = queues.enter(&key).await.unwrap();
        let mut second = Box::pin(queues.enter_if_occupied(&key));
        let mut third = Box::pin(queues.enter(&key));
        let mut fourth = Box::pin(queues.enter(&key));
        for waiting in [third.as_mut(), fourth.as_mut()] {
            assert!(second.as_mut().now_or_never().is_none());
            assert!(waiting.now_or_never().is_none());
        }
        first.leave(1);
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "who came later waits");
        let second = second.now_or_never().unwrap().unwrap().expect("the queue was occupied");
        assert_eq!((second.take_left(), second.take_left()), (Some(1), None));
        drop(third);
        drop(second);
        drop(fourth.now_or_never().expect("who was before it has gone"));
        assert!(is_empty(&queues));
    }

    #[tokio::test]
    async fn a_turn_that_is_not_ended_passes_on() {
        let (queues, key) = (Queues::new(Duration::from_millis(100)), key());
        let first = queues.enter(&key).await.unwrap();
        let second = queues.enter(&key).await.expect("the first has had its time");
        first.leave(1);
        first.go_on();
        assert_eq!((first.take_left(), second.take_left()), (None, None), "it is over for the first");
        drop(first);
        let third = queues.enter(&key);
        drop(second);
        drop(third.await.unwrap());
        assert!(is_empty(&queues));
    }

    #[tokio::test]
    async fn a_wait_ends() {
        let (queues, key) = (Queues::<u8>::new(Duration::from_millis(50)), key());
        let held = queues.enter(&key).await.unwrap();
        // None of them passes on what it has, though all do go on.
        let stays = async {
            for _ in 0..20 {
                held.go_on();
                Delay::new(Duration::from_millis(5)).await;
            }
        };
        let (waited, ()) = futures_util::future::join(queues.enter(&key), stays).await;
        let error = waited.err().expect("its time is over");
        assert_eq!((error.kind(), error.status()), (ErrorKind::Busy, 503));
        drop(held);
        assert!(is_empty(&queues));
    }
}
