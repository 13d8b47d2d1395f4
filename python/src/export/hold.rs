//! What keeps the memory valid that Python gets.

use bips::Content;
use bips_dlpack::Lines;
use std::sync::Arc;

/// Memory with its layout and its [`Hold`].
pub(crate) type Tensor = bips_dlpack::Tensor<Hold>;

type PrivateView = bips::PrivateView<Arc<bips::Frame>>;

/// It is only ever cloned and dropped, on any thread, without the interpreter.
#[derive(Clone)]
pub(crate) enum Hold {
    /// The lease of a received frame.
    Frame(#[allow(dead_code, reason = "held for its drop")] Arc<bips::Frame>),
    /// A slot being written, or written and published.
    Slot(#[allow(dead_code, reason = "held for its drop")] bips::SlotHold),
    /// A copy-on-write view of a frame, which holds the lease itself.
    Private(#[allow(dead_code, reason = "held for its drop")] Arc<PrivateView>),
    /// A copy in this process's own memory.
    Owned(#[allow(dead_code, reason = "held for its drop")] Lines),
}

impl Hold {
    /// The memory of a received frame.
    pub(crate) fn frame(frame: &Arc<bips::Frame>) -> Tensor {
        // SAFETY: the hold is a reference to the frame.
        unsafe { Tensor::of_frame(frame, Self::Frame(Arc::clone(frame))) }
    }

    /// The memory of a slot that is being written; `content` is what the stream's frames hold.
    pub(crate) fn slot(hold: bips::SlotHold, content: &Content) -> Tensor {
        let data = hold.as_mut_ptr();
        // SAFETY: the hold keeps the slot, which has room for the stream's content, mapped to write.
        unsafe { Tensor::of_content(data, content, Self::Slot(hold)) }
    }

    /// A copy-on-write view of a frame, laid out as the frame is.
    ///
    /// # Errors
    /// `Unsupported` by memory that has none, `InvalidArgument` while the frame has one already.
    pub(crate) fn private(frame: Arc<bips::Frame>) -> bips::Result<Tensor> {
        let view = Arc::new(PrivateView::of(frame)?);
        let (data, content) = (view.as_mut_ptr(), *view.frame().content());
        // SAFETY: the view has all bytes of the frame's slot, mapped to write, as long as it lives.
        Ok(unsafe { Tensor::of_content(data, &content, Self::Private(view)) })
    }
}
