//! Which request began which operation (rule 6).
//!
//! First by the id that the answer names: one answer can name two, and neither need be its own (the answer to a
//! `cancelMediaProcessing` can bear the id of the recording that it cancels), so the kinds must agree, or the operation's be
//! untold. Then by kind and tag, an untyped operation by its tag alone; last, likewise, with requests at which the platform itself
//! failed. Where requests and operations can be paired in one way only, they are; so they are where each operation can be that of
//! one request made before it, and what is left are requests that still wait. Else all of them are marked and name each other,
//! and nothing is guessed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Flag, HeldFact, HeldRoster, Lapse, Operation, UNTYPED, law, links, rosters::fulfilling};
use crate::domain::{
    ids::{NotificationId, OperationId, PlatformId},
    request::{HeldRequest, Via},
};

/// What notifications tell of one operation.
struct Piece<'a> {
    subject: &'a str,
    facts: Vec<&'a HeldFact>,
    kind: &'a str,
    contexts: BTreeSet<Option<PlatformId>>,
    ids: BTreeSet<&'a PlatformId>,
}

impl<'a> Piece<'a> {
    fn new(subject: &'a str, facts: Vec<&'a HeldFact>) -> Self {
        let told = facts.iter().filter_map(|held| held.fact.kind.as_deref());
        let kind = told.min_by_key(|kind| (*kind == UNTYPED, *kind)).unwrap_or(UNTYPED);
        let mut contexts: BTreeSet<_> = facts.iter().filter_map(|held| context(held.fact.context.as_deref())).map(Some).collect();
        if contexts.is_empty() {
            contexts.insert(None);
        }
        let ids = facts.iter().filter_map(|held| held.fact.operation_id.as_ref()).collect();
        Self { subject, facts, kind, contexts, ids }
    }

    /// Whether this request can have been before any of it.
    fn can_follow(&self, request: &HeldRequest) -> bool {
        request.facts.via == Via::Registered || self.is_behind(request)
    }

    fn is_behind(&self, request: &HeldRequest) -> bool {
        self.facts.first().is_some_and(|first| request.id.0 < first.id.0)
    }

    fn is_named_by(&self, request: &HeldRequest) -> bool {
        let named = |ids: &[PlatformId]| ids.iter().any(|id| self.ids.contains(id));
        let kinds_agree = self.kind == UNTYPED || self.kind == request.facts.kind;
        kinds_agree && request.answer.as_ref().is_some_and(|answer| named(&answer.facts.operation_ids))
    }

    fn is_like(&self, request: &HeldRequest) -> bool {
        let asked = context(request.facts.context.as_deref());
        let kinds_agree = self.kind == request.facts.kind || (self.kind == UNTYPED && asked.is_some());
        kinds_agree && self.contexts.contains(&asked)
    }
}

fn context(text: Option<&str>) -> Option<PlatformId> {
    PlatformId::parse(text?)
}

/// All that is held about the operations of one call.
#[derive(Clone, Debug, Default)]
pub struct CallFacts {
    /// What notifications tell of operations, by subject.
    pub subjects: BTreeMap<String, Vec<HeldFact>>,
    /// The words that the call was connected, in the order of their receipt: the end of the request that began it.
    pub connected: Vec<HeldFact>,
    /// Who was in the call and how.
    pub rosters: Vec<HeldRoster>,
    /// What was asked, in the order in which it was written down.
    pub requests: Vec<HeldRequest>,
}

impl CallFacts {
    /// The operations that they tell, each with its subject (that of its notifications; of one that is only asked for, its request),
    /// given how the call ended, if it did.
    #[must_use]
    pub fn told(&self, lapse: Option<&Lapse>) -> Vec<(String, Operation)> {
        let Self { subjects, connected, rosters, requests } = self;
        let pieces: Vec<Piece<'_>> = subjects
            .iter()
            .flat_map(|(subject, facts)| law::pieces(facts).into_iter().map(|facts| Piece::new(subject, facts)))
            .filter(|piece| !piece.facts.is_empty())
            .collect();
        let paired = pair(&pieces, requests);
        let shown = |request: Option<&HeldRequest>| request.and_then(|request| fulfilling(rosters, request));
        let told = pieces.iter().enumerate().filter_map(|(at, piece)| {
            let request = paired.of_piece.get(&at).and_then(|request| requests.get(*request));
            Some((piece.subject.to_owned(), request, law::operation(&piece.facts, request, shown(request), lapse)?))
        });
        let taken: BTreeSet<usize> = paired.of_piece.values().copied().collect();
        let asked = requests.iter().enumerate().filter(|(at, _)| !taken.contains(at));
        let begun = begun(connected, requests);
        let asked = asked.filter_map(|(at, request)| {
            let facts: Vec<&HeldFact> = begun.get(&at).copied().into_iter().collect();
            let told = law::operation(&facts, Some(request), shown(Some(request)), lapse)?;
            Some((format!("requests/{}", request.id), Some(request), told))
        });
        let mut all: Vec<links::Told<'_>> =
            told.chain(asked).map(|(subject, request, operation)| links::Told { subject, request, operation }).collect();
        mark_ambiguous(&mut all, &pieces, requests, &paired);
        links::link(&mut all);
        all.into_iter().map(|told| (told.subject, told.operation)).collect()
    }

    /// The same before these notifications came.
    #[must_use]
    pub fn without(&self, notifications: &BTreeSet<NotificationId>) -> Self {
        let mut before = self.clone();
        let is_old = |id: &NotificationId| !notifications.contains(id);
        before.subjects.values_mut().for_each(|facts| facts.retain(|held| is_old(&held.id)));
        before.connected.retain(|held| is_old(&held.id));
        before.rosters.retain(|held| is_old(&held.id));
        before
    }
}

/// The kinds of requests that begin a call, or let it begin.
pub const BEGINNINGS: &[&str] = &["createCall", "answerCall", "connect", "answer"];

/// By which word each request that begins the call has been fulfilled: the first with its tag, or with none where no tag is told.
fn begun<'a>(connected: &'a [HeldFact], requests: &[HeldRequest]) -> BTreeMap<usize, &'a HeldFact> {
    let mut begun = BTreeMap::new();
    for held in connected {
        let told = context(held.fact.context.as_deref());
        let fits = |request: &HeldRequest| {
            let asked = context(request.facts.context.as_deref());
            let in_order = request.facts.via == Via::Registered || request.id.0 < held.id.0;
            let alike = told.is_none() || asked == told;
            BEGINNINGS.contains(&request.facts.kind.as_str()) && request.may_have_begun(true) && in_order && alike
        };
        let mut fitting = requests.iter().enumerate().filter(|(_, request)| fits(request)).map(|(at, _)| at);
        if let (Some(only), None) = (fitting.next(), fitting.next()) {
            begun.entry(only).or_insert(held);
        }
    }
    begun
}

/// Which request belongs to which piece, and which could belong to several, by their places.
#[derive(Default)]
struct Paired {
    of_piece: BTreeMap<usize, usize>,
    doubtful: Vec<(usize, usize)>,
}

fn pair(pieces: &[Piece<'_>], requests: &[HeldRequest]) -> Paired {
    let mut paired = Paired::default();
    let mut by_id: BTreeMap<&PlatformId, Vec<usize>> = BTreeMap::new();
    let mut by_context: BTreeMap<Option<PlatformId>, Vec<usize>> = BTreeMap::new();
    for (at, request) in requests.iter().enumerate() {
        for id in request.answer.iter().flat_map(|answer| &answer.facts.operation_ids) {
            by_id.entry(id).or_default().push(at);
        }
        by_context.entry(context(request.facts.context.as_deref())).or_default().push(at);
    }
    let named =
        |piece: &Piece<'_>| -> Vec<usize> { piece.ids.iter().filter_map(|id| by_id.get(id)).flatten().copied().collect() };
    let certain = edges(pieces, requests, &paired, named, Piece::is_named_by);
    paired.take_certain(&certain, pieces, requests);
    paired.doubtful.clear(); // what an id leaves open, kind and tag may tell
    let tagged = |piece: &Piece<'_>| -> Vec<usize> {
        piece.contexts.iter().filter_map(|context| by_context.get(context)).flatten().copied().collect()
    };
    for after_a_failure_too in [false, true] {
        let fits = |piece: &Piece<'_>, request: &HeldRequest| {
            request.may_have_begun(after_a_failure_too) && piece.can_follow(request) && piece.is_like(request)
        };
        let like = edges(pieces, requests, &paired, tagged, fits);
        paired.take_certain(&like, pieces, requests);
    }
    paired
}

/// What can belong together of what is not paired yet.
fn edges<'a>(
    pieces: &[Piece<'a>],
    requests: &[HeldRequest],
    paired: &Paired,
    near: impl Fn(&Piece<'a>) -> Vec<usize>,
    fits: impl Fn(&Piece<'a>, &HeldRequest) -> bool,
) -> BTreeSet<(usize, usize)> {
    let doubted: BTreeSet<usize> = paired.doubtful.iter().map(|edge| edge.0).collect();
    let taken: BTreeSet<usize> = paired.of_piece.values().copied().chain(paired.doubtful.iter().map(|edge| edge.1)).collect();
    let free = pieces.iter().enumerate().filter(|(at, _)| !paired.of_piece.contains_key(at) && !doubted.contains(at));
    free.flat_map(|(at, piece)| {
        let found = near(piece).into_iter().filter(|request| !taken.contains(request));
        let found = found.filter(|request| requests.get(*request).is_some_and(|request| fits(piece, request)));
        found.map(|request| (at, request)).collect::<Vec<_>>()
    })
    .collect()
}

impl Paired {
    /// Pairs each group that can be paired in one way only. Such a group has, at every step, an operation with one possible
    /// request; if all of it can be paired so, there was no other way. Requests may be left over if they came behind.
    fn take_certain(&mut self, edges: &BTreeSet<(usize, usize)>, pieces: &[Piece<'_>], requests: &[HeldRequest]) {
        let in_order = |(piece, request): &&(usize, usize)| {
            pieces.get(*piece).zip(requests.get(*request)).is_some_and(|(piece, request)| piece.is_behind(request))
        };
        for group in groups(edges) {
            let members = |side: fn(&(usize, usize)) -> usize| group.iter().map(side).collect::<BTreeSet<_>>().len();
            let (operations, asked) = (members(|edge| edge.0), members(|edge| edge.1));
            let only_way = || Some(forced(&group)).filter(|pairs| operations == asked && pairs.len() == operations);
            let each_behind_its_own = || {
                let in_order = group.iter().filter(in_order).copied().collect();
                Some(forced(&in_order)).filter(|pairs| pairs.len() == operations)
            };
            match only_way().or_else(each_behind_its_own) {
                Some(pairs) => self.of_piece.extend(pairs),
                None => self.doubtful.extend(group),
            }
        }
    }
}

/// The two sides of an edge as one kind of node.
type Node = (bool, usize);

fn neighbours(edges: &BTreeSet<(usize, usize)>) -> BTreeMap<Node, BTreeSet<Node>> {
    let mut neighbours: BTreeMap<Node, BTreeSet<Node>> = BTreeMap::new();
    for (piece, request) in edges {
        neighbours.entry((false, *piece)).or_default().insert((true, *request));
        neighbours.entry((true, *request)).or_default().insert((false, *piece));
    }
    neighbours
}

/// The operations that one request alone is possible for, one after the other.
fn forced(group: &BTreeSet<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut left = neighbours(group);
    let is_forced = |node: &Node, others: &BTreeSet<Node>| !node.0 && others.len() == 1;
    let mut ready: Vec<Node> = left.iter().filter(|(node, others)| is_forced(node, others)).map(|(node, _)| *node).collect();
    let mut pairs = Vec::new();
    while let Some(node) = ready.pop() {
        let Some(other) = left.get(&node).and_then(|others| others.first().copied()) else { continue };
        pairs.push((node.1, other.1));
        for gone in [node, other] {
            for neighbour in left.remove(&gone).unwrap_or_default() {
                let Some(others) = left.get_mut(&neighbour) else { continue };
                others.remove(&gone);
                if is_forced(&neighbour, others) {
                    ready.push(neighbour);
                }
            }
        }
    }
    pairs
}

/// The edges in groups that share no end.
fn groups(edges: &BTreeSet<(usize, usize)>) -> Vec<BTreeSet<(usize, usize)>> {
    let neighbours = neighbours(edges);
    let mut seen: BTreeSet<Node> = BTreeSet::new();
    let mut groups = Vec::new();
    for start in neighbours.keys().filter(|(is_request, _)| !is_request) {
        if seen.contains(start) {
            continue;
        }
        let (mut group, mut left) = (BTreeSet::new(), vec![*start]);
        while let Some(node) = left.pop() {
            if !seen.insert(node) {
                continue;
            }
            for other in neighbours.get(&node).into_iter().flatten() {
                group.insert(if node.0 { (other.1, node.1) } else { (node.1, other.1) });
                left.push(*other);
            }
        }
        groups.push(group);
    }
    groups
}

fn mark_ambiguous(all: &mut [links::Told<'_>], pieces: &[Piece<'_>], requests: &[HeldRequest], paired: &Paired) {
    let of_piece = |at: usize| pieces.get(at).and_then(|piece| piece.facts.first()).map(|held| OperationId(held.id.0));
    let of_request = |at: usize| requests.get(at).map(|request| OperationId(request.id.0));
    let mut candidates: BTreeMap<OperationId, BTreeSet<OperationId>> = BTreeMap::new();
    for (piece, request) in &paired.doubtful {
        if let (Some(piece), Some(request)) = (of_piece(*piece), of_request(*request)) {
            candidates.entry(piece).or_default().insert(request);
            candidates.entry(request).or_default().insert(piece);
        }
    }
    for told in all {
        if let Some(others) = candidates.remove(&told.operation.id) {
            told.operation.links.candidates = others.into_iter().collect();
            told.mark(Flag::Ambiguous);
        }
    }
}
