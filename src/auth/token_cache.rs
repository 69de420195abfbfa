//! Tokens that were believed: one that comes again costs a hash instead of a signature.
//!
//! The platforms send many notifications under one token. What is remembered is known by the SHA-256 of the whole token and is good
//! until the token's `exp`, without the skew that is otherwise allowed, and only as long as the very key sets are in force by which it
//! was believed: a refresh of the keys, whatever it brought, forgets all. Bounded in two generations: when the younger one is full, the
//! older one goes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest;
use jiff::Timestamp;

use super::{Admission, key_source::KeySet};

/// The key sets in force; `None` where there is none that may be believed.
pub(super) type Sets = Vec<Option<Arc<KeySet>>>;

/// What a token is known by: the SHA-256 of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TokenKey([u8; 32]);

impl TokenKey {
    pub(super) fn of(token: &str) -> Self {
        Self(digest::digest(&digest::SHA256, token.as_bytes()).as_ref().try_into().unwrap_or_default())
    }
}

/// The tokens that one receiver has believed.
#[derive(Debug)]
pub(super) struct TokenCache {
    /// Of one generation.
    capacity: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<TokenKey, Remembered>,
    old: HashMap<TokenKey, Remembered>,
}

#[derive(Clone, Debug)]
struct Remembered {
    admission: Admission,
    sets: Sets,
    /// When it was believed; a clock that was set back makes it new.
    since: Timestamp,
    until: Timestamp,
}

impl TokenCache {
    /// A cache of at most so many tokens; of none, if that is 0.
    pub(super) fn new(tokens: usize) -> Self {
        Self { capacity: tokens.div_ceil(2), generations: Mutex::default() }
    }

    /// What this token was believed to say, if it still is.
    pub(super) fn get(&self, token: &TokenKey, sets: &Sets, now: Timestamp) -> Option<Admission> {
        if self.capacity == 0 {
            return None;
        }
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let Generations { young, old } = &mut *generations;
        let known = young.get(token).or_else(|| old.get(token))?;
        if !known.is_good(sets, now) {
            young.remove(token);
            old.remove(token);
            return None;
        }
        let admission = known.admission.clone();
        if young.len() < self.capacity
            && let Some(known) = old.remove(token)
        {
            young.insert(*token, known);
        }
        Some(admission)
    }

    /// Remembers a token that was believed at `now`, by these sets.
    pub(super) fn put(&self, token: TokenKey, admission: &Admission, sets: Sets, now: Timestamp) {
        let Some(until) = admission.expires_at().filter(|until| self.capacity > 0 && *until > now) else { return };
        let known = Remembered { admission: admission.clone(), sets, since: now, until };
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= self.capacity {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(token, known);
    }
}

impl Remembered {
    fn is_good(&self, sets: &Sets, now: Timestamp) -> bool {
        let same = |(one, other): (&Option<Arc<KeySet>>, &Option<Arc<KeySet>>)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        (self.since..self.until).contains(&now) && self.sets.len() == sets.len() && self.sets.iter().zip(sets).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn admission(expires: i64) -> Admission {
        Admission {
            receiver: "/api/calls".into(),
            issuer: "issuer".into(),
            audience: "audience".into(),
            tenant: None,
            key_id: "key".into(),
            expires_at: Some(at(expires)),
            token: None,
        }
    }

    fn numbered(n: i32) -> TokenKey {
        TokenKey::of(&n.to_string())
    }

    fn sets() -> Sets {
        vec![Some(Arc::new(KeySet::of_no_keys())), None]
    }

    #[test]
    fn a_token_is_known_until_it_expires_and_while_the_keys_are_the_same() {
        let (cache, sets) = (TokenCache::new(10), sets());
        cache.put(TokenKey::of("token"), &admission(100), sets.clone(), at(50));
        assert_eq!(cache.get(&TokenKey::of("token"), &sets, at(99)), Some(admission(100)));
        assert_eq!(cache.get(&TokenKey::of("another"), &sets, at(99)), None);
        let others = [super::tests::sets(), vec![None, None], sets.iter().take(1).cloned().collect()];
        for other in others {
            cache.put(TokenKey::of("token"), &admission(100), sets.clone(), at(50));
            assert_eq!(cache.get(&TokenKey::of("token"), &other, at(60)), None);
            assert_eq!(cache.get(&TokenKey::of("token"), &sets, at(60)), None, "it is forgotten");
        }
        for when in [100, 49] {
            cache.put(TokenKey::of("token"), &admission(100), sets.clone(), at(50));
            assert_eq!(cache.get(&TokenKey::of("token"), &sets, at(when)), None, "{when}");
        }
        cache.put(TokenKey::of("old"), &admission(40), sets.clone(), at(50));
        assert_eq!(cache.get(&TokenKey::of("old"), &sets, at(50)), None, "the skew lets it in, but not into the cache");
    }

    #[test]
    fn no_more_are_known_than_may_be_and_those_that_come_again_stay() {
        let (cache, sets) = (TokenCache::new(10), sets());
        for n in 0..1000 {
            cache.put(numbered(n), &admission(100), sets.clone(), at(50));
            assert_eq!(cache.get(&numbered(n), &sets, at(50)), Some(admission(100)));
        }
        let known = (0..1000).filter(|n| cache.get(&numbered(*n), &sets, at(50)).is_some()).count();
        assert!((5..=10).contains(&known), "{known}");
        let none = TokenCache::new(0);
        none.put(TokenKey::of("token"), &admission(100), sets.clone(), at(50));
        assert_eq!(none.get(&TokenKey::of("token"), &sets, at(50)), None);
    }
}
