//! How many may follow at the same moment.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::http::problem::Problem;

/// Who follows now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Followers {
    inside: Arc<Mutex<HashMap<String, usize>>>,
    in_all: usize,
    per_token: usize,
}

/// The place of one of them, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    followers: Followers,
    token: String,
}

impl Followers {
    /// So many in all, and so many for each token.
    #[must_use]
    pub fn new(in_all: usize, per_token: usize) -> Self {
        Self { inside: Arc::default(), in_all, per_token }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    pub(super) fn enter(&self, token: &str) -> Result<Place, Problem> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if inside.values().sum::<usize>() >= self.in_all {
            return Err(Problem::TooManyFollowers(format!("at most {} follow at the same moment (feed.followers)", self.in_all)));
        }
        let of_token = inside.entry(token.to_owned()).or_default();
        if *of_token >= self.per_token {
            let why = format!("at most {} follow with one token (feed.followers_per_token)", self.per_token);
            return Err(Problem::TooManyFollowers(why));
        }
        *of_token += 1;
        Ok(Place { followers: self.clone(), token: token.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.followers.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_token) = inside.get_mut(&self.token) {
            *of_token -= 1;
            if *of_token == 0 {
                inside.remove(&self.token);
            }
        }
    }
}
