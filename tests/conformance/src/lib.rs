//! The contract of a bips memory backend, as cases.
//!
//! A backend runs all of them with one line in its tests:
//!
//! ```ignore
//! bips_conformance::suite!(bips_memfd::Memfd::new());
//! ```
//!
//! Memory that needs a device names the lane that tests it; where a machine has no such device, the cases are left out
//! with the reason, unless `BIPS_REQUIRE` names the lane or the kind:
//!
//! ```ignore
//! bips_conformance::suite!(bips_dma_buf::DmaHeap::new(), lane "dma-buf");
//! ```
//!
//! or takes [`cases`] as data and runs them in a program of its own.
//!
//! Cases that need another process run the program again, as a child that plays one role: [`child`].

mod allocation;
mod process;
mod sharing;
#[path = "../../common/skip.rs"]
mod skip;

pub use allocation::*;
pub use process::*;
pub use sharing::*;

use bips::{Backend, Content, ErrorKind, Layout, Requirements};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The backend under test.
pub type Subject = Arc<dyn Backend>;

/// One case of the contract.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its function's name.
    pub name: &'static str,
    /// Panics where the backend breaks the contract.
    pub run: fn(Subject),
}

/// The contract, for those who run it other than as tests: `suite!` has the same list.
pub fn cases() -> &'static [Case] {
    every_case!(data)
}

/// Makes a test of every case.
#[macro_export]
macro_rules! suite {
    ($backend:expr) => {
        $crate::suite!($backend, lane "");
    };
    ($backend:expr, lane $lane:literal) => {
        $crate::every_case!(tests $backend, $lane);

        /// Plays a role in another case's child process; in a plain test run it has none.
        #[test]
        fn child_process() {
            $crate::child(std::sync::Arc::new($backend));
        }
    };
}

/// The one list of cases, as tests or as data.
#[doc(hidden)]
#[macro_export]
macro_rules! every_case {
    ($($form:tt)+) => {
        $crate::make_of_cases! { $($form)+;
            introduces_itself, capabilities_come_from_trials, plans_whole_pages, keeps_what_must_be_exact, plan_says_why_not,
            allocates_distinct_zeroed_slots, allocates_one_and_many, too_much_memory_is_an_error, leaves_nothing_behind,
            imports_what_it_exports, writes_are_seen_at_once, refuses_foreign_handles, writable_only_when_planned,
            private_views_stay_private, frames_reach_another_process, a_consumer_that_writes_dies_alone
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! make_of_cases {
    (tests $backend:expr, $lane:literal; $($case:ident),*) => {$(
        #[test]
        fn $case() {
            let backend: $crate::Subject = std::sync::Arc::new($backend);
            if $lane.is_empty() || $crate::is_here(&backend, $lane) {
                $crate::$case(backend);
            }
        }
    )*};
    (data; $($case:ident),*) => {
        &[$($crate::Case { name: stringify!($case), run: $crate::$case }),*]
    };
}

/// Whether this machine has the device that the memory needs. Says so, if not; panics, if it is required.
#[track_caller]
pub fn is_here(backend: &Subject, lane: &str) -> bool {
    let content = Content::bytes(4096).expect("small");
    match backend.plan(&requirements(content, 1, false)) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::AccessDenied) => {
            left_out(&[lane, &backend.info().kind], &error.to_string());
            false
        }
        _ => true,
    }
}

/// Says that the calling test is left out. Panics where `BIPS_REQUIRE` names one of `names`.
#[track_caller]
pub fn left_out(names: &[&str], reason: &str) {
    let required = std::env::var("BIPS_REQUIRE").unwrap_or_default();
    let required = required.split(',').map(str::trim).find(|name| names.contains(name));
    assert!(required.is_none(), "{} is required by BIPS_REQUIRE, but {reason}", required.unwrap_or_default());
    skip::skip(reason);
}

fn requirements(content: Content, slots: u32, writable: bool) -> Requirements {
    Requirements { slots, writable, ..Requirements::of(content) }
}

fn plan(backend: &Subject, bytes: u64, writable: bool) -> Layout {
    let content = Content::bytes(bytes).expect("a size a machine can have");
    backend.plan(&requirements(content, 4, writable)).expect("every backend plans plain bytes for the CPU")
}

/// A directory of the case's own, gone when it ends.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bips-conformance-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directories can be made");
        Self(dir)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
