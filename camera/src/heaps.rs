//! Which memory a camera could use that needs it in one piece.

use std::fs;

const WHERE: &str = "/dev/dma_heap";

/// Names of heaps whose buffers are in one piece.
const IN_ONE_PIECE: [&str; 3] = ["cma", "reserved", "carveout"];

/// The next step for somebody whose camera refuses scattered memory.
pub(crate) fn advice() -> String {
    let listed = fs::read_dir(WHERE).into_iter().flatten().flatten();
    let mut heaps: Vec<_> = listed.map(|heap| heap.file_name().to_string_lossy().into_owned()).collect();
    heaps.sort();
    format!("{}; or --memory dma-buf, the buffers that the driver makes itself", advise(&heaps))
}

fn advise(heaps: &[String]) -> String {
    let whole: Vec<_> =
        heaps.iter().filter(|heap| IN_ONE_PIECE.iter().any(|word| heap.contains(word))).collect();
    match (whole.first(), heaps) {
        (Some(heap), _) => format!("use --memory dma-heap:{heap}"),
        (None, []) => format!(
            "use a dma-heap of contiguous memory, --memory dma-heap:linux,cma; this machine has no heaps ({WHERE}): boot a \
             kernel with CONFIG_DMABUF_HEAPS_CMA, in a container pass {WHERE}"
        ),
        (None, heaps) => format!(
            "use a dma-heap of contiguous memory, --memory dma-heap:linux,cma or dma-heap:reserved; this machine has only {}: \
             boot a kernel with CONFIG_DMABUF_HEAPS_CMA and cma=64M",
            heaps.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_named_that_would_do() {
        let advised = |heaps: &[&str]| advise(&heaps.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(advised(&["linux,cma", "system"]), "use --memory dma-heap:linux,cma");
        assert_eq!(advised(&["reserved", "system"]), "use --memory dma-heap:reserved");
        assert!(advised(&["system"]).contains("has only system"));
        assert!(advised(&[]).contains("no heaps"));
    }
}
