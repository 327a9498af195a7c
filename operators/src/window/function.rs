//! What a window holds and how a result is made of it: accumulators, or elements and a function.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::{Data, Element, EventTime, Key, ProcessingTime, RecordId, Result};

use super::Window;
use super::evictor::Evictor;
use super::pane::PaneInfo;
use crate::aggregate::Aggregate;

/// An element of a window: a record with its event time and identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stamped<T> {
    /// The record.
    pub value: T,
    /// Its event time.
    pub time: EventTime,
    /// Its identity, where the source could tell it.
    pub id: RecordId,
}

/// A window as its function sees it.
pub struct WindowContents<'a, K, T> {
    pub(super) key: &'a K,
    pub(super) window: Window,
    pub(super) elements: &'a [Stamped<T>],
    pub(super) pane: PaneInfo,
    pub(super) watermark: EventTime,
    pub(super) now: ProcessingTime,
}

impl<K, T> WindowContents<'_, K, T> {
    /// The key.
    pub fn key(&self) -> &K {
        self.key
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The elements in order of time, those of one time in the order of their identities.
    pub fn elements(&self) -> &[Stamped<T>] {
        self.elements
    }

    /// The elements without their times.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &T> + '_ {
        self.elements.iter().map(|element| &element.value)
    }

    /// Why the function is called.
    pub fn pane(&self) -> PaneInfo {
        self.pane
    }

    /// The operator's watermark. When the window is final, the watermark by which it is: how far
    /// the operator's has come depends on scheduling.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Processing time. A result that depends on it is another one in every run.
    pub fn now(&self) -> ProcessingTime {
        self.now
    }
}

/// What is done with all elements of a window, for each of its panes and when it is final.
pub trait WindowFunction<K, T>: Send + Sync + 'static {
    /// What it remembers of a key and window from one pane to the next. Of windows that merge, the
    /// state of the earliest stays.
    type State: Data + Default;
    /// The result.
    type Out: Element;

    /// Makes a result of the elements.
    ///
    /// # Errors
    /// Fails the job.
    fn process(
        &self,
        contents: &WindowContents<'_, K, T>,
        state: &mut Self::State,
    ) -> Result<Self::Out>;
}

/// A closure as a [`WindowFunction`] without state.
pub(super) struct Closure<F>(pub(super) F);

impl<K: Key, T: Data, R: Element, F> WindowFunction<K, T> for Closure<F>
where
    F: Fn(&WindowContents<'_, K, T>) -> R + Send + Sync + 'static,
{
    type State = ();
    type Out = R;

    fn process(&self, contents: &WindowContents<'_, K, T>, _state: &mut ()) -> Result<R> {
        Ok((self.0)(contents))
    }
}

/// An aggregate as a [`WindowFunction`]: behind an evictor, which needs the elements.
pub(super) struct FoldElements<A>(pub(super) A);

impl<K: Key, T: Data, A: Aggregate<T>> WindowFunction<K, T> for FoldElements<A> {
    type State = ();
    type Out = Option<A::Out>;

    fn process(&self, contents: &WindowContents<'_, K, T>, _state: &mut ()) -> Result<Self::Out> {
        if contents.elements.is_empty() {
            return Ok(None);
        }
        let mut accumulator = self.0.create();
        contents.values().for_each(|value| self.0.add(&mut accumulator, value));
        Ok(Some(self.0.finish(&accumulator)))
    }
}

/// How records are kept in a window and made into a result.
pub(super) trait Holding<K, T>: Send + Sync + 'static {
    /// What is kept of the records.
    type Contents: Data;
    /// What is kept beside them until the window is final.
    type State: Data + Default;
    /// The result.
    type Out: Element;

    fn create(&self) -> Self::Contents;

    fn add(&self, contents: &mut Self::Contents, element: &ElementRef<'_, T>);

    fn merge(&self, contents: &mut Self::Contents, other: Self::Contents);

    /// The result, if there is one.
    fn result(
        &self,
        contents: &mut Self::Contents,
        state: &mut Self::State,
        call: &PaneCall<'_, K>,
    ) -> Result<Option<Self::Out>>;

    /// True if making a result changes what is kept.
    fn evicts(&self) -> bool {
        false
    }
}

/// A record on its way into a window.
pub(super) struct ElementRef<'a, T> {
    pub(super) value: &'a T,
    pub(super) time: EventTime,
    pub(super) id: RecordId,
}

/// For which pane a result is asked.
pub(super) struct PaneCall<'a, K> {
    pub(super) key: &'a K,
    pub(super) window: Window,
    pub(super) pane: PaneInfo,
    pub(super) watermark: EventTime,
    pub(super) now: ProcessingTime,
}

/// Records are folded as they come.
pub(super) struct Folded<A>(pub(super) A);

impl<K: Key, T: Data, A: Aggregate<T>> Holding<K, T> for Folded<A> {
    type Contents = A::Accumulator;
    type State = ();
    type Out = A::Out;

    fn create(&self) -> A::Accumulator {
        self.0.create()
    }

    fn add(&self, contents: &mut A::Accumulator, element: &ElementRef<'_, T>) {
        self.0.add(contents, element.value);
    }

    fn merge(&self, contents: &mut A::Accumulator, other: A::Accumulator) {
        self.0.merge(contents, &other);
    }

    fn result(
        &self,
        contents: &mut A::Accumulator,
        _state: &mut (),
        _call: &PaneCall<'_, K>,
    ) -> Result<Option<A::Out>> {
        Ok(Some(self.0.finish(contents)))
    }
}

/// Records are kept; a function makes the result, or says that there is none.
pub(super) struct Listed<F, T> {
    pub(super) function: F,
    pub(super) evictor: Option<Arc<dyn Evictor<T>>>,
}

impl<K: Key, T: Data, R: Element, F> Holding<K, T> for Listed<F, T>
where
    F: WindowFunction<K, T, Out = Option<R>>,
{
    type Contents = Vec<Stamped<T>>;
    type State = F::State;
    type Out = R;

    fn create(&self) -> Vec<Stamped<T>> {
        Vec::new()
    }

    fn add(&self, contents: &mut Vec<Stamped<T>>, element: &ElementRef<'_, T>) {
        let ElementRef { value, time, id } = *element;
        contents.push(Stamped { value: value.clone(), time, id });
    }

    fn merge(&self, contents: &mut Vec<Stamped<T>>, mut other: Vec<Stamped<T>>) {
        contents.append(&mut other);
    }

    fn result(
        &self,
        contents: &mut Vec<Stamped<T>>,
        state: &mut F::State,
        call: &PaneCall<'_, K>,
    ) -> Result<Option<R>> {
        let in_order = |element: &Stamped<T>| (element.time, element.id);
        let PaneCall { key, window, pane, watermark, now } = *call;
        let Some(evictor) = &self.evictor else {
            // Mostly in order already, from the pane before or by arrival.
            contents.sort_by_key(in_order);
            let elements = &contents[..];
            let contents = WindowContents { key, window, elements, pane, watermark, now };
            return self.function.process(&contents, state);
        };
        evictor.before(contents, window);
        // Evictors see the order of arrival.
        let mut sorted = contents.clone();
        sorted.sort_by_key(in_order);
        let elements = &sorted[..];
        let seen = WindowContents { key, window, elements, pane, watermark, now };
        let result = self.function.process(&seen, state)?;
        evictor.after(contents, window);
        Ok(result)
    }

    fn evicts(&self) -> bool {
        self.evictor.is_some()
    }
}

/// A function that always has a result, where one may have none.
pub(super) struct Always<F>(pub(super) F);

impl<K: Key, T: Data, F: WindowFunction<K, T>> WindowFunction<K, T> for Always<F> {
    type State = F::State;
    type Out = Option<F::Out>;

    fn process(
        &self,
        contents: &WindowContents<'_, K, T>,
        state: &mut F::State,
    ) -> Result<Self::Out> {
        self.0.process(contents, state).map(Some)
    }
}
