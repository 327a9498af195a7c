//! An object store in memory in which a request fails, before or after it took effect.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What happens at the request that a fault is planted at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails without effect.
    Before,
    /// It takes effect, but its answer is lost.
    After,
    /// The process ends before it.
    EndBefore,
    /// The process ends behind it.
    EndAfter,
}

impl Fault {
    pub(super) const ALL: [Self; 4] = [Self::Before, Self::After, Self::EndBefore, Self::EndAfter];
}

/// Clones are the same store.
#[derive(Clone, Debug, Default)]
pub(super) struct Flaky {
    inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    requests: u64,
    fault: Option<(u64, Fault)>,
    is_struck: bool,
    has_ended: bool,
}

impl Flaky {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on requests are counted from 0, and only this one fails.
    pub(super) fn plant(&self, fault: Option<(u64, Fault)>) {
        *self.lock() = State { fault, ..State::default() };
    }

    pub(super) fn requests(&self) -> u64 {
        self.lock().requests
    }

    /// Whether the planted fault has struck.
    pub(super) fn is_struck(&self) -> bool {
        self.lock().is_struck
    }

    /// Counts a request; the fault that strikes it, or an error if it has no effect.
    fn begin(&self) -> Result<Option<Fault>> {
        let mut state = self.lock();
        let number = state.requests;
        state.requests += 1;
        if state.has_ended {
            return Err(broken());
        }
        let fault = state.fault.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        state.is_struck |= fault.is_some();
        state.has_ended = matches!(fault, Some(Fault::EndBefore | Fault::EndAfter));
        match fault {
            Some(Fault::Before | Fault::EndBefore) => Err(broken()),
            fault => Ok(fault),
        }
    }

    async fn request<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.begin()?;
        let result = request.await;
        if fault.is_some() { Err(broken()) } else { result }
    }
}

fn broken() -> object_store::Error {
    object_store::Error::Generic { store: "flaky", source: "the connection is broken".into() }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flaky")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, to: &Path, bytes: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.request(self.inner.put_opts(to, bytes, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.request(self.inner.put_multipart_opts(to, opts)).await?;
        Ok(Box::new(FlakyUpload { flaky: self.clone(), upload }))
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.request(self.inner.get_opts(from, options)).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let flaky = self.clone();
        keys.then(move |key| {
            let flaky = flaky.clone();
            async move {
                let key = key?;
                let deleted = flaky.inner.delete_stream(
                    futures_util::stream::once(std::future::ready(Ok(key.clone()))).boxed(),
                );
                let deleted = async { deleted.collect::<Vec<_>>().await.into_iter().collect() };
                flaky.request::<Vec<Path>>(deleted).await?;
                Ok(key)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.begin() {
            Ok(None) => self.inner.list(prefix),
            _ => futures_util::stream::once(std::future::ready(Err(broken()))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request(self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FlakyUpload {
    flaky: Flaky,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FlakyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (flaky, part) = (self.flaky.clone(), self.upload.put_part(data));
        let request: BoxFuture<'static, Result<()>> =
            Box::pin(async move { flaky.request(part).await });
        request
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let flaky = self.flaky.clone();
        flaky.request(self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
