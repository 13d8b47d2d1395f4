//! One container: what it may do and who is in it.

use crate::common::eventually;
use crate::common::process::Peer;
use crate::podman;
use crate::roles::Place;
use crate::site::Engine;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

/// What a container is made like. All have a read-only root, no capabilities and no network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Container {
    pub(crate) side: Side,
    /// Whether it has a user namespace of its own; else it and all others see the host's users.
    pub(crate) own_users: bool,
    pub(crate) language: Language,
    /// Whether the shared directory is mounted writable.
    pub(crate) writes: bool,
    /// Limit of its memory in MiB.
    pub(crate) memory: Option<u32>,
}

/// Which user it is, in and outside the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    Python,
}

impl Side {
    /// Its user in a namespace of its own.
    pub(crate) fn inside(self) -> u32 {
        match self {
            Self::Producer => 1000,
            Self::Consumer => 2000,
        }
    }

    /// First of its users as the host sees them, and its user where there is no namespace.
    pub(crate) fn outside(self) -> u32 {
        match self {
            Self::Producer => 100_000,
            Self::Consumer => 200_000,
        }
    }
}

impl Language {
    pub(crate) fn is_python(self) -> bool {
        self == Self::Python
    }
}

impl Container {
    pub(crate) const PRODUCER: Self =
        Self { side: Side::Producer, own_users: true, language: Language::Rust, writes: true, memory: None };

    /// Its mount of the shared directory is read-only.
    pub(crate) const CONSUMER: Self = Self { side: Side::Consumer, writes: false, ..Self::PRODUCER };

    pub(crate) fn with_common_users(self) -> Self {
        Self { own_users: false, ..self }
    }

    pub(crate) fn speaking(self, language: Language) -> Self {
        Self { language, ..self }
    }

    pub(crate) fn limited_to(self, mib: u32) -> Self {
        Self { memory: Some(mib), ..self }
    }
}

/// A container that runs, and the peer in it; both are gone when the test is done with it.
pub(crate) struct Guest {
    engine: Engine,
    peer: Peer,
    /// Where podman writes the container's id.
    id: PathBuf,
    pub(crate) place: Place,
    over: bool,
}

impl Guest {
    #[track_caller]
    pub(crate) fn new(engine: Engine, peer: Peer, id: PathBuf) -> Self {
        let mut guest = Self { engine, peer, id, place: Place::default(), over: false };
        guest.place = Place::parse(&guest.peer.hear());
        guest.place.assert_confined(engine);
        guest
    }

    fn id(&self) -> String {
        std::fs::read_to_string(&self.id).expect("podman has written the container's id")
    }

    /// kill -9 of the container, and until it is gone.
    #[track_caller]
    pub(crate) fn kill(mut self) {
        match self.engine {
            // Whatever is inside dies with the process that made it.
            Engine::Bubblewrap => self.peer.kill(),
            Engine::Podman => {
                podman::tell(&["kill", "--signal", "KILL", &self.id()]);
                assert_eq!(self.peer.end().code(), Some(128 + 9), "it had ended by itself");
            }
        }
        self.over = true;
    }

    #[track_caller]
    pub(crate) fn pause(&self) {
        podman::tell(&["pause", &self.id()]);
        eventually("the container is paused", || self.state() == "paused");
    }

    #[track_caller]
    pub(crate) fn unpause(&self) {
        podman::tell(&["unpause", &self.id()]);
    }

    /// As the engine sees it.
    #[track_caller]
    pub(crate) fn state(&self) -> String {
        podman::tell(&["inspect", "--format", "{{.State.Status}}", &self.id()])
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        let status = self.peer.end();
        self.over = true;
        assert!(status.success(), "{status}; see its output above");
    }
}

impl Deref for Guest {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for Guest {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What is left of a failed test: podman's containers outlive the program that started them.
        if let (false, Engine::Podman, Ok(id)) = (self.over, self.engine, std::fs::read_to_string(&self.id)) {
            podman::remove(&id);
        }
    }
}
