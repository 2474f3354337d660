//! What tokens cost.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use crate::answer::Usage;

/// An amount of money in billionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Cost(pub u64);

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

/// A text that is no amount of dollars.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount of dollars: write for example `0.05`")]
pub struct CostError(String);

impl FromStr for Cost {
    type Err = CostError;

    /// Reads dollars, `0.05` or `2`, of at most nine digits behind the point.
    fn from_str(text: &str) -> Result<Self, CostError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |it: &str, most: usize| (1..=most).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_digit());
        let dollars = whole.parse::<u64>().ok().and_then(|dollars| dollars.checked_mul(1_000_000_000));
        let rest = format!("{part:0<9}").parse::<u64>().ok();
        match (dollars, rest) {
            (Some(dollars), Some(rest)) if digits(whole, 9) && digits(part, 9) => {
                Ok(Self(dollars.saturating_add(rest)))
            }
            _ => Err(CostError(text.into())),
        }
    }
}

impl fmt::Display for Cost {
    /// Dollars with four digits, rounded up: `$0.0013`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ten_thousandths = self.0.div_ceil(100_000);
        write!(f, "${}.{:04}", ten_thousandths / 10_000, ten_thousandths % 10_000)
    }
}

/// Prices of one model, in billionths of a US dollar a token (thousandths of a dollar a million tokens).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    /// A token of the question.
    pub input: u64,
    /// One that was read from a cache.
    pub cached: u64,
    /// One that was written to a cache.
    pub cache_write: u64,
    /// A token of the answer.
    pub output: u64,
}

impl Prices {
    /// What a call costs whose usage is known whole. Missing parts count as none; `None` if input or output is unknown.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Option<Cost> {
        let (input, output) = (usage.input?, usage.output?);
        let cached = usage.cached.unwrap_or(0).min(input);
        let written = usage.cache_write.unwrap_or(0).min(input - cached);
        let parts = [
            (input - cached - written, self.input),
            (cached, self.cached),
            (written, self.cache_write),
            (output, self.output),
        ];
        Some(parts.into_iter().map(|(tokens, price)| Cost(tokens.saturating_mul(price))).sum())
    }

    /// The most a call can cost that takes at most so many tokens.
    #[must_use]
    pub fn most(&self, input: u64, output: u64) -> Cost {
        let dearest = self.input.max(self.cached).max(self.cache_write);
        Cost(input.saturating_mul(dearest)) + Cost(output.saturating_mul(self.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_token_is_paid_once() {
        let prices = Prices { input: 3_000, cached: 300, cache_write: 3_750, output: 15_000 };
        let usage = Usage {
            input: Some(1_000),
            cached: Some(400),
            cache_write: Some(100),
            output: Some(10),
            reasoning: Some(4),
        };
        assert_eq!(prices.cost(&usage), Some(Cost(500 * 3_000 + 400 * 300 + 100 * 3_750 + 10 * 15_000)));
        assert_eq!(prices.cost(&Usage { output: None, ..usage }), None);
        assert!(prices.most(1_000, 10) >= prices.cost(&usage).unwrap());
        // More cached than there is: never below nothing, never above the whole.
        let lie = Usage { cached: Some(u64::MAX), cache_write: Some(u64::MAX), ..usage };
        assert_eq!(prices.cost(&lie), Some(Cost(1_000 * 300 + 10 * 15_000)));
    }

    #[test]
    fn dollars() {
        assert_eq!(Cost(0).to_string(), "$0.0000");
        assert_eq!(Cost(1).to_string(), "$0.0001");
        assert_eq!(Cost(12_345_600_000).to_string(), "$12.3456");
        for (text, nanodollars) in [("0", 0), ("0.05", 50_000_000), ("2", 2_000_000_000), ("0.000000001", 1)] {
            assert_eq!(text.parse(), Ok(Cost(nanodollars)), "{text}");
        }
        for bad in ["", ".5", "1.", "-1", "1e3", "$1", "0.0000000001", "9999999999", "１"] {
            assert!(bad.parse::<Cost>().is_err(), "{bad}");
        }
    }
}
