//! Stored credentials, encrypted at rest, and among them EC2's, which sign S3 requests.

use crate::input::{self, Shape};
use crate::service::S3Credential;
use crate::store::record::Fields;
use crate::store::revocations::By;
use crate::store::{CREDENTIAL, Cond, PROJECT, Record, USER};
use crate::subject::SubjectKey;
use crate::token::Target;
use crate::{Identity, IdentityError};
use api::{Caller, Context, Query, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use state::Timestamp;
use std::sync::{Arc, LazyLock};

static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let properties = json!({"type": {"type": "string", "minLength": 1, "maxLength": 255},
        "blob": {"type": "string"}, "user_id": input::id(), "project_id": input::maybe_id()});
    Shape::new("credential", properties, &["type", "blob", "user_id"])
});

const EC2: &str = "ec2";

/// An EC2 credential's id follows from its access key, so that one key can mean one thing only.
fn ec2_id(access: &str) -> String {
    hex::encode(Sha256::digest(access.as_bytes()))
}

/// The audit id that the chains of a key's tokens begin with: they end with the key.
pub(crate) fn chain(access: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(format!("ec2 {access}"))[..16])
}

fn target(c: &Record) -> [(&str, &str); 1] {
    [("target.credential.user_id", c.text("user_id"))]
}

/// What the blob of an EC2 credential holds. The last three bind it to how its maker was logged in, so that a
/// limited token cannot make an unlimited key.
struct Ec2 {
    access: String,
    secret: Secret,
    trust: Option<String>,
    app_credential: Option<String>,
}

impl Ec2 {
    fn read(blob: &str) -> Option<Ec2> {
        let blob: Value = serde_json::from_str(blob).ok()?;
        let text = |name: &str| blob[name].as_str().map(str::to_owned);
        Some(Ec2 {
            access: text("access")?,
            secret: Secret(text("secret")?),
            trust: text("trust_id"),
            app_credential: text("app_cred_id"),
        })
    }

    fn blob(&self) -> String {
        let mut blob = json!({"access": self.access, "secret": self.secret.0});
        if let Some(id) = &self.trust {
            blob["trust_id"] = id.as_str().into();
        }
        if let Some(id) = &self.app_credential {
            blob["app_cred_id"] = id.as_str().into();
        }
        blob.to_string()
    }
}

impl Identity {
    /// The record as it is stored: the blob encrypted, an EC2 key to be found by its hash.
    fn seal(&self, mut c: Record) -> Record {
        let ec2 = (c.text("type") == EC2).then(|| Ec2::read(c.text("blob"))).flatten();
        c.insert("access_hash".into(), ec2.map(|e| ec2_id(&e.access)).into());
        let (sealed, key) = self.credential_keys.sealed(c.text("blob").as_bytes());
        c.insert("blob".into(), sealed.into());
        c.insert("key_id".into(), key.into());
        c
    }

    pub(crate) fn open(&self, mut c: Record) -> Result<Record, IdentityError> {
        let plain = self.credential_keys.decrypt(c.text("blob")).and_then(|b| String::from_utf8(b).ok());
        let plain = plain.ok_or_else(|| {
            let what = format!("credential {} does not open with any of our keys", c.text("id"));
            IdentityError::State(state::StateError::Corrupt(what))
        })?;
        c.insert("blob".into(), plain.into());
        c.remove("access_hash");
        c.remove("key_id");
        Ok(c)
    }

    async fn credential_for(&self, ctx: &Context, rule: &str, id: &str) -> Result<Record, IdentityError> {
        match CREDENTIAL.get(self.db.read(), id).await? {
            Some(c) => {
                self.enforce(ctx, rule, &target(&c))?;
                self.open(c)
            }
            None => {
                self.enforce(ctx, rule, &[])?;
                Err(IdentityError::not_found("credential", id))
            }
        }
    }

    pub(crate) async fn create_credential(
        &self,
        ctx: &Context,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        let mut c = quiet(SHAPE.new_record(body))?;
        self.enforce(ctx, "identity:create_credential", &target(&c))?;
        let id = match c.text("type") {
            EC2 => {
                let mut ec2 = ec2_blob(&c)?;
                if c.opt_text("project_id").is_none() {
                    return Err(IdentityError::Invalid("An EC2 credential needs a project_id.".into()));
                }
                self.bind_to_token(ctx, &mut ec2).await?;
                c.insert("blob".into(), ec2.blob().into());
                ec2_id(&ec2.access)
            }
            _ => state::new_hex_id(),
        };
        c.insert("id".into(), id.into());
        input::default(&mut c, "project_id", Value::Null);
        let sealed = self.seal(c.clone());
        let mut change = self.begin_aside().await?;
        CREDENTIAL.insert(change.conn(), &sealed).await.map_err(taken)?;
        change.commit().await?;
        Ok(c)
    }

    /// A key made with a limited token is limited in the same way.
    async fn bind_to_token(&self, ctx: &Context, ec2: &mut Ec2) -> Result<(), IdentityError> {
        self.unlimited_token(ctx, "EC2 credentials").await?;
        let token = self.validated(&ctx.token.0).await?;
        ec2.app_credential = token.claims.app_credential.clone();
        ec2.trust = match &token.claims.target {
            Target::Trust(id) => Some(id.clone()),
            _ => None,
        };
        Ok(())
    }

    pub(crate) async fn list_credentials(
        &self,
        ctx: &Context,
        query: &Query,
    ) -> Result<Vec<Record>, IdentityError> {
        let found = self.list(&CREDENTIAL, &["user_id", "type"], Vec::new(), query).await?;
        let may = |c: &Record| self.policy.allows(&ctx.caller, "identity:list_credentials", &target(c));
        found.records.into_iter().filter(may).map(|c| self.open(c)).collect()
    }

    pub(crate) async fn show_credential(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        self.credential_for(ctx, "identity:get_credential", id).await
    }

    pub(crate) async fn update_credential(
        &self,
        ctx: &Context,
        id: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        let mut c = self.credential_for(ctx, "identity:update_credential", id).await?;
        let changes = quiet(SHAPE.changes(body, id))?;
        // Whose it is and what for never changes: that would hand rights to another.
        for name in ["type", "user_id", "project_id"] {
            if changes.get(name).is_some_and(|new| *new != c[name]) {
                return Err(IdentityError::Invalid(format!("Update of `{name}` is not allowed.")));
            }
        }
        let before = (c.text("type") == EC2).then(|| ec2_blob(&c)).transpose()?;
        c.extend(changes);
        if let Some(before) = before {
            let after = Ec2 { trust: before.trust, app_credential: before.app_credential, ..ec2_blob(&c)? };
            c.insert("blob".into(), after.blob().into());
        }
        let mut change = self.begin().await?;
        CREDENTIAL.update(change.conn(), &self.seal(c.clone())).await.map_err(taken)?;
        change.commit().await?;
        Ok(c)
    }

    pub(crate) async fn delete_credential(&self, ctx: &Context, id: &str) -> Result<(), IdentityError> {
        let c = self.credential_for(ctx, "identity:delete_credential", id).await?;
        let mut change = self.begin().await?;
        CREDENTIAL.delete(change.conn(), id).await?;
        if let (EC2, Some(ec2)) = (c.text("type"), Ec2::read(c.text("blob"))) {
            self.add_revocation(&mut change, By::Chain, &chain(&ec2.access)).await?;
        }
        change.commit().await
    }

    pub(crate) async fn create_ec2(
        &self,
        ctx: &Context,
        user: &str,
        body: &Value,
    ) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:ec2_create_credential", &[("target.credential.user_id", user)])?;
        USER.need(self.db.read(), user).await?;
        let project = body["tenant_id"]
            .as_str()
            .ok_or_else(|| crate::auth::expected("tenant_id", "the request body"))?;
        PROJECT.need(self.db.read(), project).await?;
        let mut ec2 = Ec2 {
            access: state::new_hex_id(),
            secret: Secret(state::new_hex_id()),
            trust: None,
            app_credential: None,
        };
        self.bind_to_token(ctx, &mut ec2).await?;
        self.insert_ec2(user, project, &ec2).await?;
        Ok(ec2_view(user, project, &ec2))
    }

    async fn insert_ec2(&self, user: &str, project: &str, ec2: &Ec2) -> Result<(), IdentityError> {
        let mut c = Record::new();
        for (name, value) in
            [("id", ec2_id(&ec2.access).as_str()), ("user_id", user), ("project_id", project), ("type", EC2)]
        {
            c.insert(name.into(), value.into());
        }
        c.insert("blob".into(), ec2.blob().into());
        let mut change = self.begin_aside().await?;
        CREDENTIAL.insert(change.conn(), &self.seal(c)).await.map_err(taken)?;
        change.commit().await
    }

    pub(crate) async fn list_ec2(&self, ctx: &Context, user: &str) -> Result<Vec<Record>, IdentityError> {
        self.enforce(ctx, "identity:ec2_list_credentials", &[("target.credential.user_id", user)])?;
        USER.need(self.db.read(), user).await?;
        let conds = [Cond::eq("user_id", user), Cond::eq("type", EC2)];
        let mut out = Vec::new();
        for c in CREDENTIAL.find(self.db.read(), &conds, 0).await? {
            let c = self.open(c)?;
            out.extend(Ec2::read(c.text("blob")).map(|e| ec2_view(user, c.text("project_id"), &e)));
        }
        Ok(out)
    }

    async fn by_access(&self, access: &str) -> Result<Option<Record>, IdentityError> {
        CREDENTIAL.one(self.db.read(), &[Cond::eq("access_hash", ec2_id(access).as_str())]).await
    }

    async fn ec2_of(
        &self,
        ctx: &Context,
        rule: &str,
        user: &str,
        access: &str,
    ) -> Result<(Record, Ec2), IdentityError> {
        self.enforce(ctx, rule, &[("target.credential.user_id", user)])?;
        USER.need(self.db.read(), user).await?;
        let found = self.by_access(access).await?;
        // Another user's key is not there.
        let found = found.filter(|c| c.text("user_id") == user);
        let c = self.open(found.ok_or_else(|| IdentityError::not_found("credential", access))?)?;
        let ec2 = ec2_blob(&c)?;
        Ok((c, ec2))
    }

    pub(crate) async fn show_ec2(
        &self,
        ctx: &Context,
        user: &str,
        access: &str,
    ) -> Result<Record, IdentityError> {
        let (c, ec2) = self.ec2_of(ctx, "identity:ec2_get_credential", user, access).await?;
        Ok(ec2_view(user, c.text("project_id"), &ec2))
    }

    pub(crate) async fn delete_ec2(
        &self,
        ctx: &Context,
        user: &str,
        access: &str,
    ) -> Result<(), IdentityError> {
        let (c, _) = self.ec2_of(ctx, "identity:ec2_delete_credential", user, access).await?;
        let mut change = self.begin().await?;
        CREDENTIAL.delete(change.conn(), c.text("id")).await?;
        self.add_revocation(&mut change, By::Chain, &chain(access)).await?;
        change.commit().await
    }

    /// The key's secret, and whose it is. 401 where it is unknown.
    pub(crate) async fn ec2_secret(&self, access: &str) -> Result<(Secret, SubjectKey), IdentityError> {
        let found = self.by_access(access).await?;
        let c = self.open(found.ok_or(IdentityError::Unauthenticated("no such access key"))?)?;
        let ec2 = Ec2::read(c.text("blob")).ok_or(IdentityError::Unauthenticated("not an EC2 credential"))?;
        let (user, target) = match ec2.trust {
            Some(id) => (self.signer(&id, c.text("user_id")).await?, Target::Trust(id)),
            None => (c.text("user_id").to_owned(), Target::Project(c.text("project_id").to_owned())),
        };
        Ok((ec2.secret, SubjectKey { app_credential: ec2.app_credential, ..SubjectKey::plain(user, target) }))
    }

    /// Whose a key made with a trust's token is: that of the trustor whom the token impersonated.
    async fn signer(&self, trust: &str, owner: &str) -> Result<String, IdentityError> {
        let trust = self.living_trust(trust).await?;
        let parties = [trust.text("trustor_user_id"), trust.text("trustee_user_id")];
        match parties.contains(&owner) {
            true => Ok(owner.to_owned()),
            false => Err(IdentityError::Unauthenticated("the key's trust is another user's")),
        }
    }

    pub(crate) async fn ec2_signer(&self, access: &str) -> Result<S3Credential, IdentityError> {
        let (secret, key) = self.ec2_secret(access).await?;
        let subject = self.subject(key).await?;
        if Timestamp::now() >= subject.valid_until {
            return Err(IdentityError::Unauthenticated(
                "the key's trust or application credential has expired",
            ));
        }
        if subject.app_credential.as_ref().is_some_and(|a| a.access_rules.is_some()) {
            return Err(IdentityError::Unauthenticated(
                "the key's application credential is for some requests only",
            ));
        }
        let caller = Caller {
            user: subject.user.clone(),
            scope: subject.scope.clone(),
            roles: subject.roles.clone(),
            expires_at: subject.valid_until.min(subject.look_again),
            audit_ids: Vec::new(),
            token: Secret(String::new()),
        };
        Ok(S3Credential { secret, caller: Arc::new(caller) })
    }

    /// Makes the key, or makes it what it should be.
    pub(crate) async fn put_ec2(
        &self,
        user: &str,
        project: &str,
        access: &str,
        secret: &Secret,
    ) -> Result<(), IdentityError> {
        let ec2 =
            Ec2 { access: access.to_owned(), secret: secret.clone(), trust: None, app_credential: None };
        let Some(c) = self.by_access(access).await? else {
            return self.insert_ec2(user, project, &ec2).await;
        };
        let mut c = self.open(c)?;
        let same = Ec2::read(c.text("blob")).is_some_and(|e| e.secret == ec2.secret);
        if same && c.text("user_id") == user && c.text("project_id") == project {
            return Ok(());
        }
        c.insert("user_id".into(), user.into());
        c.insert("project_id".into(), project.into());
        c.insert("blob".into(), ec2.blob().into());
        let mut change = self.begin().await?;
        CREDENTIAL.update(change.conn(), &self.seal(c)).await?;
        change.commit().await
    }
}

fn ec2_blob(c: &Record) -> Result<Ec2, IdentityError> {
    Ec2::read(c.text("blob")).ok_or_else(|| {
        IdentityError::Invalid("Invalid blob in credential: access and secret expected.".into())
    })
}

/// A schema's refusal may quote the blob that was sent.
fn quiet(read: Result<Record, IdentityError>) -> Result<Record, IdentityError> {
    read.map_err(|e| match e {
        IdentityError::Api(e) if e.message().contains("field/attribute blob") => {
            IdentityError::Invalid("Invalid input for field/attribute blob.".into())
        }
        other => other,
    })
}

/// The conflict names no access key.
fn taken(e: IdentityError) -> IdentityError {
    match e {
        IdentityError::Conflict { noun, .. } => {
            IdentityError::Conflict { noun, detail: "Duplicate entry found".into() }
        }
        other => other,
    }
}

fn ec2_view(user: &str, project: &str, ec2: &Ec2) -> Record {
    let mut out = Record::new();
    let trust = ec2.trust.as_deref().map_or(Value::Null, Value::from);
    out.insert("user_id".into(), user.into());
    out.insert("tenant_id".into(), project.into());
    out.insert("access".into(), ec2.access.as_str().into());
    out.insert("secret".into(), ec2.secret.0.as_str().into());
    out.insert("trust_id".into(), trust);
    out
}
