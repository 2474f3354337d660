//! What calls of models may use together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::answer::Usage;
use crate::price::{Cost, Prices};

/// The fewest tokens of an answer that a budget lowers a call to; with fewer, the call is refused.
pub const LEAST_OUTPUT: u64 = 512;

/// The most that calls may use together. Each is unlimited if absent, which is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// Tokens of all questions and answers.
    pub max_tokens: Option<u64>,
    /// Money.
    pub max_cost: Option<Cost>,
    /// Requests, those that failed included.
    pub max_attempts: Option<u64>,
    /// Time from the moment the [`Budget`] is made.
    pub deadline: Option<Duration>,
}

/// Counts what calls use, so that all of them together stay within [`Caps`] whatever a provider says: what a call can take at most
/// is set aside before it is sent.
#[derive(Debug)]
pub struct Budget {
    caps: Caps,
    began: Instant,
    charged: Mutex<Spent>,
}

/// What is used, and what is set aside for calls under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens.
    pub tokens: u64,
    /// Money, as far as prices are known.
    pub cost: Cost,
    /// Requests.
    pub attempts: u64,
    /// Requests of unknown price, which `cost` does not hold.
    pub unpriced: u64,
}

/// Why a call is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// Too few tokens are left.
    #[error("{left} of {cap} tokens are left, and the call needs {needed}")]
    Tokens {
        /// What is left.
        left: u64,
        /// What there was.
        cap: u64,
        /// What the call takes with the shortest answer that makes sense.
        needed: u64,
    },
    /// Too little money is left.
    #[error("{left} of {cap} are left, and the call may cost {needed}")]
    Cost {
        /// What is left.
        left: Cost,
        /// What there was.
        cap: Cost,
        /// What the call may cost with the shortest answer that makes sense.
        needed: Cost,
    },
    /// There is a cap on money, and the profile has no prices.
    #[error("there is a cap of {cap}, and the price of the model is not known")]
    Unpriced {
        /// The cap.
        cap: Cost,
    },
    /// All requests are made.
    #[error("all {cap} attempts are used")]
    Attempts {
        /// How many there were.
        cap: u64,
    },
    /// The time is over.
    #[error("the deadline of {} is over", capibara_policies::format_duration(*cap))]
    Deadline {
        /// How long it was.
        cap: Duration,
    },
}

impl BudgetError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Tokens { .. } => "raise --max-tokens, or show less to the model",
            Self::Cost { .. } => "raise --max-cost, or choose a cheaper model",
            Self::Unpriced { .. } => {
                "add `prices` to the profile in models.yaml (input and output, dollars per million tokens), or leave --max-cost away"
            }
            Self::Attempts { .. } => "raise --max-attempts",
            Self::Deadline { .. } => "raise --deadline",
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Caps::default())
    }
}

impl Budget {
    /// Nothing is used yet; the time begins now.
    #[must_use]
    pub fn new(caps: Caps) -> Self {
        Self { caps, began: Instant::now(), charged: Mutex::default() }
    }

    /// What is used and set aside.
    #[must_use]
    pub fn spent(&self) -> Spent {
        *self.charged()
    }

    /// Time until the deadline, if there is one.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        self.caps.deadline.map(|it| it.saturating_sub(self.began.elapsed()))
    }

    /// Sets aside what a call can take at most: `input` tokens of the question (see
    /// [`Request::most_input_tokens`](crate::Request::most_input_tokens)) and up to `max_output` of the answer, lowered to what fits
    /// if [`LEAST_OUTPUT`] does. What is set aside stays so until it is settled, and for good if the reservation is dropped.
    ///
    /// # Errors
    ///
    /// [`BudgetError`] with a hint; then the call must not be made.
    pub fn reserve(&self, input: u64, max_output: u64, prices: Option<Prices>) -> Result<Reservation<'_>, BudgetError> {
        let mut charged = self.charged();
        if let (Some(cap), Some(Duration::ZERO)) = (self.caps.deadline, self.remaining()) {
            return Err(BudgetError::Deadline { cap });
        }
        if let Some(cap) = self.caps.max_attempts.filter(|&cap| charged.attempts >= cap) {
            return Err(BudgetError::Attempts { cap });
        }
        let least = max_output.min(LEAST_OUTPUT);
        let mut output = max_output;
        if let Some(cap) = self.caps.max_tokens {
            let left = cap.saturating_sub(charged.tokens);
            output = output.min(left.saturating_sub(input));
            if output < least || left < input {
                return Err(BudgetError::Tokens { left, cap, needed: input.saturating_add(least) });
            }
        }
        if let Some(cap) = self.caps.max_cost {
            let prices = prices.ok_or(BudgetError::Unpriced { cap })?;
            let left = cap.0.saturating_sub(charged.cost.0);
            let needed = prices.most(input, least);
            let for_output = left.saturating_sub(prices.most(input, 0).0);
            output = output.min(for_output.checked_div(prices.output).unwrap_or(u64::MAX));
            if output < least || needed.0 > left {
                return Err(BudgetError::Cost { left: Cost(left), cap, needed });
            }
        }
        let most = Spent {
            tokens: input.saturating_add(output),
            cost: prices.map_or(Cost(0), |it| it.most(input, output)),
            attempts: 1,
            unpriced: u64::from(prices.is_none()),
        };
        charged.tokens = charged.tokens.saturating_add(most.tokens);
        charged.cost = charged.cost + most.cost;
        charged.attempts = charged.attempts.saturating_add(1);
        charged.unpriced = charged.unpriced.saturating_add(most.unpriced);
        Ok(Reservation { budget: self, output, most, prices })
    }

    fn charged(&self) -> MutexGuard<'_, Spent> {
        self.charged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is set aside for one call. Dropping it leaves it charged, as a call that was given up may still be billed.
#[derive(Debug)]
#[must_use = "a call is settled, or stays charged at the most it can take"]
pub struct Reservation<'a> {
    budget: &'a Budget,
    output: u64,
    most: Spent,
    prices: Option<Prices>,
}

/// What a call is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Tokens.
    pub tokens: u64,
    /// Money; `None` if the price is not known.
    pub cost: Option<Cost>,
    /// What to tell the user, if the provider told something that cannot be.
    pub warning: Option<String>,
}

impl Reservation<'_> {
    /// The most tokens the answer may have.
    #[must_use]
    pub fn max_output(&self) -> u64 {
        self.output
    }

    /// Charges what the provider told, but never more than was set aside, so that one that lies cannot exceed the budget. All that
    /// was set aside stays charged if it did not tell both parts, or told that the question had no tokens.
    pub fn settle(self, usage: &Usage) -> Charge {
        let (Some(input @ 1..), Some(output)) = (usage.input, usage.output) else {
            return self.keep();
        };
        let told = input.saturating_add(output);
        let cost = self.prices.and_then(|it| it.cost(usage));
        let warning = (told > self.most.tokens || cost > self.prices.map(|_| self.most.cost)).then(|| {
            format!(
                "the provider told {told} tokens, and the call can have taken {} at most, which are charged",
                self.most.tokens
            )
        });
        let most = self.most;
        self.charge(told.min(most.tokens), cost.map(|it| it.min(most.cost)), warning)
    }

    /// Leaves all that was set aside charged: it is not known what the call used.
    pub fn keep(self) -> Charge {
        let (tokens, cost) = (self.most.tokens, self.prices.map(|_| self.most.cost));
        self.charge(tokens, cost, None)
    }

    /// Charges an attempt but no tokens: nothing was sent, or the provider refused the request as a whole.
    pub fn release(self) -> Charge {
        let cost = self.prices.map(|_| Cost(0));
        self.charge(0, cost, None)
    }

    fn charge(self, tokens: u64, cost: Option<Cost>, warning: Option<String>) -> Charge {
        let mut charged = self.budget.charged();
        charged.tokens = charged.tokens.saturating_sub(self.most.tokens).saturating_add(tokens);
        charged.cost = Cost(charged.cost.0.saturating_sub(self.most.cost.0)) + cost.unwrap_or_default();
        Charge { tokens, cost, warning }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices { input: 3_000, cached: 300, cache_write: 3_750, output: 15_000 };

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input: Some(input), output: Some(output), ..Usage::default() }
    }

    fn tokens(cap: u64) -> Budget {
        Budget::new(Caps { max_tokens: Some(cap), ..Caps::default() })
    }

    #[test]
    fn a_call_is_lowered_to_what_fits_or_refused() {
        for (cap, input, max_output, granted) in [
            (10_000, 1_000, 4_000, Some(4_000)),
            (10_000, 9_000, 4_000, Some(1_000)),
            (10_000, 9_488, 4_000, Some(512)),
            (10_000, 9_489, 4_000, None),
            (10_000, 9_900, 100, Some(100)),
            (10_000, 9_901, 100, None),
            (10_000, 10_001, 0, None),
            (0, 0, 1, None),
            (u64::MAX, u64::MAX, u64::MAX, None),
        ] {
            let budget = tokens(cap);
            let output = budget.reserve(input, max_output, None).ok().map(|it| it.max_output());
            assert_eq!(output, granted, "{cap} {input} {max_output}");
        }
        // The same with money: one dollar is 10^9; 100,000 tokens of the question may cost 0.375.
        for (cap, granted) in
            [(1_000_000_000, Some(4_000)), (390_000_000, Some(1_000)), (382_680_000, Some(512)), (382_679_999, None)]
        {
            let budget = Budget::new(Caps { max_cost: Some(Cost(cap)), ..Caps::default() });
            let output = budget.reserve(100_000, 4_000, Some(PRICES)).ok().map(|it| it.max_output());
            assert_eq!(output, granted, "{cap}");
        }
    }

    #[test]
    fn what_is_refused_is_told_with_a_hint() {
        let spent = Budget::new(Caps { max_attempts: Some(1), ..Caps::default() });
        let _ = spent.reserve(1, 1, None).unwrap();
        let cost = Budget::new(Caps { max_cost: Some(Cost(1_000_000)), ..Caps::default() });
        let late = Budget::new(Caps { deadline: Some(Duration::ZERO), ..Caps::default() });
        for (budget, prices, part, flag) in [
            (&spent, None, "all 1 attempts are used", "--max-attempts"),
            (&cost, None, "a cap of $0.0010", "--max-cost"),
            (&cost, Some(PRICES), "$0.0010 of $0.0010 are left, and the call may cost $0.0115", "--max-cost"),
            (&late, None, "deadline of 0s is over", "--deadline"),
            (&tokens(100), None, "100 of 100 tokens are left, and the call needs 1512", "--max-tokens"),
        ] {
            let before = budget.spent();
            let error = budget.reserve(1_000, 4_000, prices).unwrap_err();
            assert!(error.to_string().contains(part) && error.hint().contains(flag), "{error}: {}", error.hint());
            assert_eq!(budget.spent(), before);
        }
    }

    #[test]
    fn a_call_is_charged_what_was_told_within_what_is_possible() {
        for (told, tokens, cost, warns) in [
            (usage(800, 100), 900, 800 * 3_000 + 100 * 15_000, false),
            (usage(1, 0), 1, 3_000, false),
            // Unknown, or no usage at all: the most it can be.
            (usage(0, 0), 1_500, 1_000 * 3_750 + 500 * 15_000, false),
            (Usage::default(), 1_500, 1_000 * 3_750 + 500 * 15_000, false),
            (Usage { output: None, ..usage(1, 0) }, 1_500, 1_000 * 3_750 + 500 * 15_000, false),
            // More than possible.
            (usage(u64::MAX, u64::MAX), 1_500, 1_000 * 3_750 + 500 * 15_000, true),
            (usage(1, 1_499), 1_500, 1_000 * 3_750 + 500 * 15_000, true),
        ] {
            let budget = Budget::default();
            let charge = budget.reserve(1_000, 500, Some(PRICES)).unwrap().settle(&told);
            assert_eq!((charge.tokens, charge.cost), (tokens, Some(Cost(cost))), "{told:?}");
            assert_eq!(charge.warning.is_some(), warns, "{told:?}");
            assert_eq!(budget.spent(), Spent { tokens, cost: Cost(cost), attempts: 1, unpriced: 0 }, "{told:?}");
        }
        let budget = Budget::default();
        assert_eq!(
            budget.reserve(1_000, 500, None).unwrap().release(),
            Charge { tokens: 0, cost: None, warning: None }
        );
        assert_eq!(budget.spent(), Spent { tokens: 0, cost: Cost(0), attempts: 1, unpriced: 1 });
    }

    #[test]
    fn calls_under_way_and_calls_given_up_count() {
        let budget = tokens(4_000);
        let first = budget.reserve(1_000, 1_000, None).unwrap();
        let second = budget.reserve(1_000, 1_000, None).unwrap();
        assert!(budget.reserve(1, 1, None).is_err());
        drop(second);
        assert!(budget.reserve(1, 1, None).is_err());
        first.release();
        assert_eq!(budget.reserve(1_000, 4_000, None).unwrap().max_output(), 1_000);
    }

    /// A stream of numbers that is the same on every run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    #[test]
    fn no_run_exceeds_its_caps_whatever_providers_tell() {
        let mut granted = 0;
        for seed in 0..1_000 {
            let mut numbers = Numbers(seed);
            let caps = Caps {
                max_tokens: Some(numbers.below(60_000)),
                max_cost: (numbers.below(2) == 0).then(|| Cost(numbers.below(600_000_000))),
                max_attempts: (numbers.below(2) == 0).then(|| numbers.below(20)),
                deadline: None,
            };
            let budget = Budget::new(caps);
            let mut under_way = Vec::new();
            // What the provider really takes, whatever it tells.
            let (mut took, mut cost) = (0, Cost(0));
            for _ in 0..40 {
                let input = numbers.below(3_000) + 1;
                if let Ok(reservation) = budget.reserve(input, numbers.below(5_000) + 1, Some(PRICES)) {
                    granted += 1;
                    let really = usage(input, reservation.max_output());
                    under_way.push((reservation, really));
                }
                if numbers.below(3) > 0 && !under_way.is_empty() {
                    let (reservation, really) = under_way.swap_remove(0);
                    let charge = match numbers.below(5) {
                        0 => reservation.settle(&Usage::default()),
                        1 => reservation.settle(&Usage { output: None, ..really }),
                        2 => reservation.settle(&usage(u64::MAX - numbers.below(3), u64::MAX)),
                        3 => reservation.settle(&usage(0, 0)),
                        _ => reservation.settle(&really),
                    };
                    let real = PRICES.cost(&really).unwrap();
                    assert!(
                        charge.tokens >= really.input.unwrap() + really.output.unwrap() && charge.cost >= Some(real)
                    );
                    took += charge.tokens;
                    cost = cost + real;
                } else if numbers.below(4) == 0 {
                    under_way.pop();
                }
                let spent = budget.spent();
                assert!(spent.tokens <= caps.max_tokens.unwrap() && took <= spent.tokens, "{seed}: {spent:?} {caps:?}");
                assert!(caps.max_cost.is_none_or(|cap| spent.cost <= cap && cost <= cap), "{seed}: {spent:?} {caps:?}");
                assert!(caps.max_attempts.is_none_or(|cap| spent.attempts <= cap), "{seed}: {spent:?} {caps:?}");
            }
        }
        assert!(granted > 3_000, "{granted}");
    }
}
