//! Producer and consumer in two containers that share one directory and nothing else.
//!
//! Run by `cargo xtask test containers podman`, which tries first whether there can be containers, and makes what
//! these tests need; others ignore them. Every case runs under each engine: bubblewrap makes the namespaces alone;
//! podman adds a seccomp profile, control groups, and an image of its own.

#![cfg(not(any(bips_loom, bips_shuttle)))]

mod access;
mod bubblewrap;
#[path = "../common/mod.rs"]
mod common;
mod container;
mod deaths;
mod limits;
mod pauses;
mod podman;
mod roles;
mod site;
mod streams;

#[test]
fn child_process() {
    common::process::child(roles::ROLES);
}

/// One module of tests for each engine, named after it, so that a lane can choose by it.
macro_rules! run {
    ($engine:ident under $constructor:path: $($room:ident::$case:ident),+ $(,)?) => {
        mod $engine {
            $(
                #[test]
                #[ignore = "for cargo xtask test containers podman"]
                fn $case() {
                    crate::$room::$case(&crate::site::Site::of($constructor));
                }
            )+
        }
    };
}

/// The same, with the cases that need no more than namespaces first.
macro_rules! run_all {
    ($engine:ident under $constructor:path: $($room:ident::$case:ident),* $(,)?) => {
        run!($engine under $constructor:
            site::a_container_can_be_made,
            streams::from_rust_to_rust,
            streams::from_rust_to_python,
            streams::from_python_to_rust,
            streams::out_of_a_container,
            deaths::a_killed_consumer_costs_the_others_nothing,
            deaths::a_killed_producer_is_followed_by_the_next,
            access::owner_means_nobody_in_another_user_namespace,
            access::a_group_meets_without_user_namespaces,
            access::a_producer_needs_a_mount_it_can_write_to,
            $($room::$case,)*
        );
    };
}

mod under {
    run_all!(bubblewrap under crate::site::Engine::Bubblewrap:);
    run_all!(podman under crate::site::Engine::Podman:
        pauses::a_paused_consumer_is_seated_and_goes_on,
        pauses::a_paused_producer_cannot_be_joined,
        limits::a_pool_larger_than_the_limit_is_refused_in_words,
        limits::a_consumer_does_not_pay_for_the_pool,
    );
}
