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
use crate::id::PublicId;

/// A turn that its holder does not end is over after this part of the longest wait.
const TURNS_IN_A_WAIT: u32 = 5;

/// Longer than anybody waits for a response.
const DAY: Duration = Duration::from_secs(86_400);

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
    /// When it has waited for long enough.
    end: Instant,
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
        Self { shared: Arc::new(Shared { lines, count: AtomicUsize::new(0) }), longest_wait: longest_wait.min(DAY) }
    }

    /// Waits for a turn if anybody has one; returns none otherwise.
    ///
    /// # Errors
    ///
    /// As [`enter`](Self::enter).
    pub(crate) async fn enter_if_occupied(&self, id: PublicId) -> Result<Option<Turn<T>>> {
        if self.shared.count.load(Ordering::Relaxed) == 0 || !self.shared.lock().by_id.contains_key(&id) {
            return Ok(None);
        }
        self.enter(id).await.map(Some)
    }

    /// Waits for a turn.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Busy`] if it does not come in time.
    pub(crate) async fn enter(&self, id: PublicId) -> Result<Turn<T>> {
        let woken = Arc::new(Notify::new());
        let (end, longest_turn) = (Instant::now() + self.longest_wait, self.longest_wait / TURNS_IN_A_WAIT);
        let turn = self.shared.queue_up(id, end, woken.clone());
        let mut own_end = None;
        while !turn.has_come(longest_turn) {
            if Instant::now() >= end {
                let what = "nothing was saved: too many requests write this session at once";
                return Err(Error::new(ErrorKind::Busy, what));
            }
            let mut woken = pin!(woken.notified());
            poll_fn(|context| match woken.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => turn.poll_watch(context, end, longest_turn, &mut own_end),
            })
            .await;
        }
        Ok(turn)
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Lines<T>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_up(self: &Arc<Self>, id: PublicId, end: Instant, woken: Arc<Notify>) -> Turn<T> {
        let mut lines = self.lock();
        lines.last_ticket += 1;
        let ticket = lines.last_ticket;
        match lines.by_id.get_mut(&id) {
            Some(line) => line.waiting.push_back(Waiting { ticket, end, woken }),
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

    /// Notes that the holder is still about; returns false if the turn has passed on meanwhile.
    pub(crate) fn go_on(&self) -> bool {
        let is_held = self.in_line(|line, ticket| {
            let is_held = line.holder == ticket;
            if is_held {
                line.since = Instant::now();
            }
            is_held
        });
        is_held == Some(true)
    }

    fn in_line<R>(&self, act: impl FnOnce(&mut Line<T>, u64) -> R) -> Option<R> {
        self.shared.lock().by_id.get_mut(&self.id).map(|line| act(line, self.ticket))
    }

    /// Returns whether the turn has come. Whoever is next takes it from a holder who has had it for too long: one whose call
    /// of the store never ends, or whose future nobody polls, must not hold up the others. Nor must others before it that
    /// nobody polls: they should have left.
    fn has_come(&self, longest_turn: Duration) -> bool {
        let has_come = self.in_line(|line, ticket| {
            let now = Instant::now();
            while line.waiting.front().is_some_and(|next| next.ticket != ticket && next.end <= now) {
                line.waiting.pop_front();
            }
            if line.is_next(ticket) && now - line.since >= longest_turn {
                // What it would leave later, or has left earlier, may be old by now.
                line.left = None;
                line.pass_on();
            }
            line.holder == ticket
        });
        // It was taken out of its line, and that is gone.
        has_come.unwrap_or(false)
    }

    /// Is ready when the turn may have to be taken from its holder, or the wait is over. For the first, whoever is next
    /// watches for all.
    fn poll_watch(
        &self,
        context: &mut Context<'_>,
        end: Instant,
        longest_turn: Duration,
        own_end: &mut Option<Delay>,
    ) -> Poll<()> {
        let now = Instant::now();
        let is_over = self.in_line(|line, ticket| {
            if !line.is_next(ticket) {
                return None;
            }
            let until = end.min(line.since + longest_turn);
            // Of whoever was next before, it is early, and is set again.
            let watch = line.watch.get_or_insert_with(|| Delay::new(until.saturating_duration_since(now)));
            let is_over = Pin::new(watch).poll(context);
            if is_over.is_ready() {
                line.watch = None;
            }
            Some(is_over)
        });
        is_over.flatten().unwrap_or_else(|| {
            let own_end = own_end.get_or_insert_with(|| Delay::new(end.saturating_duration_since(now)));
            Pin::new(own_end).poll(context)
        })
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
        } else if let Ok(place) = line.waiting.binary_search_by_key(&self.ticket, |waiting| waiting.ticket) {
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
    use crate::class::Class;
    use crate::id::SessionId;
    use futures_util::FutureExt;

    const LONG: Duration = Duration::from_secs(3600);

    fn key() -> PublicId {
        SessionId::random(Class::DEFAULT).unwrap().public_id()
    }

    fn is_empty(queues: &Queues<u8>) -> bool {
        queues.shared.lock().by_id.is_empty() && queues.shared.count.load(Ordering::Relaxed) == 0
    }

    #[tokio::test]
    async fn turns_come_in_order_and_nothing_is_left() {
        let (queues, key) = (Queues::<u8>::new(LONG), key());
        assert!(queues.enter_if_occupied(key).await.unwrap().is_none());
        let first = queues.enter(key).await.unwrap();
        let mut second = Box::pin(queues.enter_if_occupied(key));
        let mut third = Box::pin(queues.enter(key));
        let mut fourth = Box::pin(queues.enter(key));
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
        let first = queues.enter(key).await.unwrap();
        let second = queues.enter(key).await.expect("the first has had its time");
        first.leave(1);
        assert!(!first.go_on() && second.go_on());
        assert_eq!((first.take_left(), second.take_left()), (None, None), "it is over for the first");
        drop(first);
        let mut third = Box::pin(queues.enter(key));
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        drop(third.await.unwrap());
        assert!(is_empty(&queues));
    }

    /// Whoever waits behind futures that nobody polls has a turn, and not only an end.
    #[tokio::test]
    async fn a_line_of_futures_that_nobody_polls_is_passed_by() {
        let (queues, key) = (Queues::new(Duration::from_millis(100)), key());
        let held = queues.enter(key).await.unwrap();
        let mut abandoned = [(); 3].map(|()| Box::pin(queues.enter(key)));
        for waiting in &mut abandoned {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        held.leave(1);
        let turn = queues.enter(key).await.expect("all before it have waited for long enough");
        assert_eq!(turn.take_left(), None, "it may be old");
        drop(turn);
        drop(held);
        for waiting in abandoned {
            assert_eq!(waiting.await.err().map(|error| error.kind()), Some(ErrorKind::Busy), "its time is over");
        }
        assert!(is_empty(&queues));
    }

    #[tokio::test]
    async fn a_wait_ends() {
        let (queues, key) = (Queues::<u8>::new(Duration::from_millis(50)), key());
        let held = queues.enter(key).await.unwrap();
        // The holder goes on whenever the one that waits is polled, so that its turn is never too long.
        let mut waiting = Box::pin(queues.enter(key));
        let waited = poll_fn(|context| {
            assert!(held.go_on());
            waiting.as_mut().poll(context)
        });
        let error = waited.await.err().expect("its time is over");
        assert_eq!((error.kind(), error.status()), (ErrorKind::Busy, 503));
        drop(waiting);
        drop(held);
        assert!(is_empty(&queues));
        assert!(Queues::<u8>::new(Duration::MAX).enter(key).await.is_ok());
    }
}
