//! Tests of the endpoint.
