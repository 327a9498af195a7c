//! The object stores that a URL can name, each behind its cargo feature.

use std::sync::Arc;

use object_store::ObjectStore;

use crate::location::Service;
use crate::{Error, Result};

/// A store for the bucket in `url`; none if this program was built without its feature. Nothing is
/// sent yet.
pub(crate) fn connect(service: Service, url: &str) -> Result<Option<Arc<dyn ObjectStore>>> {
    let built = match service {
        Service::S3 => s3(url),
        Service::Gcs => gcs(url),
        Service::Azure => azure(url),
    };
    let refused = |error: object_store::Error| Error::Location {
        location: url.to_owned(),
        detail: error.to_string(),
    };
    built.transpose().map_err(refused)
}

type Built = Option<object_store::Result<Arc<dyn ObjectStore>>>;

#[cfg(feature = "s3")]
fn s3(url: &str) -> Built {
    let built = object_store::aws::AmazonS3Builder::from_env().with_url(url).build();
    Some(built.map(|store| Arc::new(store) as _))
}

#[cfg(not(feature = "s3"))]
fn s3(_url: &str) -> Built {
    None
}

#[cfg(feature = "gcs")]
fn gcs(url: &str) -> Built {
    let built = object_store::gcp::GoogleCloudStorageBuilder::from_env().with_url(url).build();
    Some(built.map(|store| Arc::new(store) as _))
}

#[cfg(not(feature = "gcs"))]
fn gcs(_url: &str) -> Built {
    None
}

#[cfg(feature = "azure")]
fn azure(url: &str) -> Built {
    let built = object_store::azure::MicrosoftAzureBuilder::from_env().with_url(url).build();
    Some(built.map(|store| Arc::new(store) as _))
}

#[cfg(not(feature = "azure"))]
fn azure(_url: &str) -> Built {
    None
}
