//! Checkpoints: what a job has read, knows and has on its way, kept so that another run can go on from there.

pub mod storage;
