//! The contract, kept by memory of a dma-heap.

bips_conformance::suite!(bips_dma_buf::DmaHeap::new(), lane "dma-buf");
