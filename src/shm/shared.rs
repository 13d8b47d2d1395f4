//! A structure that lives in memory shared with other processes.

#[cfg(any(bips_loom, bips_shuttle))]
pub(crate) use std::sync::Arc as Shared;

#[cfg(not(any(bips_loom, bips_shuttle)))]
pub(crate) use imp::Shared;

#[cfg(not(any(bips_loom, bips_shuttle)))]
mod imp {
    use crate::shm::{Bell, Board, Seat};
    use crate::sys::Segment;
    use std::fmt;
    use std::ops::Deref;
    use std::ptr::NonNull;
    use std::sync::Arc;

    /// Structures that may be laid over shared memory.
    ///
    /// # Safety
    /// `repr(C)`, made of atomics only, valid for every bit pattern.
    pub(crate) unsafe trait Overlay {}
    // SAFETY: repr(C), fields are atomics and arrays of them.
    unsafe impl Overlay for Board {}
    // SAFETY: as above.
    unsafe impl Overlay for Seat {}
    // SAFETY: as above.
    unsafe impl Overlay for Bell {}

    /// A `T` at the start of a segment, which it keeps mapped.
    pub(crate) struct Shared<T> {
        at: NonNull<T>,
        segment: Arc<Segment>,
    }

    // SAFETY: T is made of atomics (Overlay), which any thread may use; the segment stays mapped.
    unsafe impl<T: Overlay> Send for Shared<T> {}
    // SAFETY: as above.
    unsafe impl<T: Overlay> Sync for Shared<T> {}

    impl<T: Overlay> Shared<T> {
        /// Lays `T` over the start of `segment`. A consumer's board is mapped read-only: storing to it is a bug
        /// that faults, which is the point.
        pub(crate) fn over(segment: Arc<Segment>) -> Self {
            assert!(
                segment.len() >= size_of::<T>(),
                "segments are sized or checked before they are overlaid"
            );
            Self { at: segment.start().cast(), segment }
        }

        pub(crate) fn segment(&self) -> &Segment {
            &self.segment
        }

        /// Makes it all zeros, as if it were new.
        #[cfg(feature = "testing")]
        pub(crate) fn clear(&self) {
            // SAFETY: size_of::<T>() bytes are mapped there, for writing by whoever made the segment; atomics hold any
            // bit pattern. No thread but the test's own looks at them.
            unsafe { self.at.as_ptr().cast::<u8>().write_bytes(0, size_of::<T>()) };
        }

        /// The same memory as words, for a test that plays the peer: that may write any of them at any time.
        #[cfg(feature = "testing")]
        pub(crate) fn words(&self) -> &[std::sync::atomic::AtomicU64] {
            let (words, len) = (self.at.cast().as_ptr(), size_of::<T>() / 8);
            // SAFETY: the page-aligned start of a mapping of at least size_of::<T>() bytes that `segment` keeps;
            // atomics hold any bit pattern. Fields of 32 bits are seen as halves of words: no thread but the
            // test's own looks at them.
            unsafe { std::slice::from_raw_parts(words, len) }
        }
    }

    impl<T> Deref for Shared<T> {
        type Target = T;
        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: `at` is the page-aligned start of a mapping of at least size_of::<T>() bytes (checked in
            // `over`) that `segment` keeps; T is valid for every bit pattern and only has atomics (Overlay).
            unsafe { self.at.as_ref() }
        }
    }

    impl<T> Clone for Shared<T> {
        fn clone(&self) -> Self {
            Self { at: self.at, segment: self.segment.clone() }
        }
    }

    impl<T> fmt::Debug for Shared<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Shared({:p})", self.at)
        }
    }
}
