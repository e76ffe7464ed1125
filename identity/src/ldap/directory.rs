//! Talking to a directory: a few connections that search, and one of its own for every password that is tried.
//!
//! Everything ends in bounded time. Referrals are never followed. A password is only ever tried on a connection that is
//! thrown away afterwards, so that no search happens as somebody else; an empty one is never sent, because directories
//! answer that as if nobody in particular had asked, which is a success.

use super::entry::{Found, all, normal};
use super::settings::{Enabled, Reach, Settings};
use super::tls;
use crate::IdentityError;
use api::Secret;
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions, ldap_escape,
};
use rustls::ClientConfig;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};

/// Entries that an answer may have.
const MOST: usize = 200_000;
/// Members that are looked up one by one; for more, all users are read.
const FEW: usize = 20;
/// A search of many pages may take this many times as long as an answer.
const PAGES: u32 = 6;
/// A directory that was out of reach is left alone for so long: who asks meanwhile is answered at once.
const REST: Duration = Duration::from_secs(2);
/// Result codes of RFC 4511.
const SIZE_LIMIT: u32 = 4;
const REFERRAL: u32 = 10;
const ADMIN_LIMIT: u32 = 11;
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_DN: u32 = 34;
/// Wrong password, an account that may not log in, or an entry without a password.
const NOT_HIM: [u32; 5] = [48, 49, 50, 53, NO_SUCH_OBJECT];

pub(super) const AWAY: IdentityError =
    IdentityError::Away("The domain's directory is out of reach; please try again.");

pub(super) struct Directory {
    pub(super) domain: String,
    pub(super) settings: Settings,
    tls: Option<Arc<ClientConfig>>,
    searches: Semaphore,
    logins: Semaphore,
    /// Connections that may search, with when they were made.
    idle: Mutex<Vec<(Ldap, Instant)>>,
    rests_until: Mutex<Option<Instant>>,
    /// Users that are being read; many requests of one read it once.
    reading: [tokio::sync::Mutex<()>; 64],
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Directory {
    pub(super) fn new(domain: &str, settings: Settings) -> Result<Directory, IdentityError> {
        let tls = if settings.secure() { Some(Arc::new(tls::trusted(&settings)?)) } else { None };
        Ok(Directory {
            domain: domain.to_owned(),
            searches: Semaphore::new(settings.pool_size),
            logins: Semaphore::new(settings.auth_pool_size),
            settings,
            tls,
            idle: Mutex::default(),
            rests_until: Mutex::default(),
            reading: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
        })
    }

    /// Held while a user is read.
    pub(super) async fn reading(&self, id: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % 64).unwrap_or_default();
        self.reading[at].lock().await
    }

    /// Tells the log why; the caller learns that it is away. A directory's own texts are not for logs: they may quote.
    fn away(&self, what: &str, e: &LdapError) -> IdentityError {
        let code = match e {
            LdapError::LdapResult { result } => format!("result {}", result.rc),
            other => other.to_string(),
        };
        tracing::warn!(domain = self.domain, what, error = code, "a directory does not answer as it should");
        match e {
            LdapError::LdapResult { result } if [SIZE_LIMIT, ADMIN_LIMIT].contains(&result.rc) => {
                IdentityError::Away(
                    "The number of entries returned by LDAP exceeds its size limit. Contact your LDAP administrator.",
                )
            }
            LdapError::LdapResult { .. } | LdapError::FilterParsing | LdapError::AdapterInit(_) => AWAY,
            _ => {
                *lock(&self.rests_until) = Some(Instant::now() + REST);
                lock(&self.idle).clear();
                AWAY
            }
        }
    }

    /// Waits for a place, and not where nobody is there to answer.
    async fn place<'a>(&self, places: &'a Semaphore) -> Result<SemaphorePermit<'a>, IdentityError> {
        let place = tokio::time::timeout(self.settings.timeout, places.acquire()).await;
        let rests = lock(&self.rests_until).is_some_and(|t| Instant::now() < t);
        match place {
            Ok(Ok(place)) if !rests => Ok(place),
            _ => Err(AWAY),
        }
    }

    async fn connect(&self) -> Result<Ldap, LdapError> {
        let mut last = LdapError::EndOfStream;
        for url in &self.settings.urls {
            let mut how = LdapConnSettings::new()
                .set_conn_timeout(self.settings.timeout)
                .set_starttls(self.settings.start_tls && url.scheme() == "ldap");
            if let Some(tls) = &self.tls {
                how = how.set_config(tls.clone());
            }
            let connecting = LdapConnAsync::from_url_with_settings(how, url);
            match tokio::time::timeout(self.settings.timeout, connecting).await {
                Ok(Ok((connection, ldap))) => {
                    tokio::spawn(async move {
                        if let Err(e) = connection.drive().await {
                            tracing::debug!(error = %e, "a connection to a directory ended");
                        }
                    });
                    return Ok(ldap);
                }
                Ok(Err(e)) => last = e,
                Err(elapsed) => last = LdapError::Timeout { elapsed },
            }
        }
        Err(last)
    }

    /// A connection that may search.
    async fn open(&self) -> Result<Ldap, LdapError> {
        let mut ldap = self.connect().await?;
        if let Some((user, Secret(password))) = &self.settings.login {
            ldap.with_timeout(self.settings.timeout).simple_bind(user, password).await?.success()?;
        }
        Ok(ldap)
    }

    fn idle(&self) -> Option<(Ldap, Instant)> {
        let mut idle = lock(&self.idle);
        while let Some((mut ldap, made)) = idle.pop() {
            if !ldap.is_closed() && made.elapsed() < self.settings.lifetime {
                return Some((ldap, made));
            }
        }
        None
    }

    async fn search(
        &self,
        at: (&str, Scope),
        filter: &str,
        attributes: &[String],
    ) -> Result<Vec<SearchEntry>, IdentityError> {
        let _place = self.place(&self.searches).await?;
        let limit = self.settings.timeout * PAGES;
        match tokio::time::timeout(limit, self.search_anyhow(at, filter, attributes)).await {
            Ok(found) => found.map_err(|e| self.away("search", &e)),
            Err(elapsed) => Err(self.away("search", &LdapError::Timeout { elapsed })),
        }
    }

    async fn search_anyhow(
        &self,
        at: (&str, Scope),
        filter: &str,
        attributes: &[String],
    ) -> Result<Vec<SearchEntry>, LdapError> {
        if let Some(connection) = self.idle() {
            match self.search_on(connection, at, filter, attributes).await {
                // A connection that has waited may have been closed meanwhile; an answer is an answer.
                Err(LdapError::Io { .. } | LdapError::EndOfStream | LdapError::OpSend { .. }) => {}
                Err(LdapError::ResultRecv { .. }) => {}
                done => return done,
            }
        }
        self.search_on((self.open().await?, Instant::now()), at, filter, attributes).await
    }

    async fn search_on(
        &self,
        (mut ldap, made): (Ldap, Instant),
        (base, reach): (&str, Scope),
        filter: &str,
        attributes: &[String],
    ) -> Result<Vec<SearchEntry>, LdapError> {
        let mut adapters: Vec<Box<dyn Adapter<'_, String, Vec<String>>>> = vec![Box::new(EntriesOnly::new())];
        if self.settings.page_size > 0 && reach != Scope::Base {
            adapters.push(Box::new(PagedResults::new(self.settings.page_size)));
        }
        let attributes = attributes.to_vec();
        ldap.with_timeout(self.settings.timeout);
        ldap.with_search_options(SearchOptions::new().deref(self.settings.aliases));
        let mut stream = ldap.streaming_search_with(adapters, base, reach, filter, attributes).await?;
        let mut found = Vec::new();
        while let Some(entry) = stream.next().await? {
            if found.len() >= MOST {
                return Err(LdapError::AdapterInit("too many entries".into()));
            }
            found.push(SearchEntry::construct(entry));
        }
        let result = stream.finish().await;
        match result.rc {
            0 => {}
            // What is not there has nobody in it, and what is elsewhere is not there.
            NO_SUCH_OBJECT | INVALID_DN | REFERRAL => found.clear(),
            _ => drop(result.success()?),
        }
        if !self.settings.lifetime.is_zero() {
            lock(&self.idle).push((ldap, made));
        }
        Ok(found)
    }

    fn reach(&self) -> Scope {
        match self.settings.reach {
            Reach::One => Scope::OneLevel,
            Reach::Sub => Scope::Subtree,
        }
    }

    /// Users by a filter of [`super::settings::Tree::matching`].
    pub(super) async fn users(&self, filter: &str) -> Result<Vec<Found>, IdentityError> {
        let s = &self.settings;
        let entries = self.search((&s.users.base, self.reach()), filter, &s.user_attributes()).await?;
        let found = entries.iter().filter_map(|e| s.user(e)).collect();
        self.enabled_by_group(found).await
    }

    async fn enabled_by_group(&self, mut found: Vec<Found>) -> Result<Vec<Found>, IdentityError> {
        let Enabled::Group { dn, member, by_id } = &self.settings.enabled else { return Ok(found) };
        let mut enabled = HashSet::new();
        let attributes = std::slice::from_ref(member);
        if found.len() <= FEW {
            for user in &found {
                let named = if *by_id { &user.local } else { &user.dn };
                let filter = format!("({member}={})", ldap_escape(named.as_str()));
                if !self.search((dn, Scope::Base), &filter, attributes).await?.is_empty() {
                    enabled.insert(normal(&user.dn));
                }
            }
        } else {
            let entries = self.search((dn, Scope::Base), "(objectClass=*)", attributes).await?;
            let members = entries.iter().flat_map(|e| all(e, member));
            match *by_id {
                true => {
                    let ids: HashSet<String> = members.map(|m| m.to_lowercase()).collect();
                    let members = found.iter().filter(|u| ids.contains(&u.local.to_lowercase()));
                    enabled.extend(members.map(|u| normal(&u.dn)));
                }
                false => enabled.extend(members.map(|m| normal(&m))),
            }
        }
        for user in &mut found {
            user.record.insert("enabled".into(), enabled.contains(&normal(&user.dn)).into());
        }
        Ok(found)
    }

    pub(super) async fn all_users(&self) -> Result<Vec<Found>, IdentityError> {
        self.users(&self.settings.users.matching("")).await
    }

    pub(super) async fn user_with(
        &self,
        attribute: &str,
        value: &str,
    ) -> Result<Option<Found>, IdentityError> {
        let mut found = self.users(&self.settings.users.with(attribute, value)).await?;
        if found.len() > 1 {
            tracing::warn!(
                domain = self.domain,
                attribute,
                "several users of a directory have the same name or id"
            );
            return Ok(None);
        }
        Ok(found.pop())
    }

    async fn groups(&self, filter: &str) -> Result<Vec<Found>, IdentityError> {
        let s = &self.settings;
        let entries = self.search((&s.groups.base, self.reach()), filter, &s.group_attributes()).await?;
        Ok(entries.iter().filter_map(|e| s.group(e)).collect())
    }

    pub(super) async fn all_groups(&self) -> Result<Vec<Found>, IdentityError> {
        self.groups(&self.settings.groups.matching("")).await
    }

    pub(super) async fn group_with(
        &self,
        attribute: &str,
        value: &str,
    ) -> Result<Option<Found>, IdentityError> {
        Ok(self.groups(&self.settings.groups.with(attribute, value)).await?.pop())
    }

    /// The groups that a user is in.
    pub(super) async fn groups_of(&self, user: &Found) -> Result<Vec<Found>, IdentityError> {
        let s = &self.settings;
        let named = if s.members_are_ids { &user.local } else { &user.dn };
        let rule = if s.nesting { ":1.2.840.113556.1.4.1941:" } else { "" };
        let condition = format!("({}{rule}={})", s.member, ldap_escape(named.as_str()));
        self.groups(&s.groups.matching(&condition)).await
    }

    /// The users that are in a group; entries of other kinds do not count.
    pub(super) async fn members_of(&self, group: &Found) -> Result<Vec<Found>, IdentityError> {
        let s = &self.settings;
        if s.nesting {
            let within = format!("(memberOf:1.2.840.113556.1.4.1941:={})", ldap_escape(group.dn.as_str()));
            return self.users(&s.users.matching(&within)).await;
        }
        let member = std::slice::from_ref(&s.member);
        let entries = self.search((&group.dn, Scope::Base), "(objectClass=*)", member).await?;
        let named: Vec<String> = entries.iter().flat_map(|e| all(e, &s.member)).collect();
        if named.len() > FEW {
            let mut users = self.all_users().await?;
            if s.members_are_ids {
                let ids: HashSet<String> = named.iter().map(|n| n.to_lowercase()).collect();
                users.retain(|u| ids.contains(&u.local.to_lowercase()));
            } else {
                let dns: HashSet<_> = named.iter().map(|n| normal(n)).collect();
                users.retain(|u| dns.contains(&normal(&u.dn)));
            }
            return Ok(users);
        }
        let mut found = Vec::new();
        for one in named {
            if s.members_are_ids {
                found.extend(self.user_with(&s.users.id, &one).await?);
            } else if self.is_in_reach(&one) {
                let entries =
                    self.search((&one, Scope::Base), &s.users.matching(""), &s.user_attributes()).await?;
                found.extend(entries.iter().filter_map(|e| s.user(e)));
            }
        }
        self.enabled_by_group(found).await
    }

    /// What is not below the users' tree is no user, whatever it looks like.
    fn is_in_reach(&self, dn: &str) -> bool {
        let (dn, base) = (normal(dn), normal(&self.settings.users.base));
        let below = dn.len().saturating_sub(base.len());
        let deep = match self.settings.reach {
            Reach::One => below == 1,
            Reach::Sub => below >= 1,
        };
        deep && dn.ends_with(&base)
    }

    /// Whether this is the password of the entry.
    pub(super) async fn is_password(&self, dn: &str, password: &str) -> Result<bool, IdentityError> {
        if password.is_empty() || dn.is_empty() {
            return Ok(false);
        }
        let _place = self.place(&self.logins).await?;
        let mut ldap = self.connect().await.map_err(|e| self.away("connect", &e))?;
        let bound = ldap.with_timeout(self.settings.timeout).simple_bind(dn, password).await;
        let bound = bound.map_err(|e| self.away("bind", &e))?;
        if let Err(e) = ldap.unbind().await {
            tracing::debug!(error = %e, "a connection to a directory did not end well");
        }
        match bound.rc {
            0 => Ok(true),
            rc if NOT_HIM.contains(&rc) => Ok(false),
            rc => {
                tracing::warn!(domain = self.domain, rc, "a directory refuses to check a password");
                Err(AWAY)
            }
        }
    }
}
