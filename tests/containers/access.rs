//! Who may come in, with and without user namespaces.

use crate::common::skip::skip;
use crate::container::{Container, Side};
use crate::roles::{BATCH, Place};
use crate::site::{GROUP, Site, is_root};
use nix::unistd::{Gid, chown};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

pub(crate) fn owner_means_nobody_in_another_user_namespace(site: &Site) {
    if !is_root() {
        skip("only root can make containers of two users");
        return;
    }
    let mut producer = site.start(Container::PRODUCER, "produces", 0);
    producer.tell("owner");
    producer.expect("ready");
    // Not even with permission for the file: the socket lies open to it here, and the producer refuses.
    let socket = site.shared.join("a/cam.sock");
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let refused = site.start(Container::CONSUMER, "is refused", 0);
    refused.finish();
    producer.tell("end");
    producer.finish();
}

/// Two users of the host with one group in common.
pub(crate) fn a_group_meets_without_user_namespaces(site: &Site) {
    if !is_root() {
        skip("only root can make containers of two users");
        return;
    }
    chown(&site.shared, None, Some(Gid::from_raw(GROUP.1))).unwrap();
    fs::set_permissions(&site.shared, Permissions::from_mode(0o3770)).unwrap();
    let mut producer = site.start(Container::PRODUCER.with_common_users(), "produces", 1);
    producer.tell(&format!("group:{}", GROUP.0));
    producer.expect("ready");
    let socket = fs::metadata(site.shared.join("a/cam.sock")).unwrap();
    assert_eq!((socket.uid(), socket.gid()), (Side::Producer.outside(), GROUP.1));
    assert_eq!(socket.mode() & 0o777, 0o660);
    let mut consumer = site.start(Container::CONSUMER.with_common_users(), "consumes", 0);
    Place::assert_apart(&[&producer.place, &consumer.place], false);
    producer.tell("publish");
    producer.expect("published");
    consumer.expect("received");
    // Without user namespaces each sees the other as who it is.
    let info = bips::query("a/cam", Some(&site.shared)).unwrap();
    let seen = &info.consumers[0];
    assert_eq!((seen.uid, seen.pid), (Side::Consumer.outside(), 0));
    // All that tells who it is.
    assert!(seen.label.contains('@') && seen.who().ends_with("in another container"), "{seen:?}");
    producer.tell("end");
    consumer.expect(&BATCH.to_string());
    consumer.finish();
    producer.finish();
}

pub(crate) fn a_producer_needs_a_mount_it_can_write_to(site: &Site) {
    let container = Container { writes: false, ..Container::PRODUCER };
    let mut refused = site.start(container, "may not write", 0);
    println!("{}", refused.hear());
    refused.finish();
}
