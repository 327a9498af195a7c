//! The jobs against expected results and the oracle.
