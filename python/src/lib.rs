//! `bips._native`: the Python package's Rust half. What programs import is `bips/__init__.py`.
//!
//! | file | what |
//! |---|---|
//! | `producer.rs` `writable.rs` | making frames |
//! | `consumer.rs` `frame.rs` `view.rs` | receiving them |
//! | `export/` | how memory leaves: DLPack, torch, buffer protocol; all `unsafe` is there |
//! | `facts.rs` | `streams`, `info`, `doctor`, and facts as dictionaries |
//! | `wait.rs` `turn.rs` `fork.rs` | waiting with the GIL released, taking turns, fork |
//! | `args.rs` `errors.rs` | from and to Python |

mod args;
mod consumer;
mod errors;
mod export;
mod facts;
mod fork;
mod frame;
mod producer;
mod turn;
mod view;
mod wait;
mod writable;

use consumer::Consumer;
use frame::Frame;
use producer::Producer;
use pyo3::PyTypeInfo;
use pyo3::prelude::*;
use view::View;
use writable::WritableFrame;

/// Does nothing: the floor under every timing of this module (`benches/receive.py`).
#[pyfunction]
fn _nothing() {}

#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Producer>()?;
    module.add_class::<WritableFrame>()?;
    module.add_class::<Consumer>()?;
    module.add_class::<Frame>()?;
    module.add_class::<View>()?;
    module.add_function(wrap_pyfunction!(facts::streams, module)?)?;
    module.add_function(wrap_pyfunction!(facts::info, module)?)?;
    module.add_function(wrap_pyfunction!(facts::doctor, module)?)?;
    module.add_function(wrap_pyfunction!(fork::_after_fork, module)?)?;
    module.add_function(wrap_pyfunction!(producer::_close_producers, module)?)?;
    module.add_function(wrap_pyfunction!(_nothing, module)?)?;

    // The classic names of the same four calls.
    alias::<Producer>(module, "pull", "acquire")?;
    alias::<WritableFrame>(module, "push", "publish")?;
    alias::<Consumer>(module, "pull", "receive")?;
    alias::<Frame>(module, "push", "release")
}

fn alias<T: PyTypeInfo>(module: &Bound<'_, PyModule>, name: &str, of: &str) -> PyResult<()> {
    let class = module.py().get_type::<T>();
    class.setattr(name, class.getattr(of)?)
}
