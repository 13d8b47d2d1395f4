//! The points of the protocol between any two of which a process may die.
//!
//! In a program they are nothing. With the feature `testing` a process can be told to kill itself at one of them
//! ([`crate::testing::die_at`]); in a model checker a thread can be told to stop there for ever.

/// Which side passes a step.
#[cfg_attr(not(all(feature = "testing", not(any(bips_loom, bips_shuttle)))), allow(unreachable_pub))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The process that owns the pool.
    Producer,
    /// A process that leases frames.
    Consumer,
}

macro_rules! steps {
    ($($side:ident { $($name:ident = $text:literal;)+ })+) => {
        /// A point of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub(crate) enum Step {
            $($(#[doc = $text] $name,)+)+
        }

        /// All of them, in the order of [`Step`].
        #[allow(dead_code, reason = "for tests")]
        pub(crate) const STEPS: &[(Step, Side, &str)] =
            &[$($((Step::$name, Side::$side, $text),)+)+];
    };
}

steps! {
    Producer {
        ClaimLocked = "claim: the name's lock is taken";
        ClaimBound = "claim: the socket is bound, under a temporary name";
        ClaimNamed = "claim: the socket has its name, nobody answers yet";
        SeatMade = "admit: the seat is made, the consumer not yet seated";
        SeatTaken = "admit: the consumer is seated, and not told";
        WelcomeSent = "admit: the consumer is told";
        AcquireScanned = "acquire: the seats are read";
        AcquireHeld = "acquire: a slot is taken";
        EvictChosen = "evict: a victim is chosen";
        EvictMoved = "evict: a cursor is moved";
        ExpelMoved = "expel: a cursor says that its consumer is out, which is not woken";
        PublishDescribed = "publish: the cold description is written";
        PublishCleared = "publish: the entry is cleared";
        PublishWritten = "publish: the entry is written, without its stamp";
        PublishStamped = "publish: the entry is stamped, the tail not moved";
        PublishCounted = "publish: the tail is moved, nobody woken";
        WakeCleared = "wake: a sleeper is marked awake, and not woken";
        WakeDone = "wake: everybody is woken";
        HungerAnnounced = "hunger: announced, before the last look";
        HungerOver = "hunger: over, not yet taken back";
        MemberRemoved = "leave: a consumer is removed, its memory still mapped";
        CloseMarked = "close: the board says closed, nobody woken";
        CloseUnheard = "close: nobody can connect any more";
        CloseUnnamed = "close: the socket is removed, the lock is not";
        CloseUnlocked = "close: the name is free, consumers not hung up on";
    }
    Consumer {
        AskConnected = "join: connected, nothing asked";
        AskSent = "join: asked";
        AskAnswered = "join: the welcome is read";
        JoinMapped = "join: everything is mapped, the producer not watched";
        JoinDone = "join: done";
        TakeRead = "take: the entry is read, nothing claimed";
        TakeHeld = "take: the slot is claimed, the cursor not moved";
        TakeMoved = "take: the cursor is moved";
        TakeLost = "take: claimed, but evicted meanwhile";
        TakeReturned = "take: the claim is taken back, the producer not told";
        SkipMoved = "skip: the cursor is moved over unwanted frames";
        Leased = "receive: the frame is leased";
        ReleaseCleared = "release: the slot is given back, the producer not told";
        ReleaseRung = "release: a hungry producer is told";
        ParkAnnounced = "park: announced, before the last look";
        ParkWoken = "park: woken, not yet taken back";
        PollDrained = "poll: the descriptor is emptied, before the last look";
        PollWoken = "poll: woken, the descriptor not yet readable";
        Resigned = "resign: the cursor says that nothing more is taken";
        RejoinDone = "rejoin: seated at the next producer, the old seat kept";
    }
}

#[cfg(not(any(bips_loom, bips_shuttle, feature = "testing")))]
#[inline(always)]
pub(crate) fn reach(_: Step) {}

#[cfg(all(feature = "testing", not(any(bips_loom, bips_shuttle))))]
pub(crate) use armed::{arm, reach, slow, watch};

#[cfg(all(feature = "testing", not(any(bips_loom, bips_shuttle))))]
mod armed {
    use super::Step;
    use std::cell::{Cell, RefCell};
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::time::Duration;

    const NONE: u32 = u32::MAX;
    static ARMED: AtomicU32 = AtomicU32::new(NONE);
    static LEFT: AtomicU32 = AtomicU32::new(0);
    static SLOW: AtomicU32 = AtomicU32::new(NONE);
    /// In microseconds.
    static PAUSE: AtomicU32 = AtomicU32::new(0);

    type Watcher = Box<dyn FnMut(Step)>;

    thread_local! {
        static WATCHED: Cell<bool> = const { Cell::new(false) };
        static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
    }

    #[inline]
    pub(crate) fn reach(step: Step) {
        if ARMED.load(Relaxed) == step as u32 {
            passed();
        }
        if SLOW.load(Relaxed) == step as u32 {
            std::thread::sleep(Duration::from_micros(PAUSE.load(Relaxed).into()));
        }
        if WATCHED.get() {
            tell(step);
        }
    }

    /// Not of the steps that the watcher itself passes.
    #[cold]
    fn tell(step: Step) {
        WATCHED.set(false);
        WATCHER.with_borrow_mut(|watcher| watcher.as_mut().map(|watcher| watcher(step)));
        WATCHED.set(true);
    }

    /// Runs `call`, and `watcher` at each step this thread passes in it: a peer does something just then.
    pub(crate) fn watch<T>(watcher: impl FnMut(Step) + 'static, call: impl FnOnce() -> T) -> T {
        /// Also where `call` panics.
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                WATCHED.set(false);
                drop(WATCHER.take());
            }
        }
        let _over = Over;
        WATCHER.set(Some(Box::new(watcher)));
        WATCHED.set(true);
        call()
    }

    #[cold]
    fn passed() {
        if LEFT.fetch_sub(1, Relaxed) == 1 {
            // As the kernel's own: no handler, no destructor, no flush.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
            loop {
                std::thread::park();
            }
        }
    }

    /// The process takes its time at this step, each time.
    pub(crate) fn slow(step: Step, pause: Duration) {
        PAUSE.store(pause.as_micros().try_into().unwrap_or(u32::MAX), Relaxed);
        SLOW.store(step as u32, Relaxed);
    }

    /// The process dies when it passes this step for the `count`th time.
    pub(crate) fn arm(step: Step, count: u32) {
        LEFT.store(count, Relaxed);
        ARMED.store(step as u32, Relaxed);
    }
}

#[cfg(any(bips_loom, bips_shuttle))]
pub(crate) use stopping::{Stopped, reach, stop_at};

#[cfg(any(bips_loom, bips_shuttle))]
mod stopping {
    use super::Step;
    use std::cell::Cell;

    /// What a thread that stops unwinds with; nothing of the signaler does anything when dropped.
    pub(crate) struct Stopped;

    // The checker's threads are not the system's.
    crate::sync::checker::thread_local! {
        static AT: Cell<Option<Step>> = Cell::new(None);
    }

    pub(crate) fn reach(step: Step) {
        if AT.with(Cell::get) == Some(step) {
            AT.with(|at| at.set(None));
            std::panic::resume_unwind(Box::new(Stopped));
        }
    }

    /// The calling thread of the model stops when it reaches this step.
    pub(crate) fn stop_at(step: Option<Step>) {
        AT.with(|at| at.set(step));
    }
}
