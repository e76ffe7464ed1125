//! Schedules: snapshots and backups of a volume or a group that are made by themselves, and kept as long as the schedule
//! says. What they make is an ordinary snapshot or backup of the project, counted against its quota; its metadata names
//! the schedule, but what retention may delete stands in rows of its own, which no client can write.
//!
//! Whoever finds a schedule due, in whichever process, moves it on and adds its run in one transaction: so a run is made
//! once. What was due several times while nobody looked is due once, as all that it would have been. Runs are durable
//! tasks ([`run`]), those of one schedule one after another.

mod clock;
mod retention;
pub(crate) mod run;
pub(crate) mod store;

pub(crate) use clock::{Class, Clock, WEEKDAYS};

use crate::{VolumeError, Volumes};
use api::{Context, Page};
use state::{Timestamp, Tx};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Of one project.
const MOST: i64 = 100;
/// How long a schedule that another process has changed may go unnoticed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const TOPIC: &str = "volume-schedules";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Snapshot,
    Backup,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Snapshot => "snapshot",
            Kind::Backup => "backup",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Kind> {
        [Kind::Snapshot, Kind::Backup].into_iter().find(|k| k.as_str() == word)
    }
}

/// What a schedule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Volume(String),
    Group(String),
}

/// How many of each class are kept; of a class with 0 none are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) hourly: i64,
    pub(crate) daily: i64,
    pub(crate) weekly: i64,
    pub(crate) monthly: i64,
}

impl Keep {
    pub(crate) fn of(&self, class: Class) -> i64 {
        match class {
            Class::Hourly => self.hourly,
            Class::Daily => self.daily,
            Class::Weekly => self.weekly,
            Class::Monthly => self.monthly,
        }
    }

    fn classes(&self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(|c| self.of(*c) > 0)
    }
}

/// A schedule, as its row has it.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) id: String,
    pub(crate) project_id: String,
    pub(crate) user_id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) target: Target,
    pub(crate) keep: Keep,
    pub(crate) clock: Clock,
    /// Every so many backups of a volume one is full; the others only have what changed.
    pub(crate) full_every: i64,
    pub(crate) container: Option<String>,
    pub(crate) enabled: bool,
    /// What was due until then has been seen to.
    pub(crate) seen_at: Timestamp,
    pub(crate) next_at: Timestamp,
    pub(crate) last_at: Option<Timestamp>,
    /// Why the last run failed; empty where it did not.
    pub(crate) last_error: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Option<Timestamp>,
}

impl Schedule {
    /// When it is due next after an instant.
    fn next(&self, after: Timestamp) -> Result<Timestamp, VolumeError> {
        let all: Result<Vec<_>, _> = self.keep.classes().map(|c| self.clock.next(c, after)).collect();
        all?.into_iter().min().ok_or_else(|| {
            VolumeError::InvalidInput(
                "A schedule keeps at least one: hourly, daily, weekly or monthly.".into(),
            )
        })
    }

    /// What has become due since it was last seen to.
    fn due(&self, now: Timestamp) -> Result<Vec<Class>, VolumeError> {
        let mut due = Vec::new();
        for class in self.keep.classes() {
            if self.clock.next(class, self.seen_at)? <= now {
                due.push(class);
            }
        }
        Ok(due)
    }
}

/// What kind of a thing a schedule has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Snapshot,
    Backup,
    GroupSnapshot,
}

impl ItemKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ItemKind::Snapshot => "snapshot",
            ItemKind::Backup => "backup",
            ItemKind::GroupSnapshot => "group_snapshot",
        }
    }

    fn parse(word: &str) -> Option<ItemKind> {
        use ItemKind::{Backup, GroupSnapshot, Snapshot};
        [Snapshot, Backup, GroupSnapshot].into_iter().find(|k| k.as_str() == word)
    }
}

/// Something that a schedule has made.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) run_id: String,
    pub(crate) kind: ItemKind,
    pub(crate) classes: Vec<Class>,
    /// Of a backup: 1 is full, 2 is made on that, and so on.
    pub(crate) ordinal: i64,
    pub(crate) made_at: Timestamp,
}

/// What `PUT /schedules/{id}` may change; `None` leaves it.
#[derive(Debug, Default)]
pub(crate) struct ScheduleChange {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) keep: [Option<i64>; 4],
    pub(crate) minute: Option<i64>,
    pub(crate) hour: Option<i64>,
    pub(crate) weekday: Option<i64>,
    pub(crate) day: Option<i64>,
    pub(crate) zone: Option<String>,
    pub(crate) full_every: Option<i64>,
    pub(crate) container: Option<Option<String>>,
    pub(crate) enabled: Option<bool>,
}

impl ScheduleChange {
    fn apply(self, s: &mut Schedule) {
        let [hourly, daily, weekly, monthly] = self.keep;
        s.keep = Keep {
            hourly: hourly.unwrap_or(s.keep.hourly),
            daily: daily.unwrap_or(s.keep.daily),
            weekly: weekly.unwrap_or(s.keep.weekly),
            monthly: monthly.unwrap_or(s.keep.monthly),
        };
        s.clock = Clock {
            minute: self.minute.unwrap_or(s.clock.minute),
            hour: self.hour.unwrap_or(s.clock.hour),
            weekday: self.weekday.unwrap_or(s.clock.weekday),
            day: self.day.unwrap_or(s.clock.day),
            zone: self.zone.unwrap_or_else(|| s.clock.zone.clone()),
        };
        s.name = self.name.unwrap_or_else(|| s.name.clone());
        s.description = self.description.unwrap_or_else(|| s.description.clone());
        s.full_every = self.full_every.unwrap_or(s.full_every);
        s.container = self.container.unwrap_or_else(|| s.container.clone());
        s.enabled = self.enabled.unwrap_or(s.enabled);
    }
}

fn lock_name(id: &str) -> String {
    format!("volume-schedule:{id}")
}

impl Volumes {
    /// Looks up and authorises in one step.
    pub(crate) async fn find_schedule(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<Schedule, VolumeError> {
        let found = store::get(self.db.read(), id).await?;
        self.admit_schedule(ctx, id, rule, found)
    }

    fn admit_schedule(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        found: Option<Schedule>,
    ) -> Result<Schedule, VolumeError> {
        let found = found
            .filter(|s| Self::sees(ctx, &s.project_id))
            .ok_or_else(|| VolumeError::NotFound(format!("Schedule {id} could not be found.")))?;
        self.may(ctx, rule, &found.project_id)?;
        Ok(found)
    }

    async fn hold_schedule(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<(Tx, Schedule), VolumeError> {
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_name(id)).await?;
        let found = store::get(tx.conn(), id).await?;
        let found = self.admit_schedule(ctx, id, rule, found)?;
        Ok((tx, found))
    }

    /// Makes a schedule of these settings over the defaults: at midnight, on Mondays, on the first, UTC, every seventh
    /// backup full. The caller must be allowed to do by hand what it will do.
    pub(crate) async fn create_schedule(
        &self,
        ctx: &Context,
        kind: Kind,
        target: Target,
        settings: ScheduleChange,
    ) -> Result<Schedule, VolumeError> {
        let project_id = ctx.project_id().map_err(VolumeError::Refused)?.to_owned();
        self.may(ctx, "schedule:create", &project_id)?;
        let rule = if kind == Kind::Snapshot { "volume:create_snapshot" } else { "backup:create" };
        let owner = match &target {
            Target::Volume(id) => self.find(ctx, id, rule).await?.project_id,
            Target::Group(id) => {
                self.may(ctx, rule, &project_id)?;
                self.find_group(ctx, id, "group:create_group_snapshot").await?.project_id
            }
        };
        if owner != project_id {
            return Err(VolumeError::InvalidInput("A schedule is in its volume's project.".into()));
        }
        let now = Timestamp::now();
        let mut schedule = Schedule {
            id: state::new_id(),
            project_id,
            user_id: ctx.user.id.clone(),
            name: kind.as_str().into(),
            description: None,
            kind,
            target,
            keep: Keep::default(),
            clock: Clock { minute: 0, hour: 0, weekday: 0, day: 1, zone: "UTC".into() },
            full_every: 7,
            container: None,
            enabled: true,
            seen_at: now,
            next_at: now,
            last_at: None,
            last_error: String::new(),
            created_at: now,
            updated_at: None,
        };
        settings.apply(&mut schedule);
        self.check_schedule(&mut schedule, now)?;
        let mut tx = self.db.begin().await?;
        tx.lock(&format!("quota:{}", schedule.project_id)).await?;
        if store::count(&mut tx, &schedule.project_id).await? >= MOST {
            return Err(VolumeError::OverQuota(format!("A project has at most {MOST} schedules.")));
        }
        store::put(&mut tx, &schedule).await?;
        tx.wake(TOPIC);
        tx.commit().await?;
        Ok(schedule)
    }

    /// What is due by its settings from now on. What was due before is not made up for.
    fn check_schedule(&self, s: &mut Schedule, now: Timestamp) -> Result<(), VolumeError> {
        if s.kind == Kind::Snapshot && s.container.is_some() {
            return Err(VolumeError::InvalidInput("Only backups have a container.".into()));
        }
        s.seen_at = now;
        s.next_at = s.next(now)?;
        Ok(())
    }

    /// A page of the schedules the caller sees, and whether there are more.
    pub(crate) async fn list_schedules(
        &self,
        ctx: &Context,
        mut filter: store::Filter,
        all_projects: bool,
        page: &Page,
    ) -> Result<(Vec<Schedule>, bool), VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "schedule:get_all", home)?;
        if !(all_projects && ctx.is_admin()) {
            filter.project_id = Some(home.to_owned());
        }
        let marker = match &page.marker {
            Some(id) => Some(self.find_schedule(ctx, id, "schedule:get").await?),
            None => None,
        };
        let mut all = store::list(self.db.read(), &filter, page, marker.as_ref()).await?;
        let more = page.cut(&mut all);
        Ok((all, more))
    }

    pub(crate) async fn schedule_items(&self, ctx: &Context, id: &str) -> Result<Vec<Item>, VolumeError> {
        self.find_schedule(ctx, id, "schedule:get").await?;
        store::items(self.db.read(), id).await
    }

    pub(crate) async fn update_schedule(
        &self,
        ctx: &Context,
        id: &str,
        change: ScheduleChange,
    ) -> Result<Schedule, VolumeError> {
        let (mut tx, mut schedule) = self.hold_schedule(ctx, id, "schedule:update").await?;
        let now = Timestamp::now();
        let (clock, keep, enabled) = (schedule.clock.clone(), schedule.keep, schedule.enabled);
        let (seen_at, next_at) = (schedule.seen_at, schedule.next_at);
        change.apply(&mut schedule);
        self.check_schedule(&mut schedule, now)?;
        // A new name does not make it forget what is due.
        if (&clock, keep, enabled) == (&schedule.clock, schedule.keep, schedule.enabled) {
            (schedule.seen_at, schedule.next_at) = (seen_at, next_at);
        }
        schedule.updated_at = Some(now);
        store::put(&mut tx, &schedule).await?;
        tx.wake(TOPIC);
        tx.commit().await?;
        Ok(schedule)
    }

    /// What it has made stays, and is nobody's but its project's from now on.
    pub(crate) async fn delete_schedule(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let (mut tx, _) = self.hold_schedule(ctx, id, "schedule:delete").await?;
        store::remove(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }

    /// Has it run now. The run counts as all that is due, or else as the most frequent of what it makes.
    pub(crate) async fn run_schedule(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let (mut tx, schedule) = self.hold_schedule(ctx, id, "schedule:run").await?;
        let now = Timestamp::now();
        let due = schedule.due(now)?;
        let classes = if due.is_empty() { schedule.keep.classes().take(1).collect() } else { due };
        self.begin_run(&mut tx, schedule, classes, now).await?;
        Ok(tx.commit().await?)
    }

    async fn begin_run(
        &self,
        tx: &mut Tx,
        mut schedule: Schedule,
        classes: Vec<Class>,
        now: Timestamp,
    ) -> Result<(), VolumeError> {
        (schedule.seen_at, schedule.next_at) = (now, schedule.next(now)?);
        store::put(tx, &schedule).await?;
        run::spawn(tx, &schedule, classes, now).await
    }

    /// Begins the runs that are due; how many. Any process may call it at any time.
    pub async fn run_due_schedules(&self, now: Timestamp) -> Result<usize, VolumeError> {
        let mut begun = 0;
        for id in store::due(self.db.read(), now).await? {
            match self.run_if_due(&id, now).await {
                Ok(true) => begun += 1,
                Ok(false) => {}
                // The others have their time all the same.
                Err(e) => tracing::error!(schedule = id, error = %e, "a schedule cannot be begun"),
            }
        }
        Ok(begun)
    }

    async fn run_if_due(&self, id: &str, now: Timestamp) -> Result<bool, VolumeError> {
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_name(id)).await?;
        let found = store::get(tx.conn(), id).await?;
        let Some(schedule) = found.filter(|s| s.enabled && s.next_at <= now) else { return Ok(false) };
        let classes = schedule.due(now)?;
        self.begin_run(&mut tx, schedule, classes, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Begins runs when they are due, until `stop`. Every process that runs this crate's tasks may do so.
    pub async fn run_schedules(self: Arc<Self>, stop: CancellationToken) {
        let mut signal = self.db.signal(TOPIC);
        while !stop.is_cancelled() {
            if let Err(e) = self.run_due_schedules(Timestamp::now()).await {
                tracing::warn!(error = %e, "schedules cannot be looked at; trying again");
            }
            let next = store::next(self.db.read()).await.ok().flatten();
            let wait = next.map_or(LOOK_AGAIN, |at| {
                let micros = at.micros().saturating_sub(Timestamp::now().micros()).max(100_000);
                Duration::from_micros(micros.unsigned_abs()).min(LOOK_AGAIN)
            });
            tokio::select! {
                () = stop.cancelled() => break,
                () = signal.wait(wait) => {}
            }
        }
    }
}
