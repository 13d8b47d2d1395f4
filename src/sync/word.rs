//! A 32-bit word one can sleep on: a futex in shared memory, a lock and a condition in a model checker.

#[cfg(not(any(bips_loom, bips_shuttle)))]
mod imp {
    use crate::sys::futex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// A futex word.
    #[repr(transparent)]
    #[derive(Debug, Default)]
    pub(crate) struct Word(AtomicU32);

    impl Word {
        #[inline]
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: u32, order: Ordering) {
            self.0.store(value, order);
        }

        /// Where it lies, for the kernel.
        pub(crate) fn as_ptr(&self) -> *mut u32 {
            self.0.as_ptr()
        }

        /// Sets it, and wakes some who sleep on it: there should be one.
        pub(crate) fn announce(&self, value: u32) {
            self.0.store(value, Ordering::Release); // ORDERING: pairs with the load of who sleeps on it
            self.wake_some(8);
        }

        #[inline]
        pub(crate) fn add(&self, order: Ordering) {
            self.0.fetch_add(1, order);
        }

        /// Sets a bit; the value with it.
        #[inline]
        pub(crate) fn set(&self, bit: u32) -> u32 {
            self.0.fetch_or(bit, Ordering::Relaxed) | bit
        }

        /// From `current` to the next value; whether this call did it.
        #[inline]
        pub(crate) fn advance(&self, current: u32) -> bool {
            // AcqRel for `Subscriber::await_wake`; otherwise the fences FP and FK carry the proof.
            self.0
                .compare_exchange(current, current.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        }

        /// Sleeps while the word is `expected`; may wake for no reason.
        pub(crate) fn wait(&self, expected: u32, timeout: Option<Duration>) {
            futex::wait(&self.0, expected, timeout);
        }

        /// Wakes one who sleeps on the word.
        pub(crate) fn wake_one(&self) {
            futex::wake_one(&self.0);
        }

        /// Wakes at most so many who sleep on the word.
        pub(crate) fn wake_some(&self, most: u32) {
            futex::wake_some(&self.0, most);
        }

        /// Wakes everyone who sleeps on the word.
        pub(crate) fn wake_all(&self) {
            futex::wake_all(&self.0);
        }
    }
}

#[cfg(any(bips_loom, bips_shuttle))]
mod imp {
    use crate::sync::checker::sync::atomic::{AtomicU32, Ordering};
    use crate::sync::checker::sync::{Condvar, Mutex};
    use std::time::Duration;

    /// A futex word as the checker sees it: FUTEX_WAIT is compare-and-block under the lock of the kernel's bucket.
    /// A lost wake-up shows as a deadlock.
    #[derive(Debug, Default)]
    pub(crate) struct Word {
        value: AtomicU32,
        bucket: Mutex<()>,
        asleep: Condvar,
    }

    impl Word {
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.value.load(order)
        }

        pub(crate) fn store(&self, value: u32, order: Ordering) {
            self.value.store(value, order);
        }

        pub(crate) fn add(&self, order: Ordering) {
            self.value.fetch_add(1, order);
        }

        pub(crate) fn set(&self, bit: u32) -> u32 {
            self.value.fetch_or(bit, Ordering::Relaxed) | bit
        }

        pub(crate) fn advance(&self, current: u32) -> bool {
            self.value
                .compare_exchange(current, current.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        }

        pub(crate) fn wait(&self, expected: u32, _timeout: Option<Duration>) {
            let guard = self.bucket.lock().unwrap();
            if self.value.load(Ordering::Relaxed) == expected {
                drop(self.asleep.wait(guard).unwrap());
            }
        }

        pub(crate) fn wake_one(&self) {
            let _guard = self.bucket.lock().unwrap();
            self.asleep.notify_one();
        }

        /// Fewer than that sleep in any model.
        pub(crate) fn wake_some(&self, _most: u32) {
            self.wake_all();
        }

        pub(crate) fn wake_all(&self) {
            let _guard = self.bucket.lock().unwrap();
            self.asleep.notify_all();
        }
    }
}

pub(crate) use imp::Word;
