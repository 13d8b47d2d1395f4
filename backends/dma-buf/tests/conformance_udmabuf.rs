//! The contract, kept by memfds with dma-bufs over them.

bips_conformance::suite!(bips_dma_buf::Udmabuf::new(), lane "dma-buf");
