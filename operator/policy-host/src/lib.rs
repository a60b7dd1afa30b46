//! Runs placement and startup policies as WebAssembly components.
