//! Every memory ordering of the protocol: its name, its strength, and the other end it pairs with.
//!
//! `docs/memory-model.md` has a row for each; a test compares the two. Under loom, `BIPS_WEAK=name` turns one
//! of them into `Relaxed` (a fence into nothing), and the model that exercises it must then fail.

use super::atomic::fence as raw_fence;
use std::sync::atomic::Ordering;

/// One row of the table.
#[derive(Debug)]
#[allow(dead_code, reason = "read by tests: the document and the weakening lane are checked against it")]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) strength: &'static str,
    pub(crate) pairs_with: &'static str,
    /// The loom model that fails when this one is weakened; empty where correctness does not rest on it alone.
    pub(crate) model: &'static str,
}

macro_rules! orderings {
    ($($name:ident = $strength:ident -> $pairs:literal, model $model:literal, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[inline(always)]
            #[allow(non_snake_case)]
            pub(crate) fn $name() -> Ordering {
                if weakened(stringify!($name)) { Ordering::Relaxed } else { Ordering::$strength }
            }
        )*
        #[allow(dead_code, reason = "read by tests")]
        pub(crate) const ORDERINGS: &[Row] = &[$(
            Row { name: stringify!($name), strength: stringify!($strength), pairs_with: $pairs, model: $model },
        )*];
    };
}

macro_rules! fences {
    ($($name:ident = $strength:ident -> $pairs:literal, model $model:literal, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            #[inline(always)]
            #[allow(non_snake_case)]
            pub(crate) fn $name() {
                if !weakened(stringify!($name)) {
                    strength::$strength();
                }
            }
        )*
        #[allow(dead_code, reason = "read by tests")]
        pub(crate) const FENCES: &[Row] = &[$(
            Row { name: stringify!($name), strength: stringify!($strength), pairs_with: $pairs, model: $model },
        )*];
    };
}

orderings! {
    C0 = Acquire -> "P3, P7", model "", "Consumer reads its cursor: sees what the producer wrote before it evicted or put out.";
    C1 = Acquire -> "P4", model "handover", "Consumer reads the stamp: the entry, the description and the data are whole.";
    C2 = Relaxed -> "C3, C9", model "", "Consumer marks the slot held; published to the producer by the move of the cursor behind it.";
    C3 = AcqRel -> "P1, P3, P7", model "evict", "Consumer whose cursor the producer may move too, to evict it or, where it may expel, to put it out, moves its cursor: releases the held bit, proves its copy of the entry whole.";
    C4 = Release -> "P2", model "", "Consumer takes back the bit of a frame it lost, evicted or put out.";
    C5 = Release -> "P2", model "handover", "Consumer gives a slot back: its reads are over.";
    C6 = AcqRel -> "P1", model "", "Keep-last consumer skips over frames it does not want.";
    C7 = Acquire -> "P5", model "", "Keep-last consumer reads how far the stream is; a hint, the stamp decides.";
    C8 = Acquire -> "P6", model "close", "Consumer reads the stream's state before the stamp.";
    C9 = Release -> "P1", model "handover", "Reliable consumer of a producer that expels nobody moves its cursor, which nobody else moves: releases the held bit.";
    C10 = Release -> "P1", model "", "Consumer takes no more frames: its last held bits come with it.";
    P1 = Acquire -> "C3, C6, C9, C10", model "handover", "Producer reads a cursor: a cursor that moved shows the held bit.";
    P2 = Acquire -> "C4, C5", model "handover", "Producer reads the held bits: what was given back is no longer read.";
    P3 = AcqRel -> "C0, C3", model "", "Producer evicts unread frames of a keep-last seat.";
    P4 = Release -> "C1", model "handover", "Producer stamps the entry: all of the frame is written.";
    P5 = Release -> "C7", model "", "Producer moves the tail.";
    P6 = Release -> "C8", model "", "Producer closes: everything published before is visible; the fence FP of the last publication says so too.";
    P7 = AcqRel -> "C0, C3", model "", "Producer puts a consumer out: takes what is unread away, leaves what it holds.";
    R1 = Release -> "R2", model "ready", "Whoever waited for the producer's device says that a frame published before is whole now.";
    R2 = Acquire -> "R1", model "ready", "Consumer reads how far such a frame is: if it is whole, so is what it reads.";
    B1 = Release -> "B2", model "", "Whoever frees a slot rings the bell.";
    B2 = Acquire -> "B1", model "", "The hungry producer reads the bell before it looks again.";
}

fences! {
    FP = SeqCst -> "FK", model "park", "Producer, between stamp or state and reading `parked`.";
    FK = SeqCst -> "FP", model "park", "Consumer, between `parked = 1` and looking again.";
    FF = AfterRmw -> "FH", model "hungry", "Whoever freed a slot, between freeing (a read-modify-write) and reading `hungry`.";
    FC = SeqCst -> "FH", model "", "Consumer that resigns, between letting go and reading `hungry`.";
    FH = SeqCst -> "FF, FC", model "hungry", "Producer, between `hungry = 1` and looking again.";
    FE = Release -> "C1", model "", "Producer, between stamp 0 and new fields: a reader of new fields can't see the old stamp.";
}

/// What the fences are made of.
#[allow(non_snake_case)]
mod strength {
    use super::{Ordering, raw_fence};

    #[inline(always)]
    pub(super) fn SeqCst() {
        raw_fence(Ordering::SeqCst);
    }

    #[inline(always)]
    pub(super) fn Release() {
        raw_fence(Ordering::Release);
    }

    /// A SeqCst fence that directly follows a read-modify-write of this thread. On x86-64 that instruction is
    /// a full barrier by itself (it is locked), so only the compiler must be kept from reordering.
    #[inline(always)]
    pub(super) fn AfterRmw() {
        #[cfg(all(target_arch = "x86_64", not(bips_loom)))]
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        #[cfg(not(all(target_arch = "x86_64", not(bips_loom))))]
        raw_fence(Ordering::SeqCst);
    }
}

#[cfg(not(bips_loom))]
#[inline(always)]
const fn weakened(_: &str) -> bool {
    false
}

#[cfg(bips_loom)]
fn weakened(name: &str) -> bool {
    static WEAK: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    WEAK.get_or_init(|| std::env::var("BIPS_WEAK").ok()).as_deref() == Some(name)
}
