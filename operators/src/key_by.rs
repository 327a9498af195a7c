//! `key_by`: gives each record a key, and all records of one key to one subtask.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::{OperatorSpec, Partition};
use thalweg_engine::state::{codec, hash_key};
use thalweg_engine::{Batch, Context, Data, Key, Operator, Outputs, Result};

use crate::stream::{Keyed, KeyedStream, Stream};

impl<T: Data> Stream<T> {
    /// Groups the records by `key`. The key is computed once and travels with the record; its
    /// hash chooses the key group, and the key group the subtask.
    ///
    /// That a key type cannot be encoded is found when the job is built: see
    /// [`check_key`](codec::check_key).
    #[track_caller]
    pub fn key_by<K: Key>(
        &self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> KeyedStream<K, T> {
        let key = Arc::new(key);
        let mut spec = OperatorSpec::stateless("key_by", Location::caller());
        spec.problems.extend(codec::check_key::<K>().err());
        let keyed =
            self.job.operator(self, spec, move || KeyBy { key: key.clone(), records: PhantomData });
        KeyedStream { stream: keyed.over_exchange(Partition::Hash) }
    }
}

struct KeyBy<F, T> {
    key: Arc<F>,
    records: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, F: Fn(&T) -> K + Send + Sync + 'static> Operator for KeyBy<F, T> {
    type In = T;
    type Out = Keyed<K, T>;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, Keyed<K, T>, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let key_of = &*self.key;
        let values = input.values.drain(..).map(|value| Keyed { key: key_of(&value), value });
        out.main.values.extend(values);
        out.main.take_columns(input);
        let hashes = &mut out.main.hashes;
        hashes.clear();
        hashes.reserve(out.main.values.len());
        for keyed in &out.main.values {
            hashes.push(hash_key(&keyed.key)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use thalweg_connectors::memory;
    use thalweg_engine::ErrorKind;

    use crate::job::Job;

    #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Place {
        Number(u64),
        Name(String),
    }

    #[test]
    fn a_key_that_cannot_be_encoded_is_a_problem_of_the_job() {
        let job = Job::new();
        let (sink, _) = memory::sink();
        let keyed = job.source("numbers", memory::source(vec![1, 2])).key_by(|n| match n {
            1 => Place::Name("one".to_owned()),
            n => Place::Number(*n),
        });
        keyed.records().sink("out", sink);
        let error = job.into_graph().validate().expect_err("the key is refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        let message = error.to_string();
        assert!(message.contains("key_by.rs") && message.contains("`Place`"), "{message}");
    }
}
