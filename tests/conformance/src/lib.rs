//! The contract of a bips memory backend, as cases.
//!
//! A backend runs all of them with one line in its tests:
//!
//! ```ignore
//! bips_conformance::suite!(bips_memfd::Memfd::new());
//! ```
//!
//! Cases that need another process run the test program again, as a child that plays one role.

mod allocation;
mod process;
mod sharing;

pub use allocation::*;
pub use process::*;
pub use sharing::*;

use bips::{Backend, Content, Layout, Requirements, Usage};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The backend under test.
pub type Subject = Arc<dyn Backend>;

/// Makes a test of every case.
#[macro_export]
macro_rules! suite {
    ($backend:expr) => {
        $crate::suite!(@cases $backend;
            introduces_itself, capabilities_come_from_trials, plans_whole_pages, plan_says_why_not,
            allocates_distinct_zeroed_slots, allocates_one_and_many, too_much_memory_is_an_error, leaves_nothing_behind,
            imports_what_it_exports, writes_are_seen_at_once, refuses_foreign_handles, writable_only_when_planned,
            private_views_stay_private, frames_reach_another_process, a_consumer_that_writes_dies_alone
        );

        /// Plays a role in another case's child process; in a plain test run it has none.
        #[test]
        fn child_process() {
            $crate::child(std::sync::Arc::new($backend));
        }
    };
    (@cases $backend:expr; $($case:ident),*) => {$(
        #[test]
        fn $case() {
            $crate::$case(std::sync::Arc::new($backend));
        }
    )*};
}

fn requirements(content: Content, slots: u32, writable: bool) -> Requirements {
    Requirements { content, slots, usage: Usage::CPU, writable }
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
