//! Ids that nobody could tell from the platform's own, the same ones for the same seed.

use uuid::Builder;

/// Where ids come from.
#[derive(Clone, Debug)]
pub struct Ids(fastrand::Rng);

impl Ids {
    /// The ids of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A GUID: lower case, with dashes.
    pub fn guid(&mut self) -> String {
        Builder::from_random_bytes(self.0.u128(..).to_be_bytes()).into_uuid().to_string()
    }
}
