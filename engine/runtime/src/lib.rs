pub mod batch;
pub mod config;
pub mod connector;
pub mod duration;
pub mod value;
