//! What the services that run models share: calls on their lanes ([`lanes`]), the identity of a model ([`model`]), the defaults of
//! their settings ([`settings`]), and, for those that draw, the sampler of a request ([`sampling`]), its texts ([`text`]), how rows are
//! fed to the graph ([`feeds`]) and its answers ([`answers`]).

pub mod answers;
pub mod feeds;
pub mod lanes;
pub mod model;
pub mod sampling;
pub mod settings;
pub mod text;
