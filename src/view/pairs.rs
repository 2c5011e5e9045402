//! Which two pictures of a photo a rater compares next.
//!
//! Strategies are compared where a vote tells most of their strengths: where the chances are even and the difference is
//! still uncertain, p(1 − p)·Var(θᵢ − θⱼ) of the Bradley-Terry strengths of all votes so far. That is by how much one
//! more vote raises the determinant of the information (D-optimality).

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;

use crate::metrics::people::bradley_terry;
use crate::run::people::{People, VoteRow};

/// Two pictures of one photo, as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub id: String,
    pub left: String,
    pub right: String,
}

/// What can be compared: photos with the strategies of which there is a picture, by position in `names`.
#[derive(Debug, Default)]
pub struct Pool {
    pub names: Vec<String>,
    pub photos: Vec<(String, Vec<usize>)>,
}

/// How far a rater has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub voted: usize,
    pub pairs: usize,
}

impl Pool {
    /// Whether these are two pictures that can be compared.
    pub fn has(&self, id: &str, left: &str, right: &str) -> bool {
        let is_there = |photo: &[usize], name: &str| photo.iter().any(|at| self.names[*at] == name);
        let photo = self.photos.iter().find(|(photo, _)| photo == id);
        left != right && photo.is_some_and(|(_, all)| is_there(all, left) && is_there(all, right))
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.photos.iter().flat_map(|(id, all)| {
            let firsts = all.iter().enumerate();
            firsts.flat_map(move |(k, a)| all[k + 1..].iter().map(move |b| (id.as_str(), *a, *b)))
        })
    }

    /// The next pair of this rater, who has not voted on it; None when there is none left. With `all`, any of them at
    /// random. `votes` are all rows of the table.
    pub fn next(&self, votes: &[VoteRow], rater: &str, all: bool, random: &mut impl Rng) -> (Option<Pair>, Progress) {
        let standing = People::of(&[], votes).votes;
        let position: BTreeMap<&str, usize> = (0..).zip(&self.names).map(|(at, name)| (name.as_str(), at)).collect();
        let place = |vote: &VoteRow| {
            let (a, b) = (*position.get(vote.left.as_str())?, *position.get(vote.right.as_str())?);
            Some((a.min(b), a.max(b)))
        };
        let mut seen: BTreeSet<(&str, usize, usize)> = BTreeSet::new();
        let mut counts: BTreeMap<(&str, usize, usize), usize> = BTreeMap::new();
        for vote in &standing {
            let Some((a, b)) = place(vote) else { continue };
            *counts.entry((&vote.id, a, b)).or_default() += 1;
            if vote.rater == rater {
                seen.insert((&vote.id, a, b));
            }
        }
        let open: Vec<(&str, usize, usize)> = self.pairs().filter(|pair| !seen.contains(pair)).collect();
        let pairs = self.pairs().count();
        let progress = Progress { voted: pairs - open.len(), pairs };
        let told = self.told(&standing, &position);
        let rank = |(id, a, b): &(&str, usize, usize)| {
            if all { (0.0, 0) } else { (told(*a, *b), counts.get(&(*id, *a, *b)).copied().unwrap_or(0)) }
        };
        let mut best: Vec<(&str, usize, usize)> = Vec::new();
        let mut best_rank = (f64::NEG_INFINITY, usize::MAX);
        for pair in open {
            let (tells, voted) = rank(&pair);
            let better = tells > best_rank.0 + 1e-12;
            if better || (tells > best_rank.0 - 1e-12 && voted < best_rank.1) {
                (best, best_rank) = (vec![pair], (tells, voted));
            } else if tells > best_rank.0 - 1e-12 && voted == best_rank.1 {
                best.push(pair);
            }
        }
        if best.is_empty() {
            return (None, progress);
        }
        let (id, a, b) = best[random.random_range(0..best.len())];
        (Some(self.placed(votes, id, (a, b), random)), progress)
    }

    /// What one more vote on two strategies tells.
    fn told(&self, votes: &[VoteRow], position: &BTreeMap<&str, usize>) -> impl Fn(usize, usize) -> f64 {
        let mut wins = vec![vec![0.0; self.names.len()]; self.names.len()];
        for vote in votes {
            let place = |name: &String| position.get(name.as_str()).copied();
            let (Some(left), Some(right)) = (place(&vote.left), place(&vote.right)) else { continue };
            let share = vote.winner().map_or(0.5, |winner| f64::from(u8::from(winner == vote.left)));
            wins[left][right] += share;
            wins[right][left] += 1.0 - share;
        }
        let strengths = bradley_terry(&wins);
        move |a, b| {
            let Some(strengths) = &strengths else { return 1.0 };
            let chance = 1.0 / (1.0 + (strengths.values[b] - strengths.values[a]).exp());
            chance * (1.0 - chance) * strengths.variance(a, b)
        }
    }

    /// Each of two strategies stands left as often as right, as far as that goes; else by chance.
    fn placed(&self, votes: &[VoteRow], id: &str, (a, b): (usize, usize), random: &mut impl Rng) -> Pair {
        let (a, b) = (&self.names[a], &self.names[b]);
        let stood = |left: &str, right: &str| votes.iter().filter(|v| v.left == left && v.right == right).count();
        let swap = match stood(a, b).cmp(&stood(b, a)) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => random.random(),
        };
        let (left, right) = if swap { (b, a) } else { (a, b) };
        Pair { id: id.to_string(), left: left.clone(), right: right.clone() }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn pool(strategies: usize, photos: usize) -> Pool {
        Pool {
            names: (0..strategies).map(|at| format!("s{at}")).collect(),
            photos: (0..photos).map(|at| (format!("p{at}"), (0..strategies).collect())).collect(),
        }
    }

    fn vote(rater: &str, pair: &Pair, choice: &str) -> VoteRow {
        VoteRow {
            rater: rater.into(),
            id: pair.id.clone(),
            left: pair.left.clone(),
            right: pair.right.clone(),
            choice: choice.into(),
            at: String::new(),
        }
    }

    #[test]
    fn a_rater_sees_each_pair_once_in_balanced_places() {
        for all in [false, true] {
            let (pool, mut random) = (pool(4, 6), ChaCha8Rng::seed_from_u64(1));
            let mut votes: Vec<VoteRow> = Vec::new();
            let mut seen = BTreeSet::new();
            while let (Some(pair), progress) = pool.next(&votes, "anna", all, &mut random) {
                assert_eq!(progress, Progress { voted: votes.len(), pairs: 36 });
                assert!(pool.has(&pair.id, &pair.left, &pair.right));
                let vote = vote("anna", &pair, "tie");
                assert!(seen.insert((pair.id, vote.pair().0.to_string(), vote.pair().1.to_string())), "twice");
                votes.push(vote);
            }
            assert_eq!(seen.len(), 36);
            for name in &pool.names {
                let left = votes.iter().filter(|vote| vote.left == *name).count();
                assert!((7..=11).contains(&left), "{name} stood left {left} times of 18");
            }
            assert!(pool.next(&votes, "ben", all, &mut random).0.is_some(), "others have their own");
        }
    }

    #[test]
    fn votes_go_where_they_tell_most() {
        // s0 loses against all; s1 and s2 are alike: votes between those two are worth more.
        let (pool, mut random) = (pool(3, 200), ChaCha8Rng::seed_from_u64(2));
        let mut votes: Vec<VoteRow> = Vec::new();
        let mut between = 0;
        for _ in 0..90 {
            let pair = pool.next(&votes, "anna", false, &mut random).0.unwrap();
            let choice = match (pair.left.as_str(), pair.right.as_str()) {
                ("s0", _) => {
                    if random.random_bool(0.95) {
                        "right"
                    } else {
                        "left"
                    }
                }
                (_, "s0") => {
                    if random.random_bool(0.95) {
                        "left"
                    } else {
                        "right"
                    }
                }
                _ => {
                    if random.random() {
                        "left"
                    } else {
                        "right"
                    }
                }
            };
            between += usize::from(pair.left != "s0" && pair.right != "s0");
            votes.push(vote("anna", &pair, choice));
        }
        assert!((31..85).contains(&between), "{between} of 90 votes between the two that are alike");
    }

    #[test]
    fn what_is_not_there_is_not_compared() {
        let mut pool = pool(3, 2);
        pool.photos[0].1 = vec![1];
        pool.photos[1].1 = vec![0, 2];
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let (pair, progress) = pool.next(&[], "anna", false, &mut random);
        assert_eq!((pair.unwrap().id.as_str(), progress.pairs), ("p1", 1));
        assert!(!pool.has("p0", "s0", "s1") && !pool.has("p1", "s0", "s0") && !pool.has("p9", "s0", "s2"));
    }
}
