//! Who of the application is in which domain, and which places that leaves open.

use muster_placement_sdk::{Demand, Entry, Request};

use crate::settings::{Role, Settings};

/// For every domain: how many groups of each role are there.
pub(crate) struct Mixes<'a> {
    roles: &'a [Role],
    /// The asking set's role.
    own: usize,
    groups: Vec<Vec<u32>>,
    /// For every domain: groups of the application that have a role or have none.
    members: Vec<u32>,
}

impl<'a> Mixes<'a> {
    /// None if the set has no role of the mix.
    pub(crate) fn new(settings: &'a Settings, request: &Request, level: u32, domains: u32) -> Option<Self> {
        let roles = &settings.roles;
        let role_of = |labels: &[Entry]| {
            let label = labels.iter().find(|label| label.key == settings.role)?;
            roles.iter().position(|role| role.role == label.value)
        };
        let own = role_of(&request.labels)?;
        let groups = vec![vec![0; roles.len()]; domains as usize];
        let mut mixes = Self { roles, own, groups, members: vec![0; domains as usize] };
        let domain = |domains: &[u32]| domains.get(level as usize).copied();
        for placed in &request.placed {
            mixes.count(domain(&placed.domains), Some(own));
        }
        for peer in &request.peers {
            mixes.count(domain(&peer.domains), role_of(&peer.labels));
        }
        Some(mixes)
    }

    /// One more group of the asking set in the domain.
    pub(crate) fn add(&mut self, domain: u32) {
        self.count(Some(domain), Some(self.own));
    }

    fn count(&mut self, domain: Option<u32>, role: Option<usize>) {
        let Some(domain) = domain.map(|domain| domain as usize).filter(|domain| *domain < self.members.len()) else { return };
        if let Some(members) = self.members.get_mut(domain) {
            *members += 1;
        }
        if let Some(count) = role.and_then(|role| self.groups.get_mut(domain)?.get_mut(role)) {
            *count += 1;
        }
    }

    /// Groups of the application in the domain.
    pub(crate) fn members(&self, domain: u32) -> u32 {
        self.members.get(domain as usize).copied().unwrap_or_default()
    }

    /// How many mixes have been begun in the domain.
    pub(crate) fn begun(&self, domain: u32) -> u32 {
        let groups = self.groups.get(domain as usize).map_or(&[] as &[u32], Vec::as_slice);
        groups.iter().zip(self.roles).map(|(groups, role)| groups.div_ceil(role.count)).max().unwrap_or(0)
    }

    /// Domains with a mix that lacks a group of the asking set, those first that lack the fewest groups of all.
    pub(crate) fn open(&self) -> Vec<u32> {
        let domains = (0_u32..).zip(&self.groups);
        let open = domains.filter_map(|(domain, groups)| {
            let begun = self.begun(domain);
            let lacking = |(groups, role): (&u32, &Role)| (begun * role.count).saturating_sub(*groups);
            let lack: Vec<u32> = groups.iter().zip(self.roles).map(lacking).collect();
            (lack.get(self.own).copied().unwrap_or(0) > 0).then(|| (lack.iter().sum::<u32>(), domain))
        });
        let mut open: Vec<_> = open.collect();
        open.sort_unstable();
        open.into_iter().map(|(_, domain)| domain).collect()
    }

    /// What a whole mix takes, as far as it is known: own groups as they are, groups of others as so many pods of `like`.
    pub(crate) fn whole(&self, pods: &[Demand], like: u32) -> Vec<Demand> {
        let count = self.roles.get(self.own).map_or(1, |role| role.count);
        let own = pods.iter().map(|demand| Demand { pods: demand.pods.saturating_mul(count), ..*demand });
        let others = self.others(|role| role.count);
        own.chain([Demand { shape: like, pods: others }]).filter(|demand| demand.pods > 0).collect()
    }

    /// What groups of others will take that mixes in the domain still lack, as far as it is known, as pods of `like`.
    pub(crate) fn lacking(&self, domain: u32, like: u32) -> Demand {
        let begun = self.begun(domain);
        let groups = self.groups.get(domain as usize);
        let there = |role: &Role| {
            let position = self.roles.iter().position(|known| known.role == role.role);
            position.and_then(|position| groups?.get(position).copied()).unwrap_or_default()
        };
        Demand { shape: like, pods: self.others(|role| (begun * role.count).saturating_sub(there(role))) }
    }

    fn others(&self, groups: impl Fn(&Role) -> u32) -> u32 {
        let others = self.roles.iter().enumerate().filter(|(position, _)| *position != self.own);
        others.map(|(_, role)| role.pods.saturating_mul(groups(role))).fold(0, u32::saturating_add)
    }

    /// Who is in the domain: `1 prefill and 0 decode`.
    pub(crate) fn in_words(&self, domain: u32) -> String {
        let groups = self.groups.get(domain as usize).map_or(&[] as &[u32], Vec::as_slice);
        let words: Vec<_> = groups.iter().zip(self.roles).map(|(groups, role)| format!("{groups} {}", role.role)).collect();
        words.join(" and ")
    }
}
