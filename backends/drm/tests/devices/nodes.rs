//! Which nodes can do what, and who may open them.

use crate::common::node;
use crate::{backend, image, in_role, plan, said};
use bips::{Backend, Content, ErrorKind, Requirements, Usage};
use bips_drm::{Drm, Gbm, nodes};
use std::os::unix::process::CommandExt;

fn bytes(backend: &dyn Backend) -> bips::Error {
    let content = Content::bytes(4096).unwrap();
    let wanted = Requirements { slots: 2, ..Requirements::of(content) };
    backend.plan(&wanted).expect_err("no such node, or not for this")
}

#[test]
fn the_chosen_one_has_a_display_and_says_so() {
    if backend("drm", "virtio_gpu").is_none() {
        return;
    }
    let card = node("virtio_gpu", false);
    let description = Drm::new().info().description.clone();
    assert!(description.contains(&format!("dumb buffers of {card} ")), "{description}");
    assert!(description.contains("the first card with a display"), "{description}");
    assert!(nodes().iter().all(|node| description.contains(&node.name)), "{description}");
}

#[test]
fn render_nodes_make_no_dumb_buffers() {
    if backend("drm", "virtio_gpu").is_none() {
        return;
    }
    let render = node("virtio_gpu", true);
    let error = bytes(&Drm::named(&render).unwrap());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("is a render node"), "{error}");
    let error = bytes(&Gbm::named(&render).unwrap());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("use a card's, as in gbm:card0"), "{error}");
}

#[test]
fn a_node_that_is_not_there() {
    if backend("drm", "vgem").is_none() {
        return;
    }
    let error = bytes(&Drm::named("card99").unwrap());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("there is no node \"card99\""), "{error}");
    assert!(error.to_string().contains(&node("vgem", false)), "{error}");
}

#[test]
fn a_display_is_not_promised_where_there_is_none() {
    if let Some(vgem) = backend("drm", "vgem") {
        let error = plan(&vgem, image("AR24", 640, 480), Usage::DISPLAY).unwrap_err();
        assert!(error.to_string().contains("(vgem) drives no display"), "{error}");
    }
    if let Some(virtio) = backend("drm", "virtio_gpu") {
        plan(&virtio, image("AR24", 640, 480), Usage::DISPLAY).unwrap();
    }
}

#[test]
fn who_may_not_open_a_node_learns_whose_it_is() {
    if backend("drm", "vgem").is_none() {
        return;
    }
    let card = node("vgem", false);
    let mut child = in_role("plan", &card);
    let said = said(child.uid(65534).gid(65534).spawn().expect("root may become nobody"));
    assert!(said.contains("AccessDenied"), "{said}");
    assert!(said.contains(&format!("user 65534 may not open /dev/dri/{card} (owner root, group ")), "{said}");
    assert!(said.contains(&format!("--device /dev/dri/{card}")), "{said}");
}

pub(crate) fn plan_of(card: &str) {
    let error = bytes(&Drm::named(card).unwrap());
    println!("{:?}: {error}", error.kind());
}
