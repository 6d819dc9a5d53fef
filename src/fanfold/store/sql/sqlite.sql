-- Every statement that fanfold says to SQLite. Each has a name and one line that says what it is for. A value that is a
-- list arrives as JSON.

-- name: has_migrations
-- Whether the database remembers its migrations.
select 1 from sqlite_schema where type = 'table' and name = 'migration';

-- name: migrations
-- The tables that remember which migrations a database has had.
create table if not exists migration (
    no       integer primary key,
    checksum text not null,
    applied  real not null
) strict;

-- name: migrated
-- The migrations that the database has had.
select no, checksum from migration order by no;

-- name: note_migration
-- Remember a migration.
insert into migration (no, checksum, applied) values (:no, :checksum, (julianday('now') - 2440587.5) * 86400.0);

-- name: foreign_tables
-- The tables of a database that no migration has made.
select name from sqlite_schema where type = 'table' and name not in ('migration', 'sqlite_sequence');

-- name: touch_thread
-- See that a thread has a row.
insert into thread (thread_id) values (:thread) on conflict (thread_id) do nothing;

-- name: holder
-- Who runs a thread.
select owner, worker from thread where thread_id = :thread;

-- name: hold_thread
-- Who runs a thread, which stays so until the transaction ends.
select owner, worker from thread where thread_id = :thread;

-- name: lapsed
-- Whether nobody has heard of a process for longer than its leases last. To be asked when its thread is held: only a
-- statement that begins later sees a beat that was waited for.
select expires_at < (julianday('now') - 2440587.5) * 86400.0 from worker where worker_id = :worker;

-- name: claim
-- Become the runner of a thread, in an epoch of one's own.
update thread
set epoch = epoch + 1, owner = :owner, worker = :worker, claimed = (julianday('now') - 2440587.5) * 86400.0
where thread_id = :thread returning epoch;

-- name: release
-- Stop being the runner of a thread.
update thread set owner = null, worker = null where thread_id = :thread and epoch = :epoch;

-- name: fence
-- The epoch and the runner of each of these threads.
select thread_id, epoch, owner from thread where thread_id in (select value from json_each(:threads));

-- name: beat
-- A process lives, and its leases go on.
insert into worker (worker_id, host, pid, expires_at)
values (:worker, :host, :pid, (julianday('now') - 2440587.5) * 86400.0 + :ttl)
on conflict (worker_id) do update set expires_at = excluded.expires_at;

-- name: leases
-- The threads that a process runs, by what the database says.
select thread_id, epoch from thread where worker = :worker and owner is not null;

-- name: forget_workers
-- Processes that have not been heard of for a day.
delete from worker where expires_at < (julianday('now') - 2440587.5) * 86400.0 - 86400.0;

-- name: open_run
-- Admit a run, or mark one that is there as running again.
insert into run (run_id, thread_id, graph, digest, status, created, error, settings, begun_at)
values (:run, :thread, :graph, :digest, :status, :created, '', :settings, :at)
on conflict (run_id) do update
set status = excluded.status, finished = null, error = '', digest = excluded.digest, begun_at = excluded.begun_at;

-- name: close_run
-- A sitting of a run has ended.
update run set status = :status, finished = :finished, error = :error where run_id = :run;

-- name: keep_final
-- A result that nothing may take the place of.
insert into task_result
    (thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, attempt, epoch, parent, branch, data)
values
    (:thread_id, :namespace, :checkpoint_id, :run_id, :task_id, :kind, :name, :step, :attempt, :epoch, :parent, :branch,
    :data)
on conflict (thread_id, namespace, checkpoint_id, branch, task_id, kind) do nothing;

-- name: attempts
-- Which attempts the results of these tasks are of.
select task_id, kind, attempt from task_result
where thread_id = :thread_id and namespace = :namespace and checkpoint_id = :checkpoint_id
    and branch = :branch and task_id in (select value from json_each(:tasks));

-- name: keep_latest
-- Something that a task has come to, in the place of what it had before.
insert into task_result
    (thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, attempt, epoch, parent, branch, data)
values
    (:thread_id, :namespace, :checkpoint_id, :run_id, :task_id, :kind, :name, :step, :attempt, :epoch, :parent, :branch,
    :data)
on conflict (thread_id, namespace, checkpoint_id, branch, task_id, kind) do update
set run_id = excluded.run_id, attempt = excluded.attempt, epoch = excluded.epoch, data = excluded.data;

-- name: keep_checkpoint
-- Where a thread stands after a step, numbered on from the last; harmless when it is there already. What is not full
-- has to have a parent.
insert into checkpoint
    (thread_id, namespace, seq, checkpoint_id, parent_id, run_id, step, source, created, "full", around, data)
select :thread_id, :namespace, coalesce(max(seq), -1) + 1, :checkpoint_id, :parent_id, :run_id, :step, :source,
    :created, :full, :around, :data
from checkpoint where thread_id = :thread_id and namespace = :namespace
having :full or exists (
    select 1 from checkpoint
    where thread_id = :thread_id and namespace = :namespace and checkpoint_id = :parent_id
)
on conflict (thread_id, namespace, checkpoint_id) do nothing returning seq;

-- name: checkpoint_is
-- The checkpoint of that id, to be compared with one that is to be kept under it.
select parent_id, run_id, step, source, created, "full", around, data from checkpoint
where thread_id = :thread_id and namespace = :namespace and checkpoint_id = :checkpoint_id;

-- name: last_event
-- The number of what happens next in a run, and the hash of what happened last.
select no + number, hash from event where run_id = :run order by no desc limit 1;

-- name: events_from
-- What happened, from the row on that a number is in; and the hashes.
select no, number, data, packed, hash from event
where run_id = :run and no >= (select max(no) from event where run_id = :run and no <= :no) order by no;

-- name: keep_events
-- What happened, in order.
insert into event (run_id, no, number, data, packed, hash) values (:run, :no, :number, '', :packed, :hash);

-- name: owner
-- Who runs a thread, unless their lease has lapsed.
select t.owner from thread t join worker w on w.worker_id = t.worker
where t.thread_id = :thread and t.owner is not null
    and w.expires_at >= (julianday('now') - 2440587.5) * 86400.0;

-- name: newest_checkpoint
-- The last checkpoint of a thread.
select checkpoint_id from checkpoint
where thread_id = :thread and namespace = :namespace order by seq desc limit 1;

-- name: chain
-- A checkpoint and its parents, back to the nearest that holds all values.
with recursive chain as (
    select * from checkpoint where thread_id = :thread and namespace = :namespace and checkpoint_id = :checkpoint
    union all
    select c.* from checkpoint c join chain on c.checkpoint_id = chain.parent_id
    where not chain."full" and c.thread_id = :thread and c.namespace = :namespace
)
select thread_id, namespace, checkpoint_id, parent_id, run_id, step, source, created, "full", data, around
from chain order by seq;

-- name: results_of_chain
-- What the tasks of these checkpoints have come to, in the order in which it was kept.
select thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, data, parent, attempt, branch
from task_result
where thread_id = :thread and namespace = :namespace
    and branch = '' and checkpoint_id in (select value from json_each(:checkpoints))
order by no;

-- name: history
-- All checkpoints of a thread, the newest first.
select thread_id, namespace, checkpoint_id, parent_id, run_id, step, source, created, "full", data, around
from checkpoint where thread_id = :thread and namespace = :namespace order by seq desc;

-- name: forget_checkpoints
-- Delete the checkpoints of a thread.
delete from checkpoint where thread_id = :thread;

-- name: forget_results
-- Delete what hangs on the checkpoints of a thread.
delete from task_result where thread_id = :thread;

-- name: forget_events
-- Delete what happened in the runs of a thread.
delete from event where run_id in (select run_id from run where thread_id = :thread);

-- name: forget_runs
-- Delete the runs of a thread.
delete from run where thread_id = :thread;

-- name: forget_pins
-- Delete the pins of a thread.
delete from pin where thread_id = :thread;

-- name: forget_pruned
-- Delete the notes of how far a thread was pruned.
delete from pruned where thread_id = :thread;

-- name: forget_thread
-- Leave nothing of a thread but the number of its last epoch, so that whoever ran it is refused.
update thread set epoch = epoch + 1, owner = null, worker = null where thread_id = :thread;

-- name: runs_named
-- The runs whose id begins with the given text, first the one that is it; two are enough to know that it is ambiguous.
select run_id, thread_id, graph, digest, status, created, finished, error, settings
from run where substr(run_id, 1, length(:start)) = :start order by run_id limit 2;

-- name: runs
-- The newest runs first, of those that were created no later than a time.
select run_id, thread_id, graph, digest, status, created, finished, error, settings
from run where created <= :until order by created desc, rowid desc limit :limit;

-- name: results_of_run
-- Everything that tasks of a run have come to, in the order in which it was kept.
select thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, data, parent, attempt, branch
from task_result where run_id = :run order by no;

-- name: events_of_run
-- Everything that happened in a run, in order.
select no, data, packed from event where run_id = :run order by no;

-- name: count_events
-- How much has happened in a run.
select coalesce(max(no + number), 0) from event where run_id = :run;

-- name: take_turn
-- The next thing of a writer that may not be done twice; nothing is returned when it has been done.
insert into turn (writer, no, at) values (:writer, :no, (julianday('now') - 2440587.5) * 86400.0)
on conflict (writer) do update set no = excluded.no, at = excluded.at where turn.no < excluded.no
returning no;

-- name: forget_turns
-- Writers that have not been heard of for a day.
delete from turn where at < (julianday('now') - 2440587.5) * 86400.0 - 86400.0;

-- name: hold_items
-- Nothing is left to do: a transaction that writes has the whole file.
select 1 where false;

-- name: set_savepoint
-- Where to go back to within a transaction.
savepoint items;

-- name: return_to_savepoint
-- Undo what was done since.
rollback to savepoint items;

-- name: release_savepoint
-- Keep what was done since.
release savepoint items;

-- name: keep_item
-- Put an item, whatever was there. One whose time is over counts as gone.
insert into item (namespace, key, data, words, sealed, version, born, created, updated, ttl, expires_at)
select :namespace, :key, :data, :words, :sealed, v.last + 1, v.last + 1, t.now, t.now, :ttl, t.now + :ttl
from item_version v, (select (julianday('now') - 2440587.5) * 86400.0 as now) t where true
on conflict (namespace, key) do update
set born = iif(coalesce(item.expires_at <= excluded.updated, false), excluded.born, item.born),
    created = iif(coalesce(item.expires_at <= excluded.updated, false), excluded.created, item.created),
    data = excluded.data, words = excluded.words, sealed = excluded.sealed, version = excluded.version,
    updated = excluded.updated, ttl = excluded.ttl, expires_at = excluded.expires_at;

-- name: add_item
-- Put an item if there is none. One whose time is over counts as gone.
insert into item (namespace, key, data, words, sealed, version, born, created, updated, ttl, expires_at)
select :namespace, :key, :data, :words, :sealed, v.last + 1, v.last + 1, t.now, t.now, :ttl, t.now + :ttl
from item_version v, (select (julianday('now') - 2440587.5) * 86400.0 as now) t where true
on conflict (namespace, key) do update
set born = excluded.born, created = excluded.created, data = excluded.data, words = excluded.words,
    sealed = excluded.sealed, version = excluded.version, updated = excluded.updated, ttl = excluded.ttl,
    expires_at = excluded.expires_at
where item.expires_at <= excluded.updated
returning version;

-- name: change_item
-- Put an item if it has a certain version.
update item
set data = :data, words = :words, sealed = :sealed, version = v.last + 1, updated = t.now, ttl = :ttl,
    expires_at = t.now + :ttl
from item_version v, (select (julianday('now') - 2440587.5) * 86400.0 as now) t
where namespace = :namespace and key = :key and version = :expected
    and (expires_at is null or expires_at > t.now)
returning version;

-- name: drop_item
-- Delete an item if it has a certain version.
delete from item
where namespace = :namespace and key = :key and version = :expected
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0)
returning version;

-- name: forget_item
-- Delete an item.
delete from item where namespace = :namespace and key = :key;

-- name: forget_vectors
-- Delete the vectors of an item's older versions.
delete from item_vector
where (item, version) in (
    select v.item, v.version from item i join item_vector v on v.item = i.no
    where i.namespace = :namespace and i.key = :key and v.version <> i.version
);

-- name: keep_vector
-- Put a vector of an item as it is now.
insert into item_vector (item, version, place, data)
select no, version, :place, :data from item where namespace = :namespace and key = :key;

-- name: refresh_items
-- Let the time of these items begin anew.
update item set expires_at = (julianday('now') - 2440587.5) * 86400.0 + ttl
where no in (select value from json_each(:items)) and expires_at > (julianday('now') - 2440587.5) * 86400.0;

-- name: sweep_items
-- Delete items whose time is over.
delete from item
where no in (
    select no from item where expires_at <= (julianday('now') - 2440587.5) * 86400.0 order by expires_at limit :most
)
returning no;

-- name: version_of_item
-- The version that an item has.
select version from item
where namespace = :namespace and key = :key
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0);

-- name: item
-- One item.
select no, namespace, key, data, version, born, created, updated, ttl from item
where namespace = :namespace and key = :key
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0);

-- name: items_numbered
-- These items.
select no, namespace, key, data, version, born, created, updated, ttl from item
where no in (select value from json_each(:items))
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0);

-- name: items_page
-- Items under a prefix from one of them on, in the order of their names.
select no, namespace, key, data, version, born, created, updated, ttl from item
where (namespace, key) >= (:namespace, :key) and namespace < :high
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0)
order by namespace, key limit :most;

-- name: sealed_page
-- The encrypted words of items under a prefix from one of them on, in the order of their names.
select no, namespace, key, sealed, born from item
where sealed is not null and (namespace, key) >= (:namespace, :key) and namespace < :high
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0)
order by namespace, key limit :most;

-- name: items_beside
-- The numbers of items under a prefix, but for some, in the order of their first put.
select no from item
where namespace >= :low and namespace < :high and no not in (select value from json_each(:without))
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0)
order by born limit :most offset :skip;

-- name: count_items
-- How many items there are under a prefix.
select count(*) from item
where namespace >= :low and namespace < :high
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0);

-- name: namespaces
-- The namespaces under a prefix that hold items.
select distinct namespace from item
where namespace >= :low and namespace < :high
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0);

-- name: items_with_words
-- For each of these words, the items under a prefix that have it.
select w.value, i.no, i.born
from json_each(:words) w
join item_words on item_words match ('"' || w.value || '"')
join item i on i.no = item_words.rowid
where i.namespace >= :low and i.namespace < :high
    and (i.expires_at is null or i.expires_at > (julianday('now') - 2440587.5) * 86400.0);

-- name: items_with_beginnings
-- For each of these words, the items under a prefix that have one which begins so.
select w.value, i.no, i.born
from json_each(:words) w
join item_words on item_words match ('"' || w.value || '" *')
join item i on i.no = item_words.rowid
where i.namespace >= :low and i.namespace < :high
    and (i.expires_at is null or i.expires_at > (julianday('now') - 2440587.5) * 86400.0);

-- name: has_likeness
-- Whether the database can compare vectors.
select 1 where false;

-- name: items_near
-- The numbers of items under a prefix that have vectors. All of them, since the database cannot compare these.
select no from item
where namespace >= :low and namespace < :high
    and (expires_at is null or expires_at > (julianday('now') - 2440587.5) * 86400.0)
    and exists (select 1 from item_vector v where v.item = item.no and v.version = item.version);

-- name: vectors_of_items
-- The vectors of these items.
select i.no, i.namespace, i.key, i.born, v.data
from item i join item_vector v on v.item = i.no and v.version = i.version
where i.no in (select value from json_each(:items)) order by i.no, v.place;

-- name: saver_chain
-- A checkpoint of LangGraph's and its parents, back to the nearest full one, which comes first.
with recursive chain as (
    select c.*, 0 as back from saver_checkpoint c
    where thread = (select no from saver_thread where thread_id = :thread)
    and namespace = :namespace and checkpoint_id = :checkpoint
    union all
    select c.*, chain.back + 1 from saver_checkpoint c join chain on c.checkpoint_id = chain.parent_id
    where not chain."full" and c.thread = (select no from saver_thread where thread_id = :thread)
    and c.namespace = :namespace
)
select checkpoint_id, parent_id, run_id, "full", data from chain order by back desc;

-- name: saver_newest
-- The newest checkpoint: the one with the largest id.
select checkpoint_id from saver_checkpoint
where thread = (select no from saver_thread where thread_id = :thread)
    and namespace = :namespace
order by checkpoint_id desc limit 1;

-- name: saver_line
-- All checkpoints of a namespace.
select checkpoint_id, parent_id, run_id, "full", data from saver_checkpoint
where thread = (select no from saver_thread where thread_id = :thread)
    and namespace = :namespace;

-- name: saver_namespaces
-- The namespaces in which a thread has checkpoints.
select distinct namespace from saver_checkpoint
where thread = (select no from saver_thread where thread_id = :thread);

-- name: saver_keys
-- Which checkpoints there are, the newest first. What is null does not narrow it down.
select t.thread_id, namespace, checkpoint_id, data
from saver_checkpoint c join saver_thread t on t.no = c.thread
where (:thread is null or t.thread_id = :thread)
    and (:namespace is null or namespace = :namespace)
    and (:checkpoint is null or checkpoint_id = :checkpoint)
    and (:before is null or checkpoint_id < :before)
order by checkpoint_id desc, t.thread_id, namespace limit :limit;

-- name: saver_writes
-- What tasks have written since checkpoints, from one id to another.
select checkpoint_id, task_id, idx, path, channel, data from saver_write
where thread = (select no from saver_thread where thread_id = :thread)
    and namespace = :namespace and checkpoint_id between :first and :last;

-- name: saver_writes_of_thread
-- What all tasks of a thread have written.
select data from saver_write where thread = (select no from saver_thread where thread_id = :thread);

-- name: saver_pieces
-- The pieces with these digests, which arrive as one string of 16 bytes each.
with recursive each (at) as (
    select 1 union all select at + 16 from each where at + 16 < length(:digests)
)
select p.digest, p.data from each cross join saver_piece p
where p.thread = (select no from saver_thread where thread_id = :thread)
    and p.digest = substr(:digests, at, 16);

-- name: saver_digests
-- The digests of all pieces of a thread.
select digest from saver_piece where thread = (select no from saver_thread where thread_id = :thread);

-- name: saver_share
-- The numbers of these threads; let nobody delete anything of them until the transaction ends.
select thread_id, no from saver_thread where thread_id in (select value from json_each(:threads));

-- name: saver_touch
-- See that threads have numbers.
insert into saver_thread (thread_id) values (:thread) on conflict (thread_id) do nothing;

-- name: saver_hold
-- The number of a thread; let nobody else write to it or delete anything of it until the transaction ends.
select no from saver_thread where thread_id = :thread;

-- name: saver_is
-- The parent of a checkpoint, and what is stored of it.
select parent_id, data from saver_checkpoint
where thread = (select no from saver_thread where thread_id = :thread)
    and namespace = :namespace and checkpoint_id = :checkpoint;

-- name: saver_keep
-- Where a thread stands; nothing is returned when it is there already.
insert into saver_checkpoint (thread, namespace, checkpoint_id, parent_id, run_id, "full", data)
values (:no, :namespace, :checkpoint, :parent, :run, :full, :data)
on conflict (thread, namespace, checkpoint_id) do nothing returning 1;

-- name: saver_replace
-- Another checkpoint in the place of one with the same id.
update saver_checkpoint set parent_id = :parent, run_id = :run, "full" = :full, data = :data
where thread = (select no from saver_thread where thread_id = :thread)
    and namespace = :namespace and checkpoint_id = :checkpoint;

-- name: saver_keep_pieces
-- Pieces that are there already stay as they are.
insert into saver_piece (thread, digest, data) values (:no, :digest, :data)
on conflict (thread, digest) do nothing;

-- name: saver_keep_writes
-- What a task has written first is what it has written.
insert into saver_write (thread, namespace, checkpoint_id, task_id, idx, path, channel, data)
values (:no, :namespace, :checkpoint, :task, :idx, :path, :channel, :data)
on conflict (thread, namespace, checkpoint_id, task_id, idx) do nothing;

-- name: saver_keep_latest_writes
-- Errors, interrupts and answers give way to later ones.
insert into saver_write (thread, namespace, checkpoint_id, task_id, idx, path, channel, data)
values (:no, :namespace, :checkpoint, :task, :idx, :path, :channel, :data)
on conflict (thread, namespace, checkpoint_id, task_id, idx) do update
set path = excluded.path, channel = excluded.channel, data = excluded.data;

-- name: saver_threads_of_runs
-- The threads in which these runs have left checkpoints.
select thread_id from saver_thread
where no in (select thread from saver_checkpoint where run_id in (select value from json_each(:runs)));

-- name: saver_drop
-- Delete checkpoints.
delete from saver_checkpoint where thread = :no and namespace = :namespace and checkpoint_id = :checkpoint;

-- name: saver_drop_writes
-- Delete what tasks have written since these checkpoints.
delete from saver_write where thread = :no and namespace = :namespace and checkpoint_id = :checkpoint;

-- name: saver_drop_pieces
-- Delete pieces.
delete from saver_piece where thread = :no and digest = :digest;

-- name: forget_saver_checkpoints
-- Delete all checkpoints that LangGraph has kept of a thread.
delete from saver_checkpoint where thread = (select no from saver_thread where thread_id = :thread);

-- name: forget_saver_writes
-- Delete what its tasks have written there.
delete from saver_write where thread = (select no from saver_thread where thread_id = :thread);

-- name: forget_saver_pieces
-- Delete the pieces of both.
delete from saver_piece where thread = (select no from saver_thread where thread_id = :thread);

-- name: forget_saver_thread
-- Forget the number of a thread.
delete from saver_thread where thread_id = :thread;

-- name: saver_copy_checkpoints
-- Copy the checkpoints of a thread to another one.
insert into saver_checkpoint (thread, namespace, checkpoint_id, parent_id, run_id, "full", data)
select :no, namespace, checkpoint_id, parent_id, run_id, "full", data
from saver_checkpoint where thread = (select no from saver_thread where thread_id = :thread);

-- name: saver_copy_writes
-- Copy what its tasks have written.
insert into saver_write (thread, namespace, checkpoint_id, task_id, idx, path, channel, data)
select :no, namespace, checkpoint_id, task_id, idx, path, channel, data
from saver_write where thread = (select no from saver_thread where thread_id = :thread)
on conflict (thread, namespace, checkpoint_id, task_id, idx) do nothing;

-- name: saver_copy_pieces
-- Copy the pieces of both.
insert into saver_piece (thread, digest, data)
select :no, digest, data from saver_piece where thread = (select no from saver_thread where thread_id = :thread)
on conflict (thread, digest) do nothing;

-- name: now
-- The database's clock, in seconds since 1970.
select (julianday('now') - 2440587.5) * 86400.0;

-- name: threads
-- Every thread of which anything is known.
select thread_id from thread union select thread_id from run union select thread_id from checkpoint
union select thread_id from task_result union select thread_id from pin
union select thread_id from saver_thread order by 1;

-- name: may_be_pruned
-- Whether a thread has older checkpoints than its last ones, made before a time.
select 1 from checkpoint
where thread_id = :thread and namespace = '' and created < :before
    and seq <= (select max(seq) from checkpoint where thread_id = :thread and namespace = '') - :keep_last
limit 1;

-- name: marks
-- Every checkpoint of a thread without what it holds: where it stands, on what, and how many bytes it takes.
select namespace, seq, checkpoint_id, parent_id, run_id, created, "full", around, length(data)
from checkpoint where thread_id = :thread order by namespace, seq;

-- name: hanging
-- How many results hang on each checkpoint of a thread, of which runs, whether all of them are of those that look back,
-- and how many bytes they take.
select namespace, checkpoint_id, run_id, min(case when branch <> '' or kind = 'update' then 1 else 0 end), count(*),
    coalesce(sum(length(data)), 0)
from task_result where thread_id = :thread group by namespace, checkpoint_id, run_id order by 1, 2, 3;

-- name: runs_of_thread
-- The runs of a thread, whether they are said to be running while somebody runs it, when they were last heard of, and
-- where they began.
select r.run_id, r.status = 'running' and t.owner is not null, coalesce(r.finished, r.created),
    r.begun_at
from run r left join thread t on t.thread_id = r.thread_id where r.thread_id = :thread order by r.run_id;

-- name: weigh_events
-- How much has happened in these runs, and how many bytes that takes.
select coalesce(sum(number), 0), coalesce(sum(length(cast(data as blob)) + coalesce(length(packed), 0)), 0) from event
where run_id in (select value from json_each(:runs));

-- name: drop_checkpoints
-- Delete these checkpoints of a thread.
delete from checkpoint
where thread_id = :thread and namespace = :namespace and checkpoint_id in (select value from json_each(:checkpoints));

-- name: drop_results
-- Delete what hangs on these checkpoints of a thread.
delete from task_result
where thread_id = :thread and namespace = :namespace and checkpoint_id in (select value from json_each(:checkpoints));

-- name: drop_events
-- Delete what happened in these runs.
delete from event where run_id in (select value from json_each(:runs));

-- name: drop_runs
-- Delete these runs.
delete from run where run_id in (select value from json_each(:runs));

-- name: note_pruned
-- Remember up to which number checkpoints may be missing on purpose.
insert into pruned (thread_id, namespace, seq) values (:thread, :namespace, :seq)
on conflict (thread_id, namespace) do update set seq = max(pruned.seq, excluded.seq);

-- name: pruned
-- Up to which number checkpoints of a thread may be missing on purpose.
select namespace, seq from pruned where thread_id = :thread order by namespace;

-- name: forget_pruned_in
-- Delete that note of one namespace, of which nothing is left.
delete from pruned where thread_id = :thread and namespace = :namespace;

-- name: pins
-- What of a thread is never pruned: the ids of checkpoints, or '' for all of it.
select checkpoint_id from pin where thread_id = :thread order by checkpoint_id;

-- name: pin
-- Never prune a checkpoint, or with '' a thread.
insert into pin (thread_id, checkpoint_id) values (:thread, :checkpoint)
on conflict (thread_id, checkpoint_id) do nothing;

-- name: unpin
-- Take that back.
delete from pin where thread_id = :thread and checkpoint_id = :checkpoint;

-- name: has_checkpoint
-- Whether a thread has a checkpoint of that id, in whichever namespace.
select 1 from checkpoint where thread_id = :thread and checkpoint_id = :checkpoint limit 1;

-- name: run_ids
-- The runs that are named anywhere in a thread.
select run_id from run where thread_id = :thread union select run_id from checkpoint where thread_id = :thread
union select run_id from task_result where thread_id = :thread order by 1;

-- name: copy_checkpoints
-- The checkpoints of a thread once more, under another name and of other runs.
insert into checkpoint
    (thread_id, namespace, seq, checkpoint_id, parent_id, run_id, step, source, created, "full", around, data)
select :target, c.namespace, c.seq, c.checkpoint_id, c.parent_id, m.fresh, c.step, c.source, c.created, c."full",
    c.around, c.data
from checkpoint c join (
        select o.value as old, f.value as fresh from json_each(:old) o join json_each(:fresh) f on f.key = o.key
    ) m on m.old = c.run_id
where c.thread_id = :thread;

-- name: copy_results
-- What hangs on them, in the same order; of no epoch, since those count for each thread by itself.
insert into task_result
    (thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, attempt, epoch, parent, branch, data)
select :target, r.namespace, r.checkpoint_id, m.fresh, r.task_id, r.kind, r.name, r.step, r.attempt, 0, r.parent,
    r.branch, r.data
from task_result r join (
        select o.value as old, f.value as fresh from json_each(:old) o join json_each(:fresh) f on f.key = o.key
    ) m on m.old = r.run_id
where r.thread_id = :thread order by r.no;

-- name: copy_pruned
-- How far a thread was pruned, for its copy.
insert into pruned (thread_id, namespace, seq)
select :target, namespace, seq from pruned where thread_id = :thread;

-- name: whole_runs
-- The runs of a thread.
select run_id, thread_id, graph, digest, status, created, finished, error, settings
from run where thread_id = :thread order by run_id;

-- name: copy_run
-- A run as it was, under another id.
insert into run (run_id, thread_id, graph, digest, status, created, finished, error, settings)
values (:run, :thread, :graph, :digest, :status, :created, :finished, :error, :settings);

-- name: integrity
-- What the database itself finds wrong with its files.
pragma integrity_check(20);

-- name: whole_checkpoints
-- The checkpoints of a thread with what they hold.
select namespace, seq, checkpoint_id, parent_id, step, "full", data
from checkpoint where thread_id = :thread order by namespace, seq;

-- name: whole_results
-- What hangs on the checkpoints of a thread, with the numbers under which it was kept.
select namespace, no, checkpoint_id, kind, name, step, epoch, branch, data
from task_result where thread_id = :thread order by no;

-- name: whole_events
-- Everything that happened in a run, with the hashes.
select no, number, cast(data as blob), packed, hash from event where run_id = :run order by no;

-- name: epoch
-- The epoch of a thread.
select epoch from thread where thread_id = :thread;

-- name: whole_items
-- Items and their encrypted words from one of them on.
select no, namespace, key, data, sealed from item where no > :after order by no limit :most;

-- name: whole_vectors
-- The vectors of these items.
select item, data from item_vector
where item in (select value from json_each(:items)) order by item, version, place;

-- name: whole_saved
-- Every record of a thread of LangGraph's own graphs.
select 'saver_checkpoint', c.namespace, lower(hex(c.checkpoint_id)), c.data
from saver_checkpoint c join saver_thread t on t.no = c.thread where t.thread_id = :thread
union all select 'saver_write', w.namespace, lower(hex(w.checkpoint_id)), w.data
from saver_write w join saver_thread t on t.no = w.thread where t.thread_id = :thread
union all select 'saver_piece', '', lower(hex(p.digest)), p.data
from saver_piece p join saver_thread t on t.no = p.thread where t.thread_id = :thread
order by 1, 2, 3;

-- name: saved_without_parent
-- Checkpoints of LangGraph's own graphs that cannot be read, because their parents are missing.
select c.namespace, lower(hex(c.checkpoint_id)), lower(hex(c.parent_id))
from saver_checkpoint c join saver_thread t on t.no = c.thread
    left join saver_checkpoint p
        on p.thread = c.thread and p.namespace = c.namespace and p.checkpoint_id = c.parent_id
where t.thread_id = :thread and not c."full" and c.parent_id is not null and p.thread is null
order by 1, 2;

-- name: lost_events
-- Runs of which events are kept and nothing else.
select run_id, min(no) from event where run_id not in (select run_id from run) group by run_id order by run_id;

-- name: version
-- The version of the database's program.
select 'SQLite ' || sqlite_version();

-- name: schema_version
-- The last migration that the database has had.
select max(no) from migration;

-- name: size
-- The bytes that the database takes on the disk.
select page_count * page_size from pragma_page_count(), pragma_page_size();

-- name: weights
-- How many rows each table has, of events how many there are in them, and how many bytes their payloads take.
select 'checkpoint', count(*), coalesce(sum(length(data)), 0) from checkpoint
union all select 'task_result', count(*), coalesce(sum(length(data)), 0) from task_result
union all select 'event', coalesce(sum(number), 0), coalesce(sum(length(cast(data as blob)) + coalesce(length(packed), 0)), 0)
from event
union all select 'run', count(*), coalesce(sum(length(cast(settings as blob))), 0) from run
union all select 'item', count(*), coalesce(sum(length(data)), 0) from item
union all select 'item_vector', count(*), coalesce(sum(length(data)), 0) from item_vector
union all select 'saver_checkpoint', count(*), coalesce(sum(length(data)), 0) from saver_checkpoint
union all select 'saver_write', count(*), coalesce(sum(length(data)), 0) from saver_write
union all select 'saver_piece', count(*), coalesce(sum(length(data)), 0) from saver_piece
union all select 'thread', count(*), 0 from thread
union all select 'worker', count(*), 0 from worker
union all select 'pin', count(*), 0 from pin;

-- name: thread_states
-- The threads by the status of their newest run, and who runs them; '' for one without a run.
select coalesce(r.status, ''), t.owner, count(*)
from (select thread_id from thread union select thread_id from run union select thread_id from checkpoint) names
    left join thread t on t.thread_id = names.thread_id
    left join run r on r.run_id = (
        select run_id from run where run.thread_id = names.thread_id order by created desc, run_id desc limit 1
    )
group by 1, 2 order by 1, 2;

-- name: largest_threads
-- The threads whose payloads take the most bytes, with how many there are.
select thread_id, count(*), sum(bytes) from (
    select thread_id, length(data) as bytes from checkpoint
    union all select thread_id, length(data) from task_result
    union all select run.thread_id, length(cast(data as blob)) + coalesce(length(packed), 0)
    from event join run on run.run_id = event.run_id
) rows group by thread_id order by 3 desc, 1 limit :limit;

-- name: oldest_lease
-- The thread that somebody has run for the longest, and whether nobody has heard of them for longer than their lease
-- lasts.
select t.thread_id, t.owner, t.claimed, coalesce(w.expires_at < (julianday('now') - 2440587.5) * 86400.0, true)
from thread t left join worker w on w.worker_id = t.worker
where t.owner is not null order by t.claimed limit 1;
