//! `Evictor`: which elements of a window are dropped before or after its function sees them.
//!
//! After Flink's `Evictor`, `CountEvictor`, `TimeEvictor` and `DeltaEvictor`. What is evicted is
//! gone: later panes and the final result do not have it either.
//!
//! # Cost
//! A window with an evictor keeps all of its elements.

use std::time::Duration;

use thalweg_engine::time::duration_millis;

use super::Window;
use super::function::Stamped;

/// Drops elements of a window whenever it gives out a pane or its final result. The elements stand
/// in the order in which they have come.
pub trait Evictor<T>: Send + Sync + 'static {
    /// Drops elements that the window's function is not to see.
    fn before(&self, elements: &mut Vec<Stamped<T>>, window: Window) {
        let _ = (elements, window);
    }

    /// Drops elements that the window's function has seen for the last time.
    fn after(&self, elements: &mut Vec<Stamped<T>>, window: Window) {
        let _ = (elements, window);
    }
}

/// When an evictor of this module drops elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    Before,
    After,
}

macro_rules! evictor {
    () => {
        fn before(&self, elements: &mut Vec<Stamped<T>>, _window: Window) {
            if self.moment == Moment::Before {
                self.evict(elements);
            }
        }

        fn after(&self, elements: &mut Vec<Stamped<T>>, _window: Window) {
            if self.moment == Moment::After {
                self.evict(elements);
            }
        }
    };
}

/// Keeps the last elements, up to a number.
#[derive(Clone, Copy, Debug)]
pub struct CountEvictor {
    count: usize,
    moment: Moment,
}

impl CountEvictor {
    /// Keeps the last `count` elements.
    pub fn of(count: usize) -> Self {
        CountEvictor { count, moment: Moment::Before }
    }

    /// Drops elements after the window's function, not before it.
    #[must_use]
    pub fn after(self) -> Self {
        CountEvictor { moment: Moment::After, ..self }
    }

    fn evict<T>(&self, elements: &mut Vec<Stamped<T>>) {
        elements.drain(..elements.len().saturating_sub(self.count));
    }
}

impl<T> Evictor<T> for CountEvictor {
    evictor!();
}

/// Keeps the elements that are not older than the newest one by more than a span of event time.
#[derive(Clone, Copy, Debug)]
pub struct TimeEvictor {
    span_ms: i64,
    moment: Moment,
}

impl TimeEvictor {
    /// Keeps the elements whose time is greater than the greatest one minus `span`.
    pub fn of(span: Duration) -> Self {
        TimeEvictor { span_ms: duration_millis(span), moment: Moment::Before }
    }

    /// Drops elements after the window's function, not before it.
    #[must_use]
    pub fn after(self) -> Self {
        TimeEvictor { moment: Moment::After, ..self }
    }

    fn evict<T>(&self, elements: &mut Vec<Stamped<T>>) {
        let Some(newest) = elements.iter().map(|element| element.time.millis()).max() else {
            return;
        };
        let until = newest.saturating_sub(self.span_ms);
        elements.retain(|element| element.time.millis() > until);
    }
}

impl<T> Evictor<T> for TimeEvictor {
    evictor!();
}

/// Keeps the elements that differ from the last one by less than a threshold.
#[derive(Clone, Copy, Debug)]
pub struct DeltaEvictor<F> {
    threshold: f64,
    delta: F,
    moment: Moment,
}

impl<F> DeltaEvictor<F> {
    /// Keeps the elements for which `delta(element, last)` is below `threshold`.
    pub fn of<T>(threshold: f64, delta: F) -> Self
    where
        F: Fn(&T, &T) -> f64 + Send + Sync + 'static,
    {
        DeltaEvictor { threshold, delta, moment: Moment::Before }
    }

    /// Drops elements after the window's function, not before it.
    #[must_use]
    pub fn after(self) -> Self {
        DeltaEvictor { moment: Moment::After, ..self }
    }

    fn evict<T>(&self, elements: &mut Vec<Stamped<T>>)
    where
        F: Fn(&T, &T) -> f64,
    {
        let Some(last) = elements.pop() else { return };
        elements.retain(|element| (self.delta)(&element.value, &last.value) < self.threshold);
        // The last one differs from itself too, if `delta` says so.
        if (self.delta)(&last.value, &last.value) < self.threshold {
            elements.push(last);
        }
    }
}

impl<T, F: Fn(&T, &T) -> f64 + Send + Sync + 'static> Evictor<T> for DeltaEvictor<F> {
    evictor!();
}

#[cfg(test)]
mod tests {
    use thalweg_engine::time::millis;
    use thalweg_engine::{EventTime, RecordId};

    use super::*;

    fn evict(evictor: &impl Evictor<i64>, times: &[i64]) -> (Vec<i64>, Vec<i64>) {
        let window = Window { start: EventTime::MIN, end: EventTime::MAX };
        let stamp = |&value: &i64| Stamped {
            value,
            time: EventTime::from_millis(value),
            id: RecordId::default(),
        };
        let mut elements: Vec<_> = times.iter().map(stamp).collect();
        evictor.before(&mut elements, window);
        let seen = elements.iter().map(|element| element.value).collect();
        evictor.after(&mut elements, window);
        (seen, elements.iter().map(|element| element.value).collect())
    }

    #[test]
    fn evictors_keep_what_flink_s_keep() {
        let times = [5, 9, 1, 8, 4];
        assert_eq!(evict(&CountEvictor::of(2), &times), (vec![8, 4], vec![8, 4]));
        assert_eq!(evict(&CountEvictor::of(9), &times).0, times);
        assert_eq!(evict(&CountEvictor::of(1).after(), &times), (times.to_vec(), vec![4]));
        // 9 - 4 = 5: an element at 5 goes, as in Flink's `TimeEvictor`.
        assert_eq!(evict(&TimeEvictor::of(millis(4)), &times).0, [9, 8]);
        assert_eq!(evict(&TimeEvictor::of(millis(5)).after(), &times).1, [5, 9, 8]);
        let delta = |a: &i64, b: &i64| (a - b).abs() as f64;
        assert_eq!(evict(&DeltaEvictor::of(4.0, delta), &times).0, [5, 1, 4]);
        assert_eq!(evict(&DeltaEvictor::of(3.0, delta).after(), &times).1, [5, 4]);
        assert!(evict(&DeltaEvictor::of(3.0, delta), &[]).0.is_empty());
    }
}
