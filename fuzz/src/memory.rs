//! How much may be allocated for so much input.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most bytes that may be held at any moment of a run, beyond those that were held before.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Whatever the input.
    pub fixed: usize,
    /// For each of its bytes.
    pub per_byte: usize,
}

impl Bound {
    /// Runs the code under test on an input of `length` bytes.
    ///
    /// # Panics
    /// If it holds more than that.
    pub fn holds<T>(self, length: usize, run: impl FnOnce() -> T) -> T {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let done = run();
        let held = ALLOCATOR.peak_usage().saturating_sub(before);
        let allowed = self.fixed + self.per_byte * length;
        assert!(held <= allowed, "{held} bytes were held for an input of {length}: {allowed} are allowed");
        done
    }
}
