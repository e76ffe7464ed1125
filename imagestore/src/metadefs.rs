//! Metadata definitions: what properties and tags mean that clients may put on images, volumes, flavors and servers.
//! Nothing in this cloud acts on them; dashboards show them.
//!
//! Whoever may not see a namespace is told that there is none.

use crate::store::metadefs as rows;
use crate::{ImageError, Images, policy};
use api::Context;
use serde_json::{Map, Value};
use state::{StateError, Timestamp};

/// A namespace of definitions.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    pub(crate) display_name: Option<String>,
    pub(crate) description: Option<String>,
    /// For every project to see.
    pub(crate) public: bool,
    pub(crate) protected: bool,
    pub(crate) owner: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl Namespace {
    pub(crate) fn visibility(&self) -> &'static str {
        if self.public { "public" } else { "private" }
    }
}

/// What a namespace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Property,
    Tag,
    /// The association with a resource type.
    ResourceType,
}

impl Kind {
    /// As rows and policies call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Property => "property",
            Kind::Tag => "tag",
            Kind::ResourceType => "resource_type",
        }
    }

    /// As upstream's messages call it.
    fn noun(self) -> &'static str {
        match self {
            Kind::ResourceType => "resource-type-association",
            other => other.word(),
        }
    }

    /// The policies for `(one, all, add, change, remove)`.
    fn rules(self) -> [&'static str; 5] {
        match self {
            Kind::Object => [
                "get_metadef_object",
                "get_metadef_objects",
                "add_metadef_object",
                "modify_metadef_object",
                "delete_metadef_object",
            ],
            Kind::Property => [
                "get_metadef_property",
                "get_metadef_properties",
                "add_metadef_property",
                "modify_metadef_property",
                "remove_metadef_property",
            ],
            Kind::Tag => [
                "get_metadef_tag",
                "get_metadef_tags",
                "add_metadef_tag",
                "modify_metadef_tag",
                "delete_metadef_tag",
            ],
            Kind::ResourceType => [
                "get_metadef_resource_type",
                "get_metadef_resource_type",
                "add_metadef_resource_type_association",
                "add_metadef_resource_type_association",
                "remove_metadef_resource_type_association",
            ],
        }
    }

    fn missing(self, namespace: &str, name: &str) -> ImageError {
        ImageError::Missing(match self {
            Kind::ResourceType => format!(
                "The metadata definition resource-type association of resource-type={name} to \
                 namespace={namespace}, was not found."
            ),
            other => format!(
                "The metadata definition {} with name={name} was not found in namespace={namespace}.",
                other.word()
            ),
        })
    }

    fn taken(self, namespace: &str, name: &str) -> ImageError {
        ImageError::Conflict(match self {
            Kind::ResourceType => format!(
                "The metadata definition resource-type association of resource-type={name} to \
                 namespace={namespace} already exists."
            ),
            other => format!(
                "A metadata definition {} with name={name} already exists in namespace={namespace}.",
                other.word()
            ),
        })
    }
}

/// Something in a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// What is said of it, without its name.
    pub(crate) body: Map<String, Value>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl Item {
    /// From a body with a name, which a schema has checked. What is null is not said.
    pub(crate) fn read(mut body: Map<String, Value>) -> Item {
        let name = body.remove("name").and_then(|n| n.as_str().map(str::to_owned)).unwrap_or_default();
        body.retain(|_, v| !v.is_null());
        let now = Timestamp::now();
        Item { name, body, created_at: now, updated_at: now }
    }
}

/// The resource types that upstream knows from the start.
pub(crate) const RESOURCE_TYPES: [&str; 6] = [
    "OS::Cinder::Volume",
    "OS::Glance::Image",
    "OS::Nova::Aggregate",
    "OS::Nova::Flavor",
    "OS::Nova::Server",
    "OS::Trove::Instance",
];

fn no_namespace(name: &str) -> ImageError {
    ImageError::Missing(format!("Metadata definition namespace={name} was not found."))
}

fn taken(name: &str) -> ImageError {
    ImageError::Conflict(format!("The metadata definition namespace={name} already exists."))
}

fn conflict(e: StateError, or: impl FnOnce() -> ImageError) -> ImageError {
    match e {
        StateError::Conflict(_) => or(),
        e => e.into(),
    }
}

impl Images {
    fn may(&self, ctx: &Context, rule: &str, n: &Namespace) -> Result<(), ImageError> {
        let target = [("project_id", n.owner.as_str()), ("visibility", n.visibility())];
        policy::check(&self.policy, ctx, rule, &target)
    }

    fn may_here(&self, ctx: &Context, rule: &str) -> Result<(), ImageError> {
        let home = ctx.project().map(|p| p.id.as_str()).unwrap_or_default();
        policy::check(&self.policy, ctx, rule, &[("project_id", home)])
    }

    /// The namespace, if the caller may see it and do `rule` to it.
    async fn admitted(&self, ctx: &Context, name: &str, rule: &str) -> Result<Namespace, ImageError> {
        let found = rows::namespace(&self.db, name).await?.ok_or_else(|| no_namespace(name))?;
        self.may(ctx, "get_metadef_namespace", &found).map_err(|_| no_namespace(name))?;
        self.may(ctx, rule, &found)?;
        Ok(found)
    }

    pub(crate) async fn metadef_namespace(&self, ctx: &Context, name: &str) -> Result<Namespace, ImageError> {
        self.admitted(ctx, name, "get_metadef_namespace").await
    }

    /// The same for what takes something away, which a protected namespace does not allow.
    async fn admitted_to_remove(
        &self,
        ctx: &Context,
        name: &str,
        rule: &str,
        what: &str,
    ) -> Result<(), ImageError> {
        match self.admitted(ctx, name, rule).await?.protected {
            true => Err(ImageError::Forbidden(format!(
                "Metadata definition {what} is protected and cannot be deleted."
            ))),
            false => Ok(()),
        }
    }

    /// Every namespace that the caller may see.
    pub(crate) async fn metadef_namespaces(&self, ctx: &Context) -> Result<Vec<Namespace>, ImageError> {
        self.may_here(ctx, "get_metadef_namespaces")?;
        let mut all = rows::namespaces(&self.db).await?;
        all.retain(|n| self.may(ctx, "get_metadef_namespace", n).is_ok());
        Ok(all)
    }

    /// The names of the namespaces that are for one of these resource types.
    pub(crate) async fn metadefs_for(&self, resource_types: &[&str]) -> Result<Vec<String>, ImageError> {
        let mut all = Vec::new();
        for one in resource_types {
            all.extend(rows::for_resource_type(&self.db, one).await?);
        }
        Ok(all)
    }

    /// Makes a namespace with what is in it.
    pub(crate) async fn create_metadef_namespace(
        &self,
        ctx: &Context,
        new: &Namespace,
        items: &[(Kind, Item)],
    ) -> Result<(), ImageError> {
        self.may_here(ctx, "add_metadef_namespace")?;
        for (kind, _) in items {
            self.may_here(ctx, kind.rules()[2])?;
        }
        let mut tx = self.db.begin().await?;
        rows::insert_namespace(&mut tx, new).await.map_err(|e| conflict(e, || taken(&new.name)))?;
        for (kind, item) in items {
            let or = || kind.taken(&new.name, &item.name);
            rows::insert_item(&mut tx, &new.name, *kind, item).await.map_err(|e| conflict(e, or))?;
        }
        Ok(tx.commit().await?)
    }

    pub(crate) async fn change_metadef_namespace(
        &self,
        ctx: &Context,
        name: &str,
        change: impl FnOnce(&mut Namespace),
    ) -> Result<Namespace, ImageError> {
        let mut n = self.admitted(ctx, name, "modify_metadef_namespace").await?;
        change(&mut n);
        n.updated_at = Timestamp::now();
        let mut tx = self.db.begin().await?;
        let done = rows::update_namespace(&mut tx, name, &n).await;
        if !done.map_err(|e| conflict(e, || taken(&n.name)))? {
            return Err(no_namespace(name));
        }
        tx.commit().await?;
        Ok(n)
    }

    pub(crate) async fn delete_metadef_namespace(&self, ctx: &Context, name: &str) -> Result<(), ImageError> {
        self.admitted_to_remove(ctx, name, "delete_metadef_namespace", &format!("namespace {name}")).await?;
        let mut tx = self.db.begin().await?;
        if !rows::remove_namespace(&mut tx, name).await? {
            return Err(no_namespace(name));
        }
        Ok(tx.commit().await?)
    }

    pub(crate) async fn metadef_items(
        &self,
        ctx: &Context,
        namespace: &str,
        kind: Kind,
    ) -> Result<Vec<Item>, ImageError> {
        let n = self.admitted(ctx, namespace, kind.rules()[1]).await?;
        Ok(rows::items(&self.db, &n.name, kind).await?)
    }

    pub(crate) async fn metadef_item(
        &self,
        ctx: &Context,
        namespace: &str,
        kind: Kind,
        name: &str,
    ) -> Result<Item, ImageError> {
        self.admitted(ctx, namespace, kind.rules()[0]).await?;
        let found = rows::item(&self.db, namespace, kind, name).await?;
        found.ok_or_else(|| kind.missing(namespace, name))
    }

    /// Adds items; with `replace` they are all of their kind afterwards.
    pub(crate) async fn add_metadef_items(
        &self,
        ctx: &Context,
        namespace: &str,
        kind: Kind,
        items: &[Item],
        replace: bool,
    ) -> Result<(), ImageError> {
        self.admitted(ctx, namespace, kind.rules()[2]).await?;
        let mut tx = self.db.begin().await?;
        if replace {
            rows::clear(&mut tx, namespace, kind).await?;
        }
        for item in items {
            let or = || kind.taken(namespace, &item.name);
            rows::insert_item(&mut tx, namespace, kind, item).await.map_err(|e| conflict(e, or))?;
        }
        Ok(tx.commit().await?)
    }

    /// Puts another item in a named one's place.
    pub(crate) async fn change_metadef_item(
        &self,
        ctx: &Context,
        namespace: &str,
        kind: Kind,
        name: &str,
        mut item: Item,
    ) -> Result<Item, ImageError> {
        self.admitted(ctx, namespace, kind.rules()[3]).await?;
        let before = rows::item(&self.db, namespace, kind, name).await?;
        item.created_at = before.ok_or_else(|| kind.missing(namespace, name))?.created_at;
        let mut tx = self.db.begin().await?;
        let done = rows::update_item(&mut tx, namespace, kind, name, &item).await;
        if !done.map_err(|e| conflict(e, || kind.taken(namespace, &item.name)))? {
            return Err(kind.missing(namespace, name));
        }
        tx.commit().await?;
        Ok(item)
    }

    pub(crate) async fn delete_metadef_item(
        &self,
        ctx: &Context,
        namespace: &str,
        kind: Kind,
        name: &str,
    ) -> Result<(), ImageError> {
        let what = format!("{} {name}", kind.noun());
        self.admitted_to_remove(ctx, namespace, kind.rules()[4], &what).await?;
        let mut tx = self.db.begin().await?;
        if !rows::remove_item(&mut tx, namespace, kind, name).await? {
            return Err(kind.missing(namespace, name));
        }
        Ok(tx.commit().await?)
    }

    pub(crate) async fn clear_metadef_items(
        &self,
        ctx: &Context,
        namespace: &str,
        kind: Kind,
    ) -> Result<(), ImageError> {
        let rule = if kind == Kind::Tag { "delete_metadef_tags" } else { kind.rules()[4] };
        self.admitted_to_remove(ctx, namespace, rule, &format!("namespace {namespace}")).await?;
        let mut tx = self.db.begin().await?;
        rows::clear(&mut tx, namespace, kind).await?;
        Ok(tx.commit().await?)
    }

    /// The resource types, with when each was first used; those known from the start need no use.
    pub(crate) async fn metadef_resource_types(
        &self,
        ctx: &Context,
    ) -> Result<Vec<(String, Timestamp)>, ImageError> {
        self.may_here(ctx, "list_metadef_resource_types")?;
        let mut all = rows::resource_types(&self.db).await?;
        for known in RESOURCE_TYPES {
            if !all.iter().any(|(name, _)| name == known) {
                all.push((known.to_owned(), Timestamp(0)));
            }
        }
        all.sort();
        Ok(all)
    }
}
