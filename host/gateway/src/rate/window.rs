//! Counting in a sliding window: what the last full window held counts for the part of it that still overlaps.

/// What a window gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// So many, at least one.
    Some(u32),
    /// None; milliseconds until there is one again.
    None(u64),
}

/// A count over the last window. Never more than the limit within any span as long as a window, as far as the last window
/// was used evenly.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Window {
    began_ms: u64,
    /// Which one it is: rises by one with each window.
    number: Number,
    current: u32,
    previous: u32,
}

/// Tells the windows of one count apart.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number(u32);

impl Number {
    fn after(self, windows: u32) -> Self {
        Self(self.0.wrapping_add(windows))
    }
}

impl Window {
    fn turn(&mut self, window_ms: u64, now_ms: u64) {
        let age = now_ms.saturating_sub(self.began_ms);
        if age >= window_ms.saturating_mul(2) || now_ms < self.began_ms {
            // Further than from one to the next: nothing that was taken before counts.
            *self = Self { began_ms: now_ms, number: self.number.after(2), ..Self::default() };
        } else if age >= window_ms {
            let (began_ms, number) = (self.began_ms + window_ms, self.number.after(1));
            *self = Self { began_ms, number, current: 0, previous: self.current };
        }
    }

    /// How much of the limit is used now.
    fn used(&self, window_ms: u64, now_ms: u64) -> u64 {
        let left_ms = window_ms.saturating_sub(now_ms.saturating_sub(self.began_ms));
        // Rounded up: a part of a call is a call.
        let carried = (u64::from(self.previous) * left_ms).div_ceil(window_ms);
        u64::from(self.current) + carried
    }

    /// Takes up to `wanted` of what is left.
    pub(crate) fn take(&mut self, limit: u32, window_ms: u64, wanted: u32, now_ms: u64) -> Given {
        self.turn(window_ms, now_ms);
        let left = u64::from(limit).saturating_sub(self.used(window_ms, now_ms));
        match u32::try_from(left).unwrap_or(u32::MAX).min(wanted) {
            0 => Given::None(self.wait_ms(limit, window_ms, now_ms)),
            given => {
                self.current += given;
                Given::Some(given)
            }
        }
    }

    /// The window in which the last was taken.
    pub(crate) fn number(&self) -> Number {
        self.number
    }

    /// Gives back what was taken in a window and not used. What counts no longer is no credit for others.
    pub(crate) fn give_back(&mut self, count: u32, taken_in: Number) {
        if taken_in == self.number {
            self.current = self.current.saturating_sub(count);
        } else if taken_in.after(1) == self.number {
            self.previous = self.previous.saturating_sub(count);
        }
    }

    /// Whether nothing of it counts any more.
    pub(crate) fn is_idle(&self, window_ms: u64, now_ms: u64) -> bool {
        let mut later = *self;
        later.turn(window_ms, now_ms);
        later.used(window_ms, now_ms) == 0
    }

    fn wait_ms(&self, limit: u32, window_ms: u64, now_ms: u64) -> u64 {
        let elapsed_ms = now_ms.saturating_sub(self.began_ms);
        let room = |count: u32| u64::from(limit).saturating_sub(1).checked_sub(u64::from(count));
        // In a window, what is carried over shrinks to `room` once this much of the window is left.
        let left_ms = |room: u64, carried: u32| (room * window_ms).checked_div(u64::from(carried)).unwrap_or(window_ms);
        let within = room(self.current).filter(|_| self.previous > 0);
        let wait_ms = match within {
            Some(room) => (window_ms - left_ms(room, self.previous).min(window_ms)).saturating_sub(elapsed_ms),
            None => {
                let room = u64::from(limit).saturating_sub(1);
                window_ms.saturating_sub(elapsed_ms) + window_ms - left_ms(room, self.current).min(window_ms)
            }
        };
        wait_ms.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_MS: u64 = 60_000;

    #[test]
    fn no_more_than_the_limit_and_what_is_said_about_waiting_is_true() {
        for limit in [1, 3, 30, 1000] {
            let mut window = Window::default();
            let mut now_ms = 1_000_000;
            let mut taken: Vec<u64> = Vec::new();
            for _ in 0..(limit * 4) {
                match window.take(limit, WINDOW_MS, 1, now_ms) {
                    Given::Some(count) => {
                        assert_eq!(count, 1);
                        taken.push(now_ms);
                    }
                    Given::None(wait_ms) => {
                        let early = window.clone().take(limit, WINDOW_MS, 1, now_ms + wait_ms.saturating_sub(2));
                        assert!(matches!(early, Given::None(_)) || wait_ms <= 2, "{limit}: no longer than needed");
                        now_ms += wait_ms;
                        assert_eq!(window.take(limit, WINDOW_MS, 1, now_ms), Given::Some(1), "{limit} after {wait_ms}");
                        taken.push(now_ms);
                    }
                }
            }
            // Twice the limit at the very most in any window: the bound of counting by two buckets. Never at once.
            for start in &taken {
                let within = taken.iter().filter(|at| *at >= start && **at < start + WINDOW_MS).count();
                assert!(within <= 2 * limit as usize, "{limit}: {within}");
            }
            assert!(now_ms > 1_000_000, "the limit was met");
        }
    }

    #[test]
    fn a_part_is_given_when_not_all_is_left_and_unused_ones_come_back() {
        let mut window = Window::default();
        assert_eq!(window.take(10, WINDOW_MS, 8, 0), Given::Some(8));
        assert_eq!(window.take(10, WINDOW_MS, 8, 1), Given::Some(2));
        assert!(matches!(window.take(10, WINDOW_MS, 1, 2), Given::None(_)));
        window.give_back(3, window.number());
        assert_eq!(window.take(10, WINDOW_MS, 8, 3), Given::Some(3));
        assert!(!window.is_idle(WINDOW_MS, 100_000));
        assert!(window.is_idle(WINDOW_MS, 120_000));
    }

    #[test]
    fn what_comes_back_is_taken_off_the_window_it_was_taken_in() {
        let mut window = Window::default();
        assert_eq!(window.take(10, WINDOW_MS, 10, 0), Given::Some(10));
        let first = window.number();
        assert_eq!(window.take(10, WINDOW_MS, 10, WINDOW_MS * 3 / 2), Given::Some(5), "half of the ten still count");
        window.give_back(4, first);
        assert_eq!(window.take(10, WINDOW_MS, 10, WINDOW_MS * 3 / 2), Given::Some(2), "half of the six do");
        assert_eq!(window.take(10, WINDOW_MS, 10, WINDOW_MS * 4), Given::Some(10));
        window.give_back(6, first);
        assert!(matches!(window.take(10, WINDOW_MS, 1, WINDOW_MS * 4), Given::None(_)), "those are long forgotten");
    }

    #[test]
    fn a_clock_that_goes_back_starts_anew() {
        let mut window = Window::default();
        assert_eq!(window.take(1, WINDOW_MS, 1, 500_000), Given::Some(1));
        assert_eq!(window.take(1, WINDOW_MS, 1, 10), Given::Some(1));
    }
}
