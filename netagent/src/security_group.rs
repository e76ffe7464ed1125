//! Security groups and their rules. A project's default group is made when the project is first seen.

use ipnet::IpNet;
use state::Tx;

use crate::error::Noun;
use crate::model::{Direction, EtherType, Meta, Port, SecurityGroup, SecurityGroupRule};
use crate::network::set;
use crate::ovn::Unit;
use crate::ovn::acl::protocol_number;
use crate::service::{check_revision, owned_by};
use crate::store;
use crate::{Context, NetError, Networks, port, quota};

/// What a request may set; absent is unchanged, or the default.
#[derive(Debug, Clone, Default)]
pub struct GroupFields {
    pub project_id: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub stateful: Option<bool>,
}

/// A rule to make.
#[derive(Debug, Clone)]
pub struct NewRule {
    pub project_id: Option<String>,
    pub security_group_id: String,
    pub description: String,
    pub direction: Direction,
    pub ethertype: EtherType,
    pub protocol: Option<String>,
    pub port_range_min: Option<i64>,
    pub port_range_max: Option<i64>,
    pub remote_ip_prefix: Option<IpNet>,
    pub remote_group_id: Option<String>,
}

impl SecurityGroupRule {
    /// What the rule says, whoever says it: a group holds it once.
    pub(crate) fn fingerprint(&self) -> String {
        let protocol = self.protocol.as_deref().filter(|p| *p != "any").map(|p| match protocol_number(p) {
            Some(number) => number.to_string(),
            None => p.to_owned(),
        });
        let any = |prefix: &IpNet| prefix.prefix_len() > 0;
        format!(
            "{:?}/{:?}/{}/{:?}/{:?}/{}/{}",
            self.direction,
            self.ethertype,
            protocol.unwrap_or_default(),
            self.port_range_min,
            self.port_range_max,
            self.remote_ip_prefix.filter(any).map(|p| p.trunc().to_string()).unwrap_or_default(),
            self.remote_group_id.as_deref().unwrap_or_default(),
        )
    }
}

fn group_target(group: &SecurityGroup) -> Vec<(&'static str, String)> {
    owned_by(&group.meta.project_id)
}

impl Networks {
    /// The group, if the caller may see it.
    pub async fn security_group(&self, ctx: &Context, id: &str) -> Result<SecurityGroup, NetError> {
        self.ensure_default_group(ctx).await?;
        let found = store::get(self.db().read(), id).await?;
        self.authorised(ctx, found, id, ("get_security_group", "get_security_group"), group_target)
    }

    /// Every group that the caller may see.
    pub async fn security_groups(&self, ctx: &Context) -> Result<Vec<SecurityGroup>, NetError> {
        self.ensure_default_group(ctx).await?;
        self.owned(ctx).await
    }

    /// Names or ids of groups of the caller's project, as ids: what a server's request names. An unknown one is
    /// refused, and so is a name that two groups have.
    pub async fn security_group_ids(&self, ctx: &Context, names: &[String]) -> Result<Vec<String>, NetError> {
        let project = ctx.project().map_or("", |p| p.id.as_str()).to_owned();
        self.ensure_default_group(ctx).await?;
        let groups = store::find::<SecurityGroup>(self.db().read(), "project_id = $1", &[&project]).await?;
        names
            .iter()
            .map(|name| {
                if let Some(group) = groups.iter().find(|g| g.meta.id == *name) {
                    return Ok(group.meta.id.clone());
                }
                let mut named = groups.iter().filter(|g| g.meta.name == *name);
                match (named.next(), named.next()) {
                    (Some(group), None) => Ok(group.meta.id.clone()),
                    (Some(_), Some(_)) => Err(NetError::refused(
                        409,
                        "SecurityGroupNameNotUnique",
                        format!("Multiple security groups matching '{name}'. Use an ID to be more specific."),
                    )),
                    (None, _) => Err(Noun::SecurityGroup.not_found(name)),
                }
            })
            .collect()
    }

    /// The names of groups, in the order of the ids; unknown ids are left out.
    pub async fn security_group_names(&self, ids: &[String]) -> Result<Vec<String>, NetError> {
        let mut names = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(group) = store::get::<SecurityGroup>(self.db().read(), id).await? {
                names.push(group.meta.name);
            }
        }
        Ok(names)
    }

    async fn ensure_default_group(&self, ctx: &Context) -> Result<(), NetError> {
        let Some(project) = ctx.project().map(|p| p.id.clone()) else { return Ok(()) };
        let condition = "default_of = $1";
        if store::count(self.db().read(), "net_security_groups", condition, &[&project]).await? > 0 {
            return Ok(());
        }
        let mut tx = self.db().begin().await?;
        let group = default_group(&mut tx, &project).await?;
        self.commit(tx, vec![Unit::SecurityGroup(group.meta.id)]).await
    }

    pub(crate) async fn rules_of(&self, group: &str) -> Result<Vec<SecurityGroupRule>, NetError> {
        store::find(self.db().read(), "security_group_id = $1", &[group]).await
    }

    /// Rows of a noun that only its project and administrators see.
    pub(crate) async fn owned<E: store::Entity>(&self, ctx: &Context) -> Result<Vec<E>, NetError> {
        if self.allows(ctx, "admin_only", &[]) {
            return store::find(self.db().read(), "1 = 1", &[]).await;
        }
        let project = ctx.project().map_or("", |p| p.id.as_str());
        store::find(self.db().read(), "project_id = $1", &[project]).await
    }

    pub async fn create_security_group(
        &self,
        ctx: &Context,
        fields: GroupFields,
    ) -> Result<SecurityGroup, NetError> {
        let project = self.owner(ctx, fields.project_id.as_deref())?;
        self.enforce(ctx, "create_security_group", &[("project_id", &project)])?;
        let name = fields.name.unwrap_or_default();
        if name == "default" {
            return Err(default_exists());
        }
        let mut tx = self.db().begin().await?;
        let default = default_group(&mut tx, &project).await?;
        quota::spend(&mut tx, &project, "security_group", 1).await?;
        let group = SecurityGroup {
            meta: Meta {
                name,
                description: fields.description.unwrap_or_default(),
                revision_number: 1,
                ..Meta::new(&project)
            },
            stateful: fields.stateful.unwrap_or(true),
            is_default: false,
        };
        insert_group(&mut tx, &group).await?;
        self.commit(
            tx,
            vec![Unit::SecurityGroup(default.meta.id), Unit::SecurityGroup(group.meta.id.clone())],
        )
        .await?;
        Ok(group)
    }

    pub async fn update_security_group(
        &self,
        ctx: &Context,
        id: &str,
        fields: GroupFields,
        revision: Option<i64>,
    ) -> Result<SecurityGroup, NetError> {
        let mut tx = self.db().begin().await?;
        let found = store::get_locked::<SecurityGroup>(&mut tx, id).await?;
        let mut group =
            self.authorised(ctx, found, id, ("get_security_group", "update_security_group"), group_target)?;
        check_revision(&group, revision)?;
        if group.is_default && fields.name.as_ref().is_some_and(|name| *name != group.meta.name) {
            return Err(NetError::refused(
                409,
                "SecurityGroupCannotUpdateDefault",
                "Updating default security group not allowed.",
            ));
        }
        if !group.is_default && fields.name.as_deref() == Some("default") {
            return Err(default_exists());
        }
        let used = port::group_is_used(&mut tx, &group).await?;
        if used && fields.stateful.is_some_and(|s| s != group.stateful) {
            return Err(in_use(id));
        }
        set(&mut group.meta.name, fields.name);
        set(&mut group.meta.description, fields.description);
        set(&mut group.stateful, fields.stateful);
        store::update(&mut tx, &mut group).await?;
        self.commit(tx, vec![Unit::SecurityGroup(id.to_owned())]).await?;
        Ok(group)
    }

    pub async fn delete_security_group(
        &self,
        ctx: &Context,
        id: &str,
        revision: Option<i64>,
    ) -> Result<(), NetError> {
        let mut tx = self.db().begin().await?;
        let found = store::get_locked::<SecurityGroup>(&mut tx, id).await?;
        let group =
            self.authorised(ctx, found, id, ("get_security_group", "delete_security_group"), group_target)?;
        check_revision(&group, revision)?;
        if group.is_default && !self.allows(ctx, "admin_only", &[]) {
            return Err(NetError::refused(
                409,
                "SecurityGroupCannotRemoveDefault",
                "Insufficient rights for removing default security group.",
            ));
        }
        if port::group_is_used(&mut tx, &group).await? {
            return Err(in_use(id));
        }
        let mut units = vec![Unit::SecurityGroup(id.to_owned())];
        let condition = "security_group_id = $1 OR remote_group_id = $1";
        for rule in store::find::<SecurityGroupRule>(tx.conn(), condition, &[id]).await? {
            store::delete::<SecurityGroupRule>(&mut tx, &rule.meta.id).await?;
            if rule.security_group_id != id {
                units.push(touch(&mut tx, &rule.security_group_id).await?);
            }
        }
        store::delete::<SecurityGroup>(&mut tx, id)
            .await
            .map_err(|e| if store::is_conflict(&e) { in_use(id) } else { e })?;
        self.commit(tx, units).await
    }

    /// The rule, if the caller may see it.
    pub async fn security_group_rule(&self, ctx: &Context, id: &str) -> Result<SecurityGroupRule, NetError> {
        let found = store::get::<SecurityGroupRule>(self.db().read(), id).await?;
        let rules = ("get_security_group_rule", "get_security_group_rule");
        self.authorised(ctx, found, id, rules, |r| owned_by(&r.meta.project_id))
    }

    pub async fn security_group_rules(&self, ctx: &Context) -> Result<Vec<SecurityGroupRule>, NetError> {
        self.ensure_default_group(ctx).await?;
        self.owned(ctx).await
    }

    pub async fn create_security_group_rule(
        &self,
        ctx: &Context,
        new: NewRule,
    ) -> Result<SecurityGroupRule, NetError> {
        check_rule(&new)?;
        let mut tx = self.db().begin().await?;
        let id = new.security_group_id.clone();
        let found = store::get_locked::<SecurityGroup>(&mut tx, &id).await?;
        let group = self.authorised(
            ctx,
            found,
            &id,
            ("get_security_group", "create_security_group_rule"),
            group_target,
        )?;
        if let Some(remote) = &new.remote_group_id {
            let found = store::get::<SecurityGroup>(tx.conn(), remote).await?;
            self.authorised(ctx, found, remote, ("get_security_group", "get_security_group"), group_target)?;
        }
        let project = group.meta.project_id;
        quota::spend(&mut tx, &project, "security_group_rule", 1).await?;
        let rule = SecurityGroupRule {
            meta: Meta { description: new.description, ..Meta::new(&project) },
            security_group_id: new.security_group_id,
            direction: new.direction,
            ethertype: new.ethertype,
            protocol: new.protocol,
            port_range_min: new.port_range_min,
            port_range_max: new.port_range_max,
            remote_ip_prefix: new.remote_ip_prefix,
            remote_group_id: new.remote_group_id,
        };
        let twin = store::find::<SecurityGroupRule>(
            tx.conn(),
            "security_group_id = $1 AND fingerprint = $2",
            &[&id, &rule.fingerprint()],
        )
        .await?;
        if let Some(twin) = twin.first() {
            return Err(NetError::refused(
                409,
                "SecurityGroupRuleExists",
                format!("Security group rule already exists. Rule id is {}.", twin.meta.id),
            ));
        }
        store::insert(&mut tx, &rule).await?;
        let unit = touch(&mut tx, &id).await?;
        self.commit(tx, vec![unit]).await?;
        Ok(rule)
    }

    pub async fn delete_security_group_rule(&self, ctx: &Context, id: &str) -> Result<(), NetError> {
        let mut tx = self.db().begin().await?;
        let found = store::get::<SecurityGroupRule>(tx.conn(), id).await?;
        let rules = ("get_security_group_rule", "delete_security_group_rule");
        let rule = self.authorised(ctx, found, id, rules, |r| owned_by(&r.meta.project_id))?;
        store::delete::<SecurityGroupRule>(&mut tx, id).await?;
        let unit = touch(&mut tx, &rule.security_group_id).await?;
        self.commit(tx, vec![unit]).await
    }
}

fn default_exists() -> NetError {
    NetError::refused(409, "SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
}

fn in_use(id: &str) -> NetError {
    NetError::refused(409, "SecurityGroupInUse", format!("Security Group {id} in use."))
}

/// Gives a group its next revision: its rules have changed.
async fn touch(tx: &mut Tx, id: &str) -> Result<Unit, NetError> {
    if let Some(mut group) = store::get_locked::<SecurityGroup>(tx, id).await? {
        store::update(tx, &mut group).await?;
    }
    Ok(Unit::SecurityGroup(id.to_owned()))
}

/// The project's default group, made if this is the first sight of the project.
pub(crate) async fn default_group(tx: &mut Tx, project: &str) -> Result<SecurityGroup, NetError> {
    tx.lock(&format!("net-default-group:{project}")).await?;
    let found = store::find::<SecurityGroup>(tx.conn(), "default_of = $1", &[project]).await?;
    if let Some(group) = found.into_iter().next() {
        return Ok(group);
    }
    let group = SecurityGroup {
        meta: Meta {
            name: "default".into(),
            description: "Default security group".into(),
            revision_number: 1,
            ..Meta::new(project)
        },
        stateful: true,
        is_default: true,
    };
    insert_group(tx, &group).await?;
    crate::store::dirty::mark(tx, &Unit::SecurityGroup(group.meta.id.clone())).await?;
    Ok(group)
}

/// Inserts a group with upstream's rules: everything may leave; into a default group, its own members.
async fn insert_group(tx: &mut Tx, group: &SecurityGroup) -> Result<(), NetError> {
    store::insert(tx, group).await?;
    for ethertype in [EtherType::IPv4, EtherType::IPv6] {
        let rule = |direction, remote_group_id| SecurityGroupRule {
            meta: Meta::new(&group.meta.project_id),
            security_group_id: group.meta.id.clone(),
            direction,
            ethertype,
            protocol: None,
            port_range_min: None,
            port_range_max: None,
            remote_ip_prefix: None,
            remote_group_id,
        };
        store::insert(tx, &rule(Direction::Egress, None)).await?;
        if group.is_default {
            store::insert(tx, &rule(Direction::Ingress, Some(group.meta.id.clone()))).await?;
        }
    }
    Ok(())
}

/// The groups that a port is to be in: they exist, and belong to the port's project.
pub(crate) async fn check_members(
    tx: &mut Tx,
    port: &Port,
    groups: &[String],
) -> Result<Vec<String>, NetError> {
    let mut members: Vec<String> = Vec::with_capacity(groups.len());
    for id in groups {
        match store::get::<SecurityGroup>(tx.conn(), id).await? {
            Some(group)
                if group.meta.project_id == port.meta.project_id || port.meta.project_id.is_empty() =>
            {
                if !members.contains(id) {
                    members.push(id.clone());
                }
            }
            _ => return Err(Noun::SecurityGroup.not_found(id)),
        }
    }
    Ok(members)
}

fn check_rule(rule: &NewRule) -> Result<(), NetError> {
    let bad = |kind, message: String| Err(NetError::refused(400, kind, message));
    if rule.remote_ip_prefix.is_some() && rule.remote_group_id.is_some() {
        return bad(
            "SecurityGroupMultipleRemoteEntities",
            "Only one of remote_group_id, remote_ip_prefix and remote_address_group_id may be provided."
                .into(),
        );
    }
    if let Some(prefix) = &rule.remote_ip_prefix
        && prefix.addr().is_ipv4() != (rule.ethertype == EtherType::IPv4)
    {
        return bad(
            "SecurityGroupRuleParameterConflict",
            format!("Conflicting value ethertype {:?} for CIDR {prefix}", rule.ethertype),
        );
    }
    let (min, max) = (rule.port_range_min, rule.port_range_max);
    let Some(protocol) = rule.protocol.as_deref() else {
        if min.is_some() || max.is_some() {
            return bad(
                "SecurityGroupProtocolRequiredWithPorts",
                "Must also specify protocol if port range is given.".into(),
            );
        }
        return Ok(());
    };
    let number = protocol_number(protocol);
    if number.is_none() && protocol != "any" {
        return bad(
            "SecurityGroupRuleInvalidProtocol",
            format!(
                "Security group rule protocol {protocol} not supported. Only protocol values ['ah', 'any', 'dccp', 'egp', 'esp', 'gre', 'icmp', 'icmpv6', 'igmp', 'ipip', 'ipv6-encap', 'ipv6-frag', 'ipv6-icmp', 'ipv6-nonxt', 'ipv6-opts', 'ipv6-route', 'ospf', 'pgm', 'rsvp', 'sctp', 'tcp', 'udp', 'udplite', 'vrrp'] and integer representations [0 to 255] are supported."
            ),
        );
    }
    match number {
        Some(6 | 17 | 33 | 132 | 136) => match (min, max) {
            (None, None) => Ok(()),
            (Some(min), Some(max)) if min <= max && min > 0 => Ok(()),
            (Some(_), Some(_)) | (None, Some(_)) | (Some(_), None) => bad(
                "SecurityGroupInvalidPortRange",
                "For TCP/UDP protocols, port_range_min must be <= port_range_max".into(),
            ),
        },
        Some(1 | 58) => {
            for (field, name, value) in [("port_range_min", "type", min), ("port_range_max", "code", max)] {
                if let Some(value) = value.filter(|v| !(0..=255).contains(v)) {
                    return bad(
                        "SecurityGroupInvalidIcmpValue",
                        format!("Invalid value for ICMP {name} ({field}) {value}. It must be 0 to 255."),
                    );
                }
            }
            match (min, max) {
                (None, Some(code)) => bad(
                    "SecurityGroupMissingIcmpType",
                    format!(
                        "ICMP code (port-range-max) {code} is provided but ICMP type (port-range-min) is missing."
                    ),
                ),
                _ => Ok(()),
            }
        }
        _ if min.is_some() || max.is_some() => bad(
            "SecurityGroupInvalidProtocolForPort",
            format!(
                "Invalid protocol {protocol} for port range, only supported for ['dccp', 'sctp', 'tcp', 'udp', 'udplite']."
            ),
        ),
        _ => Ok(()),
    }
}
