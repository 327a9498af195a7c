//! Tests of epochs: of two processes that use one place, at most one goes on.
