//! The ways to a component's revisions: Services whose names stay, and whom the Gateway or the router sends requests to.

use serde_json::Value;

use super::Scene;
use crate::plan::network::{self, Backend};
use crate::plan::revision::Revision;
use crate::plan::routing;
use crate::plan::traffic::Split;
use crate::tree;

impl Scene<'_> {
    /// The revision that callers inside the cluster reach: the one that has rolled out, while it has a share.
    pub(super) fn primary(&self, split: &Split) -> &Revision {
        let rolled = split.rolled_out.as_deref().filter(|name| split.share(name) > 0);
        let largest = split.shares.iter().max_by_key(|(_, share)| *share).map(|(name, _)| name.as_str());
        let name = rolled.or(largest).unwrap_or(&self.latest.name);
        self.kept.iter().find(|own| own.name == name).unwrap_or(&self.latest)
    }

    /// Services whose names stay while revisions come and go.
    pub(super) fn named_services(&self, split: &Split) -> Vec<Value> {
        let service = tree::name(self.cx.service);
        let primary = self.primary(split);
        let render = |name: String, own: &Revision| network::service(self.cx, &name, &own.name, &own.template);
        let mut services = vec![render(format!("{service}-{}", self.kind), primary)];
        if self.routed && routing::is_up(self.cx, self.kind) {
            services = services.into_iter().map(|own| routing::service(self.cx, self.kind, own)).collect();
        }
        let tracks = [primary, &self.latest].into_iter().chain(self.tracks.iter().map(|track| &track.revision));
        for own in tracks {
            let name = own.track.as_ref().map(|track| format!("{service}-{track}-{}", self.kind));
            if let Some(name) = name.filter(|name| services.iter().all(|other| tree::name(other) != name)) {
                services.push(render(name, own));
            }
        }
        services
    }

    /// The router's children.
    pub(super) fn router(&self, split: &Split) -> Vec<Value> {
        let backends = self.backends(split);
        let latest = &self.latest;
        let mirrored = |shadow| {
            let ports = network::ports(&latest.template);
            (Backend { service: latest.name.clone(), weight: 0, ports }, shadow)
        };
        let wish = routing::Wish {
            backends: &backends,
            primary: &self.primary(split).name,
            zero: self.bounds.zero,
            shadowed: self.shadowed,
            shadow: self.shadow.map(mirrored),
        };
        routing::children(self.cx, self.kind, &wish)
    }

    /// Whom the Gateway sends requests to: the router, where there may be no pods behind it, or answers are to be compared there.
    pub(super) fn reached(&self, split: &Split) -> Vec<Backend> {
        let compares = self.shadowed && routing::is_up(self.cx, self.kind);
        if !self.bounds.zero && !compares {
            return self.backends(split);
        }
        let service = format!("{}-{}", tree::name(self.cx.service), self.kind);
        vec![Backend { service, weight: 100, ports: network::ports(&self.primary(split).template) }]
    }

    pub(super) fn backends(&self, split: &Split) -> Vec<Backend> {
        let find = |name: &str| self.kept.iter().find(|own| own.name == name);
        let shares = split.shares.iter().filter(|(_, share)| *share > 0);
        let backend = |(name, share): &(String, i32)| {
            Some(Backend { service: name.clone(), weight: *share, ports: network::ports(&find(name)?.template) })
        };
        shares.filter_map(backend).collect()
    }
}
