//! A realm as JavaScript sees it: with the zero-copy views of its memories, the bytes that V8 is told about, and whose it is at the
//! moment.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    ops::Deref,
    rc::Rc,
    sync::Arc,
};

use super::{
    backend::{AnyRealm, with_realm},
    raw::{Reference, Scope, Throw, Value},
};
use crate::{
    engine::{Engine, MemoryRegion},
    error::StoreError,
    executor::{
        CallId,
        exchange::{Asked, Exchange, Held},
        pool::NoThread,
    },
    realm::Realm,
};

/// A realm and what hangs on it. When the last handle is gone it goes too, after its views are detached.
pub struct Group {
    /// Only reached by [`Group::enter`], because it may be in the hands of another thread. Replaced by [`Group::renew`].
    realm: RefCell<AnyRealm>,
    /// The asynchronous call whose turn it is.
    turn: RefCell<Option<Turn>>,
    has_turn: Cell<bool>,
    /// The calls that wait for theirs.
    waiting: RefCell<VecDeque<CallId>>,
    /// How many synchronous calls of it are on the stack.
    running: Cell<u32>,
    views: RefCell<Vec<View>>,
    /// Of views that somebody else has detached, as byte streams and `ArrayBuffer.prototype.transfer` do: another buffer may have these.
    strays: RefCell<Vec<Stray>>,
    /// What V8 was told.
    reported: Cell<i64>,
    /// Bytes of instances' own memories and records, as far as they can be told at instantiation.
    extra: Cell<i64>,
    instances: Instances,
}

/// The instances of a group.
#[derive(Default)]
struct Instances {
    /// How many have been made in its store, or have failed to be.
    made: Cell<u32>,
    /// How many are left.
    alive: Cell<u32>,
    /// The number of the one that was made last.
    newest: Cell<Option<u32>>,
    /// How many must have been made for a fresh store to be worth its cost.
    worth_from: Cell<u32>,
    /// Bytes of memories in its store that nobody can reach any more.
    gone_bytes: Cell<u64>,
    /// How many bytes they must have taken for a garbage collection to be worth its cost, if it is only that which keeps the store.
    collect_from: Cell<i64>,
}

/// A fresh store is made for so many instances at least, or one for each so many bytes of memory, which may have to be copied, but not for more than
/// the other number.
const INSTANCES_PER_STORE: u32 = 64;
const BYTES_PER_INSTANCE: u64 = 16 * 1024;
const MOST_INSTANCES_PER_STORE: u32 = 16 * 1024;
/// Or one as soon as so many bytes of memories are gone, and a quarter of all that there are.
const LARGE_LEFT_OVERS: u64 = 1024 * 1024;
/// A garbage collection is asked for when instances have taken about so many bytes of a store, at least.
const BYTES_PER_COLLECTION: i64 = 64 * 1024 * 1024;

/// The turn of an asynchronous call: its guest's thread has the realm, except while the guest waits for its supervisor.
struct Turn {
    call: CallId,
    exchange: Arc<Exchange>,
    /// Whether the guest waits.
    is_open: bool,
    /// Then the realm can be taken hold of, and is, as long as somebody here uses it.
    held: Option<Held>,
    users: u32,
}

/// The use of a realm on this thread.
pub struct Entered<'a> {
    group: &'a Group,
    realm: AnyRealm,
    is_counted: bool,
}

impl Deref for Entered<'_> {
    type Target = AnyRealm;

    fn deref(&self) -> &AnyRealm {
        &self.realm
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.group.stop_using();
        }
    }
}

/// A zero-copy ArrayBuffer over one memory.
struct View {
    memory: u32,
    region: MemoryRegion,
    /// Weak, or the memory, which the buffer keeps alive, would never go. The wrapper of the memory refers to it, so it can be seen whether somebody
    /// else has detached it.
    buffer: Reference,
    /// Its bytes, which go with the last buffer that has them.
    bytes: Rc<Bytes>,
}

/// The bytes of a memory that may be in the hands of somebody who cannot be told when they go.
struct Stray {
    memory: u32,
    bytes: Rc<Bytes>,
}

impl Stray {
    fn is_out(&self) -> bool {
        self.bytes.are_out()
    }
}

/// What a buffer and one that took its bytes over hold on to.
#[derive(Default)]
struct Bytes {
    /// The group whose realm the bytes lie in, if that would be gone otherwise.
    group: RefCell<Option<Rc<Group>>>,
}

impl Bytes {
    /// Whether a buffer has them; one of the references is the group's.
    fn are_out(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1
    }
}

/// About what a store without objects takes, on either engine.
const STORE_BYTES: i64 = 4096;

impl Group {
    pub fn new(realm: AnyRealm) -> Self {
        Self {
            realm: RefCell::new(realm),
            turn: RefCell::default(),
            has_turn: Cell::new(false),
            waiting: RefCell::default(),
            running: Cell::new(0),
            views: RefCell::default(),
            strays: RefCell::default(),
            reported: Cell::new(0),
            extra: Cell::new(STORE_BYTES),
            instances: Instances {
                worth_from: Cell::new(INSTANCES_PER_STORE),
                collect_from: Cell::new(BYTES_PER_COLLECTION),
                ..Instances::default()
            },
        }
    }

    /// The realm, for what is allowed whoever has it.
    fn realm(&self) -> AnyRealm {
        self.realm.borrow().clone()
    }

    // Its instances

    /// Counts an instance that is about to be made: it leaves something in the store even if that fails.
    pub fn count_made(&self) {
        let made = &self.instances.made;
        made.set(made.get().saturating_add(1));
    }

    pub fn add_instance(&self, number: u32) {
        let Instances { alive, newest, .. } = &self.instances;
        alive.set(alive.get() + 1);
        newest.set(Some(number));
    }

    pub fn remove_instance(&self) {
        let alive = &self.instances.alive;
        alive.set(alive.get().saturating_sub(1));
    }

    pub fn has_instances(&self) -> bool {
        self.instances.alive.get() > 0
    }

    /// Whether its store has something of instances that are gone, and nothing of others.
    pub fn has_only_left_overs(&self) -> bool {
        let Instances { made, alive, gone_bytes, .. } = &self.instances;
        alive.get() == 0 && (made.get() > 0 || gone_bytes.get() > 0)
    }

    pub fn newest_instance(&self) -> Option<u32> {
        self.instances.newest.get()
    }

    /// Whether so much has been made in its store that is gone that a fresh one is worth its cost.
    pub fn is_worth_renewing(&self) -> bool {
        self.instances.made.get() >= self.instances.worth_from.get() || self.has_large_left_overs()
    }

    fn has_large_left_overs(&self) -> bool {
        let gone = self.instances.gone_bytes.get();
        gone >= LARGE_LEFT_OVERS && !self.has_turn.get() && gone >= self.memory_bytes() / 4
    }

    /// Takes note that nobody can reach one of its memories any more. Those that instances have made go with them.
    pub fn count_gone_memory(&self, memory: u32) {
        // While a thread has the realm nobody here may look at it.
        if self.has_turn.get() || !self.is_made(memory) {
            return;
        }
        let bytes = self.region(memory).map_or(0, |region| region.bytes as u64);
        let gone = &self.instances.gone_bytes;
        gone.set(gone.get().saturating_add(bytes.max(1)));
    }

    /// Whether nobody is using its realm, or waits to.
    pub fn is_idle(&self) -> bool {
        !self.has_turn.get() && !self.is_running() && self.waiting.borrow().is_empty()
    }

    /// Whether its instances have taken so much that it is worth a garbage collection to find out whether they can still be reached.
    pub fn is_worth_collecting(&self) -> bool {
        self.extra.get() >= self.instances.collect_from.get()
    }

    /// Has the next collection wait until there is twice as much, because instances can be reached.
    pub fn put_collection_off(&self) {
        self.instances.collect_from.set(self.extra.get().saturating_mul(2).max(BYTES_PER_COLLECTION));
    }

    /// Has the next look whether a renewal is possible wait for as many instances as a look costs.
    pub fn put_renewal_off(&self, entries: usize) {
        let Instances { made, worth_from, .. } = &self.instances;
        if self.is_worth_renewing() {
            let more = u32::try_from(entries / 8).unwrap_or(u32::MAX).max(INSTANCES_PER_STORE);
            worth_from.set(made.get().saturating_add(more));
        }
    }

    /// Whether the memory was made by the host, and not by an instance.
    pub fn is_made(&self, memory: u32) -> bool {
        with_realm!(&*self.realm.borrow(), realm => realm.is_made(memory))
    }

    /// Moves the memories `kept`, which the host has made, into a fresh store, if no instance is left. Returns the group where memory `kept[n]` is memory
    /// `n` now: this one, or a new one if this one has to stay because somebody can reach others of its memories. Bytes stay where they are,
    /// and so do buffers, but those of memories that move when they grow.
    /// Bytes of its other memories that somebody may have stay too, until nobody has them.
    pub fn renew(self: &Rc<Self>, scope: Scope, kept: &[u32], has_others: bool) -> Option<Rc<Self>> {
        let Instances { newest, worth_from, .. } = &self.instances;
        if self.has_instances() {
            return None;
        }
        newest.set(None);
        let has_kept_strays =
            self.has_strays(scope) && self.strays.borrow().iter().any(|stray| kept.contains(&stray.memory));
        let renewed = match &*self.realm.borrow() {
            AnyRealm::Wasmi(realm) => realm.renew(kept, !has_kept_strays).map(AnyRealm::Wasmi),
            AnyRealm::Wasmer(realm) => realm.renew(kept, !has_kept_strays).map(AnyRealm::Wasmer),
        };
        let Some(renewed) = renewed else {
            worth_from.set(worth_from.get().saturating_mul(2));
            self.instances.gone_bytes.set(0);
            return None;
        };
        let place = |memory: u32| kept.partition_point(|kept| *kept < memory) as u32;
        let is_kept = |memory: u32| kept.binary_search(&memory).is_ok();
        let views = self.views.borrow_mut().extract_if(.., |view| is_kept(view.memory)).collect::<Vec<_>>();
        let strays = self.strays.borrow_mut().extract_if(.., |stray| is_kept(stray.memory)).collect::<Vec<_>>();
        let home = if has_others {
            with_realm!(&*self.realm.borrow(), realm => realm.empty_memories(kept));
            Rc::new(Self::new(renewed))
        } else {
            self.detach_all(scope);
            // The bytes of memories that go with their store may be in somebody's hands.
            let left = Rc::new(Self::new(self.realm.replace(renewed)));
            left.strays.replace(self.strays.take());
            left.outlive_strays();
            self.clone()
        };
        home.views.borrow_mut().extend(views.into_iter().map(|view| View { memory: place(view.memory), ..view }));
        home.strays.borrow_mut().extend(strays.into_iter().map(|stray| Stray { memory: place(stray.memory), ..stray }));
        home.detach_stale(scope);
        home.begin_store(scope);
        if has_others {
            self.begin_store(scope);
        }
        Some(home)
    }

    /// Takes note that its store has no instances.
    fn begin_store(&self, scope: Scope) {
        let Instances { made, worth_from, collect_from, .. } = &self.instances;
        collect_from.set(BYTES_PER_COLLECTION);
        made.set(0);
        self.instances.gone_bytes.set(0);
        let per_store = u32::try_from(self.memory_bytes() / BYTES_PER_INSTANCE).unwrap_or(u32::MAX);
        worth_from.set(per_store.clamp(INSTANCES_PER_STORE, MOST_INSTANCES_PER_STORE));
        self.extra.set(STORE_BYTES);
        self.report(scope);
    }

    // Whose the realm is

    /// The realm, unless an asynchronous call has it whose guest is not waiting for its supervisor.
    #[inline]
    pub fn enter(&self) -> Result<Entered<'_>, Throw> {
        if self.has_turn.get() {
            self.use_in_turn()?;
            return Ok(Entered { group: self, realm: self.realm(), is_counted: true });
        }
        Ok(Entered { group: self, realm: self.realm(), is_counted: false })
    }

    #[cold]
    fn use_in_turn(&self) -> Result<(), Throw> {
        match &mut *self.turn.borrow_mut() {
            Some(turn) if turn.is_open => {
                if turn.users == 0 {
                    turn.held = Some(turn.exchange.hold());
                }
                turn.users += 1;
                Ok(())
            }
            _ => {
                Err(Throw::new("busy", "an asynchronous call is running in the guest or in one that shares its memory"))
            }
        }
    }

    #[cold]
    fn stop_using(&self) {
        if let Some(turn) = &mut *self.turn.borrow_mut() {
            // Not if the turn has gone on meanwhile.
            turn.users = turn.users.saturating_sub(1);
            if turn.users == 0 {
                turn.held = None;
            }
        }
    }

    /// Counts a synchronous call, until it is over.
    pub fn count_running(&self, more: i32) {
        self.running.set(self.running.get().saturating_add_signed(more));
    }

    /// Whether synchronous calls of it are on the stack.
    pub fn is_running(&self) -> bool {
        self.running.get() > 0
    }

    /// The call whose turn it is.
    pub fn turn_of(&self) -> Option<CallId> {
        self.turn.borrow().as_ref().map(|turn| turn.call)
    }

    /// Puts a call behind those that wait for their turn.
    pub fn wait_for_turn(&self, call: CallId) {
        self.waiting.borrow_mut().push_back(call);
    }

    pub fn give_up_waiting(&self, call: CallId) {
        self.waiting.borrow_mut().retain(|waiting| *waiting != call);
    }

    /// It is a call's turn: from here on the realm is its thread's.
    pub fn begin_turn(&self, scope: Scope, call: CallId, exchange: &Arc<Exchange>) {
        self.detach_all(scope);
        self.pin(scope);
        self.turn.replace(Some(Turn { call, exchange: exchange.clone(), is_open: false, held: None, users: 0 }));
        self.has_turn.set(true);
    }

    /// The guest of the turn waits for its supervisor, and the realm is this thread's until [`Group::close`] or
    /// [`Group::put_off`].
    pub fn open(&self) {
        if let Some(turn) = &mut *self.turn.borrow_mut() {
            turn.is_open = true;
        }
        let _ = self.use_in_turn();
    }

    /// The supervisor takes its time: the realm is held only while it is used.
    pub fn put_off(&self) {
        self.stop_using();
    }

    /// Whether the guest of that call's turn waits for its supervisor.
    pub fn is_open(&self, call: CallId) -> bool {
        self.turn.borrow().as_ref().is_some_and(|turn| turn.call == call && turn.is_open)
    }

    /// Whether somebody uses the realm while its guest waits.
    pub fn is_in_use(&self) -> bool {
        self.turn.borrow().as_ref().is_some_and(|turn| turn.users > 0)
    }

    /// The guest of the turn has its answer, which the caller gives it. Views go before that.
    pub fn close(&self, scope: Scope) -> Option<Held> {
        self.detach_all(scope);
        self.pin(scope);
        self.take_held()
    }

    /// The same without a look at views, for the end of the environment.
    pub fn take_held(&self) -> Option<Held> {
        let turn = &mut *self.turn.borrow_mut();
        let turn = turn.as_mut().filter(|turn| turn.is_open)?;
        turn.is_open = false;
        turn.users = 0;
        Some(turn.held.take().unwrap_or_else(|| turn.exchange.hold()))
    }

    /// Looks at what the guest of the turn asks. `false` if it is not held.
    pub fn with_asked(&self, look: impl FnOnce(&Asked)) -> bool {
        let turn = &mut *self.turn.borrow_mut();
        let held = turn.as_mut().and_then(|turn| turn.held.as_mut());
        held.and_then(Held::asked).map(|asked| look(asked)).is_some()
    }

    /// Ends the call of the turn if it waits for a thread: because it is to stop, or because it is to get none.
    pub fn run_waiting(&self, thread: Result<(), NoThread>) {
        let exchange = self.turn.borrow().as_ref().map(|turn| turn.exchange.clone());
        if let Some(exchange) = exchange {
            exchange.run_waiting(thread);
        }
    }

    /// Whether a guest of it that waits for its supervisor holds its thread.
    pub fn holds_threads(&self) -> bool {
        with_realm!(&*self.realm.borrow(), realm => !suspends(realm))
    }

    /// The turn is nobody's.
    pub fn clear_turn(&self) {
        self.turn.replace(None);
        self.has_turn.set(false);
    }

    /// The turn is over. Gives the call whose turn is next.
    pub fn end_turn(&self) -> Option<CallId> {
        self.clear_turn();
        self.waiting.borrow_mut().pop_front()
    }

    // Memories

    fn region(&self, memory: u32) -> Result<MemoryRegion, StoreError> {
        with_realm!(&*self.realm.borrow(), realm => realm.memory_region(memory))
    }

    fn detach_all(&self, scope: Scope) {
        for view in self.views.take() {
            self.detach(scope, view);
        }
    }

    fn detach(&self, scope: Scope, view: View) {
        let is_ours = view.buffer.get(scope).is_some_and(|buffer| scope.detach_buffer(buffer));
        view.buffer.delete(scope);
        if !is_ours && view.bytes.are_out() {
            self.strays.borrow_mut().push(Stray { memory: view.memory, bytes: view.bytes });
        }
    }

    /// Whether somebody has bytes of its memories, in a buffer that it cannot detach.
    pub fn has_strays(&self, scope: Scope) -> bool {
        let is_taken = |view: &View| view.buffer.get(scope).is_none_or(|buffer| scope.is_detached(buffer));
        let taken: Vec<View> = self.views.borrow_mut().extract_if(.., |view| is_taken(view)).collect();
        for view in taken {
            self.detach(scope, view);
        }
        self.strays.borrow_mut().retain(Stray::is_out);
        !self.strays.borrow().is_empty()
    }

    /// Has memories stay where they are if somebody has bytes of theirs who cannot be told that they move.
    pub fn pin(&self, scope: Scope) {
        let has_strays = self.has_strays(scope);
        with_realm!(&*self.realm.borrow(), realm => realm.pin_memories(has_strays));
    }

    /// Keeps a group that is about to go until nobody has bytes of its memories any more.
    pub fn outlive_strays(self: Rc<Self>) {
        for stray in self.strays.take().into_iter().filter(Stray::is_out) {
            stray.bytes.group.replace(Some(self.clone()));
        }
    }

    // These use the realm, so the caller has entered it.

    /// The memory's ArrayBuffer: the same one as long as the memory keeps its size.
    pub fn view(&self, scope: Scope, memory: u32, is_refused: bool) -> Result<Value, Throw> {
        if let Some(shared) = self.shared_view(scope, memory, is_refused)? {
            return Ok(shared);
        }
        let region = self.region(memory)?;
        if region.bytes > 0 {
            return Err(Throw::new(
                "no-buffers",
                "this runtime, like Electron, allows no ArrayBuffer over native memory",
            ));
        }
        scope.empty_buffer()
    }

    /// The same, but nothing if the memory is empty or the host forbids such buffers, as Electron does.
    pub fn shared_view(&self, scope: Scope, memory: u32, is_refused: bool) -> Result<Option<Value>, Throw> {
        self.detach_stale(scope);
        let mut views = self.views.borrow_mut();
        if let Some(at) = views.iter().position(|view| view.memory == memory) {
            let intact = views[at].buffer.get(scope).filter(|buffer| !scope.is_detached(*buffer));
            if intact.is_some() {
                return Ok(intact);
            }
            self.detach(scope, views.swap_remove(at));
        }
        let region = self.region(memory)?;
        if region.bytes == 0 || is_refused {
            return Ok(None);
        }
        let bytes = Rc::<Bytes>::default();
        // SAFETY: the region stays until the memory grows or the realm is dropped; before either lets JavaScript run
        // again, `detach_stale` or `release` detaches the buffer. If somebody else has, memories that would move do not
        // grow (`has_strays`), and the realm stays until the bytes are gone (`outlive_strays`).
        let buffer = unsafe { scope.external_buffer(region.base, region.bytes, bytes.clone()) };
        if let Some(buffer) = buffer {
            views.push(View { memory, region, buffer: Reference::weak(scope, buffer)?, bytes });
        }
        Ok(buffer)
    }

    /// Detaches the views of memories that have grown. To be called whenever a guest may have run, before JavaScript does.
    #[inline]
    pub fn detach_stale(&self, scope: Scope) {
        if !self.views.borrow().is_empty() {
            self.detach_stale_views(scope);
        }
    }

    fn detach_stale_views(&self, scope: Scope) {
        let is_current = |view: &View| self.region(view.memory) == Ok(view.region);
        let stale: Vec<View> = self.views.borrow_mut().extract_if(.., |view| !is_current(view)).collect();
        for view in stale {
            self.detach(scope, view);
        }
    }

    /// Detaches all views and takes back what V8 was told: the realm is about to go, see [`Group::outlive_strays`].
    pub fn release(&self, scope: Scope) {
        self.detach_all(scope);
        scope.adjust_external_memory(-self.reported.take());
    }

    /// Counts bytes that no memory of the realm's table shows.
    pub fn add_extra(&self, bytes: u64) {
        self.extra.set(self.extra.get().saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }

    fn memory_bytes(&self) -> u64 {
        let memories = with_realm!(&*self.realm.borrow(), realm => realm.memory_count());
        let regions = (0..memories).filter_map(|memory| self.region(memory).ok());
        regions.fold(0_u64, |sum, region| sum.saturating_add(region.bytes as u64))
    }

    /// Tells V8 how much native memory hangs on this group by now.
    pub fn report(&self, scope: Scope) {
        let bytes = self.extra.get().saturating_add(i64::try_from(self.memory_bytes()).unwrap_or(i64::MAX));
        scope.adjust_external_memory(bytes - self.reported.replace(bytes));
    }
}

fn suspends<E: Engine>(_: &Realm<E>) -> bool {
    E::SUSPENDS
}
