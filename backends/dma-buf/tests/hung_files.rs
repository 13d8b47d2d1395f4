//! Nobody who is given a file asks its file system what it is: that may never answer. The broker's part is among its tests.

mod hung;

use bips::{ErrorKind, ForeignBuffer, Producer, Registry};
use bips_dma_buf::{DmaBuf, Foreign};
use hung::Hung;
use std::sync::Arc;

#[test]
fn no_dma_buf() {
    let Some(hung) = Hung::mount() else { return };
    let error = hung.unasked(|file| DmaBuf::new(file).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("no dma-buf: it is some other file"), "{error}");
}

#[test]
fn none_to_adopt() {
    let Some(hung) = Hung::mount() else { return };
    let error = hung.unasked(|file| {
        let registry = Registry::new().with(Arc::new(Foreign::new()));
        let buffers = vec![ForeignBuffer::dma_buf(file, 0, 4096)];
        Producer::adopt("hung", buffers).registry(registry).bytes(100).create().unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("no dma-buf: it is some other file"), "{error}");
}

#[test]
fn no_memfd_to_adopt() {
    let Some(hung) = Hung::mount() else { return };
    let error = hung.unasked(|file| {
        let registry = Registry::new().with(Arc::new(bips_memfd::Memfd::new()));
        let buffers = vec![ForeignBuffer::memfd(file, 0, 4096)];
        Producer::adopt("hung-memfd", buffers).registry(registry).bytes(100).create().unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("it is no memfd"), "{error}");
}
