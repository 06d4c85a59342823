//! DNS that answers with the nearest healthy data centre.
