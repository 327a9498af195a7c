//! Tests of object stores.
