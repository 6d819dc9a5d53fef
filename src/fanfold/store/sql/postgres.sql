-- Every statement that fanfold says to PostgreSQL. Each has a name and one line that says what it is for. Results and
-- events arrive as one array a column, so that however many end together cost one statement.

-- name: keep_quiet
-- What is there already need not be told of.
set client_min_messages = warning;

-- name: wait_for_disk
-- A commit returns when it is on the disk, also where the database or the user is set to go on before.
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off';

-- name: end_if_silent
-- End this connection when nothing is said in the middle of a transaction for so long.
select set_config('idle_in_transaction_session_timeout', %(milliseconds)s, false);

-- name: wait_in_turn
-- Wait for a lock for so long. There is no limit for whole statements: it would end a commit's wait for a standby, too,
-- and the commit would be called done all the same.
select set_config('lock_timeout', %(milliseconds)s, false);

-- name: schema_chosen
-- The schema in which tables are made.
select current_schema();

-- name: make_schema
-- A schema of our own, made by one of those who open a new database at once.
do $$ begin
    if not exists (select from pg_namespace where nspname = 'fanfold') then
        perform pg_advisory_xact_lock(28820104170892132);
        create schema if not exists fanfold;
    end if;
end $$;

-- name: use_schema
-- Stay in it.
set search_path = fanfold;

-- name: lock_migrations
-- Let nobody else migrate until the transaction ends.
select pg_advisory_xact_lock(28820104170892132);

-- name: has_migrations
-- Whether the database remembers its migrations.
select 1 from pg_tables where schemaname = current_schema() and tablename = 'migration';

-- name: migrations
-- The tables that remember which migrations a database has had.
create table if not exists migration (
    no       bigint primary key,
    checksum text not null,
    applied  double precision not null
);

-- name: migrated
-- The migrations that the database has had.
select no, checksum from migration order by no;

-- name: note_migration
-- Remember a migration.
insert into migration (no, checksum, applied) values (%(no)s, %(checksum)s, extract(epoch from clock_timestamp()));

-- name: foreign_tables
-- The tables of a database that no migration has made.
select tablename from pg_tables where schemaname = current_schema() and tablename <> 'migration';

-- name: touch_thread
-- See that a thread has a row.
insert into thread (thread_id) values (%(thread)s) on conflict (thread_id) do nothing;

-- name: holder
-- Who runs a thread.
select owner, worker from thread where thread_id = %(thread)s;

-- name: hold_thread
-- Who runs a thread, which stays so until the transaction ends.
select owner, worker from thread where thread_id = %(thread)s for update;

-- name: lapsed
-- Whether nobody has heard of a process for longer than its leases last. To be asked when its thread is held: only a
-- statement that begins later sees a beat that was waited for.
select expires_at < extract(epoch from clock_timestamp()) from worker where worker_id = %(worker)s;

-- name: claim
-- Become the runner of a thread, in an epoch of one's own.
update thread
set epoch = epoch + 1, owner = %(owner)s, worker = %(worker)s, claimed = extract(epoch from clock_timestamp())
where thread_id = %(thread)s returning epoch;

-- name: release
-- Stop being the runner of a thread.
update thread set owner = null, worker = null where thread_id = %(thread)s and epoch = %(epoch)s;

-- name: fence
-- The epoch and the runner of each of these threads.
select thread_id, epoch, owner from thread where thread_id = any(%(threads)s) order by thread_id for share;

-- name: beat
-- A process lives, and its leases go on.
insert into worker (worker_id, host, pid, expires_at)
values (%(worker)s, %(host)s, %(pid)s, extract(epoch from clock_timestamp()) + %(ttl)s)
on conflict (worker_id) do update set expires_at = excluded.expires_at;

-- name: leases
-- The threads that a process runs, by what the database says when nobody is about to claim them.
select thread_id, epoch from thread where worker = %(worker)s and owner is not null
order by thread_id for share;

-- name: forget_workers
-- Processes that have not been heard of for a day.
delete from worker where expires_at < extract(epoch from clock_timestamp()) - 86400.0;

-- name: open_run
-- Admit a run, or mark one that is there as running again.
insert into run (run_id, thread_id, graph, digest, status, created, error, settings, begun_at)
values (%(run)s, %(thread)s, %(graph)s, %(digest)s, %(status)s, %(created)s, '', %(settings)s, %(at)s)
on conflict (run_id) do update
set status = excluded.status, finished = null, error = '', digest = excluded.digest, begun_at = excluded.begun_at;

-- name: close_run
-- A sitting of a run has ended.
update run set status = %(status)s, finished = %(finished)s, error = %(error)s where run_id = %(run)s;

-- name: keep_final
-- A result that nothing may take the place of.
insert into task_result
    (thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, attempt, epoch, parent, branch, data)
select * from unnest(
        %(thread_id)s::text[], %(namespace)s::text[], %(checkpoint_id)s::text[],
        %(run_id)s::text[], %(task_id)s::text[], %(kind)s::text[],
        %(name)s::text[], %(step)s::bigint[], %(attempt)s::text[],
        %(epoch)s::bigint[], %(parent)s::text[], %(branch)s::text[],
        %(data)s::bytea[]
    )
on conflict (thread_id, namespace, checkpoint_id, branch, task_id, kind) do nothing;

-- name: keep_final_at_once
-- The same and the fence before it, as a transaction. It undoes itself, dividing by zero, unless every result is of a
-- present lease and kept by this very statement.
with held as materialized (
    select thread_id, epoch from thread where thread_id = any(%(threads)s) order by thread_id for share
), kept as (
    insert into task_result
        (thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, attempt, epoch, parent, branch, data)
    select given.* from unnest(
            %(thread_id)s::text[], %(namespace)s::text[], %(checkpoint_id)s::text[],
            %(run_id)s::text[], %(task_id)s::text[], %(kind)s::text[],
            %(name)s::text[], %(step)s::bigint[], %(attempt)s::text[],
            %(epoch)s::bigint[], %(parent)s::text[], %(branch)s::text[],
            %(data)s::bytea[]
        ) as given (
            thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, attempt, epoch, parent, branch, data
        )
        join held on held.thread_id = given.thread_id and held.epoch = given.epoch
    on conflict (thread_id, namespace, checkpoint_id, branch, task_id, kind) do nothing
    returning 1
)
select 1 / (count(*) = cardinality(%(thread_id)s::text[]))::int from kept;

-- name: attempts
-- Which attempts the results of these tasks are of.
select task_id, kind, attempt from task_result
where thread_id = %(thread_id)s and namespace = %(namespace)s and checkpoint_id = %(checkpoint_id)s
    and branch = %(branch)s and task_id = any(%(tasks)s);

-- name: keep_latest
-- Something that a task has come to, in the place of what it had before.
insert into task_result
    (thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, attempt, epoch, parent, branch, data)
select * from unnest(
        %(thread_id)s::text[], %(namespace)s::text[], %(checkpoint_id)s::text[],
        %(run_id)s::text[], %(task_id)s::text[], %(kind)s::text[],
        %(name)s::text[], %(step)s::bigint[], %(attempt)s::text[],
        %(epoch)s::bigint[], %(parent)s::text[], %(branch)s::text[],
        %(data)s::bytea[]
    )
on conflict (thread_id, namespace, checkpoint_id, branch, task_id, kind) do update
set run_id = excluded.run_id, attempt = excluded.attempt, epoch = excluded.epoch, data = excluded.data;

-- name: keep_checkpoint
-- Where a thread stands after a step, numbered on from the last; harmless when it is there already. What is not full
-- has to have a parent.
insert into checkpoint
    (thread_id, namespace, seq, checkpoint_id, parent_id, run_id, step, source, created, "full", around, data)
select %(thread_id)s, %(namespace)s, coalesce(max(seq), -1) + 1, %(checkpoint_id)s, %(parent_id)s, %(run_id)s, %(step)s, %(source)s,
    %(created)s, %(full)s, %(around)s, %(data)s
from checkpoint where thread_id = %(thread_id)s and namespace = %(namespace)s
having %(full)s or exists (
    select 1 from checkpoint
    where thread_id = %(thread_id)s and namespace = %(namespace)s and checkpoint_id = %(parent_id)s
)
on conflict (thread_id, namespace, checkpoint_id) do nothing returning seq;

-- name: checkpoint_is
-- The checkpoint of that id, to be compared with one that is to be kept under it.
select parent_id, run_id, step, source, created, "full", around, data from checkpoint
where thread_id = %(thread_id)s and namespace = %(namespace)s and checkpoint_id = %(checkpoint_id)s;

-- name: last_event
-- The number of what happens next in a run, and the hash of what happened last.
select no + number, hash from event where run_id = %(run)s order by no desc limit 1;

-- name: events_from
-- What happened, from the row on that a number is in; and the hashes.
select no, number, data, packed, hash from event
where run_id = %(run)s and no >= (select max(no) from event where run_id = %(run)s and no <= %(no)s) order by no;

-- name: keep_events
-- What happened, in order.
insert into event (run_id, no, number, data, packed, hash)
select run_id, no, number, '', packed, hash
from unnest(%(run)s::text[], %(no)s::bigint[], %(number)s::bigint[], %(packed)s::bytea[], %(hash)s::bytea[])
    as row (run_id, no, number, packed, hash);

-- name: owner
-- Who runs a thread, unless their lease has lapsed.
select t.owner from thread t join worker w on w.worker_id = t.worker
where t.thread_id = %(thread)s and t.owner is not null
    and w.expires_at >= extract(epoch from clock_timestamp());

-- name: newest_checkpoint
-- The last checkpoint of a thread.
select checkpoint_id from checkpoint
where thread_id = %(thread)s and namespace = %(namespace)s order by seq desc limit 1;

-- name: chain
-- A checkpoint and its parents, back to the nearest that holds all values. Each parent is looked up by its id: in a
-- join, a server that has not counted the rows yet would go through all of the thread for each.
with recursive chain as (
    select * from checkpoint where thread_id = %(thread)s and namespace = %(namespace)s and checkpoint_id = %(checkpoint)s
    union all
    select c.* from chain cross join lateral (
        select * from checkpoint
        where thread_id = %(thread)s and namespace = %(namespace)s and checkpoint_id = chain.parent_id offset 0
    ) c where not chain."full"
)
select thread_id, namespace, checkpoint_id, parent_id, run_id, step, source, created, "full", data, around
from chain order by seq;

-- name: results_of_chain
-- What the tasks of these checkpoints have come to, in the order in which it was kept.
select thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, data, parent, attempt, branch
from task_result
where thread_id = %(thread)s and namespace = %(namespace)s
    and branch = '' and checkpoint_id = any(%(checkpoints)s)
order by no;

-- name: history
-- All checkpoints of a thread, the newest first.
select thread_id, namespace, checkpoint_id, parent_id, run_id, step, source, created, "full", data, around
from checkpoint where thread_id = %(thread)s and namespace = %(namespace)s order by seq desc;

-- name: forget_checkpoints
-- Delete the checkpoints of a thread.
delete from checkpoint where thread_id = %(thread)s;

-- name: forget_results
-- Delete what hangs on the checkpoints of a thread.
delete from task_result where thread_id = %(thread)s;

-- name: forget_events
-- Delete what happened in the runs of a thread.
delete from event where run_id in (select run_id from run where thread_id = %(thread)s);

-- name: forget_runs
-- Delete the runs of a thread.
delete from run where thread_id = %(thread)s;

-- name: forget_pins
-- Delete the pins of a thread.
delete from pin where thread_id = %(thread)s;

-- name: forget_pruned
-- Delete the notes of how far a thread was pruned.
delete from pruned where thread_id = %(thread)s;

-- name: forget_thread
-- Leave nothing of a thread but the number of its last epoch, so that whoever ran it is refused.
update thread set epoch = epoch + 1, owner = null, worker = null where thread_id = %(thread)s;

-- name: runs_named
-- The runs whose id begins with the given text, first the one that is it; two are enough to know that it is ambiguous.
select run_id, thread_id, graph, digest, status, created, finished, error, settings
from run where left(run_id, length(%(start)s)) = %(start)s order by run_id limit 2;

-- name: runs
-- The newest runs first, of those that were created no later than a time.
select run_id, thread_id, graph, digest, status, created, finished, error, settings
from run where created <= %(until)s order by created desc, run_id desc limit %(limit)s;

-- name: results_of_run
-- Everything that tasks of a run have come to, in the order in which it was kept.
select thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, data, parent, attempt, branch
from task_result where run_id = %(run)s order by no;

-- name: events_of_run
-- Everything that happened in a run, in order.
select no, data, packed from event where run_id = %(run)s order by no;

-- name: count_events
-- How much has happened in a run.
select coalesce(max(no + number), 0) from event where run_id = %(run)s;

-- name: take_turn
-- The next thing of a writer that may not be done twice; nothing is returned when it has been done.
insert into turn (writer, no, at) values (%(writer)s, %(no)s, extract(epoch from statement_timestamp()))
on conflict (writer) do update set no = excluded.no, at = excluded.at where turn.no < excluded.no
returning no;

-- name: forget_turns
-- Writers that have not been heard of for a day.
delete from turn where at < extract(epoch from statement_timestamp()) - 86400.0;

-- name: hold_items
-- Keep these items as they are until the transaction ends, in an order that is the same for everybody.
select 1 from item
join unnest(%(namespaces)s::text[], %(keys)s::text[]) as held (namespace, key) using (namespace, key)
order by item.namespace, item.key for update of item;

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
-- Put items, whatever was there. One whose time is over counts as gone.
insert into item as old (namespace, key, data, words, sealed, version, born, created, updated, ttl, expires_at)
select n.namespace, n.key, n.data, n.words, n.sealed, n.version, n.version, t.now, t.now, n.ttl, t.now + n.ttl
from (
    select *, nextval('item_version') as version
    from unnest(
            %(namespace)s::text[], %(key)s::text[], %(data)s::bytea[],
            %(words)s::text[], %(sealed)s::bytea[], %(ttl)s::double precision[]
        ) as given (namespace, key, data, words, sealed, ttl)
) n, (select extract(epoch from statement_timestamp())::double precision as now) t
on conflict (namespace, key) do update
set born = case when old.expires_at <= excluded.updated then excluded.born else old.born end,
    created = case when old.expires_at <= excluded.updated then excluded.created else old.created end,
    data = excluded.data, words = excluded.words, sealed = excluded.sealed,
    version = case when excluded.version > old.version then excluded.version else nextval('item_version') end,
    updated = excluded.updated, ttl = excluded.ttl, expires_at = excluded.expires_at;

-- name: add_item
-- Put an item if there is none. One whose time is over counts as gone.
insert into item as old (namespace, key, data, words, sealed, version, born, created, updated, ttl, expires_at)
select %(namespace)s::text, %(key)s::text, %(data)s::bytea, %(words)s::text, %(sealed)s::bytea, v.version, v.version,
    t.now, t.now, %(ttl)s::double precision, t.now + %(ttl)s::double precision
from (select nextval('item_version') as version) v,
    (select extract(epoch from statement_timestamp())::double precision as now) t
on conflict (namespace, key) do update
set born = excluded.born, created = excluded.created, data = excluded.data, words = excluded.words,
    sealed = excluded.sealed, updated = excluded.updated, ttl = excluded.ttl, expires_at = excluded.expires_at,
    version = case when excluded.version > old.version then excluded.version else nextval('item_version') end
where old.expires_at <= excluded.updated
returning version;

-- name: change_item
-- Put an item if it has a certain version.
update item
set data = %(data)s, words = %(words)s, sealed = %(sealed)s::bytea, version = nextval('item_version'), updated = t.now,
    ttl = %(ttl)s::double precision, expires_at = t.now + %(ttl)s::double precision
from (select extract(epoch from statement_timestamp())::double precision as now) t
where namespace = %(namespace)s and key = %(key)s and version = %(expected)s
    and (expires_at is null or expires_at > t.now)
returning version;

-- name: drop_item
-- Delete an item if it has a certain version.
delete from item
where namespace = %(namespace)s and key = %(key)s and version = %(expected)s
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()))
returning version;

-- name: forget_item
-- Delete items.
delete from item using unnest(%(namespace)s::text[], %(key)s::text[]) as gone (namespace, key)
where item.namespace = gone.namespace and item.key = gone.key;

-- name: forget_vectors
-- Delete the vectors of items' older versions.
delete from item_vector v using unnest(%(namespace)s::text[], %(key)s::text[]) as n (namespace, key), item i
where i.namespace = n.namespace and i.key = n.key and v.item = i.no and v.version <> i.version;

-- name: keep_vector
-- Put vectors of items as they are now.
insert into item_vector (item, version, place, data, embedding)
select i.no, i.version, n.place, n.data, n.embedding::real[]
from unnest(
        %(namespace)s::text[], %(key)s::text[], %(place)s::bigint[], %(data)s::bytea[], %(embedding)s::text[]
    ) as n (namespace, key, place, data, embedding)
join item i on i.namespace = n.namespace and i.key = n.key;

-- name: refresh_items
-- Let the time of these items begin anew.
update item set expires_at = extract(epoch from statement_timestamp()) + ttl
where no = any(%(items)s::bigint[]) and expires_at > extract(epoch from statement_timestamp());

-- name: sweep_items
-- Delete items whose time is over, but for those that somebody is writing just now.
delete from item
where no in (
    select no from item where expires_at <= extract(epoch from statement_timestamp())
    order by expires_at limit %(most)s for update skip locked
)
returning no;

-- name: version_of_item
-- The version that an item has.
select version from item
where namespace = %(namespace)s and key = %(key)s
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()));

-- name: item
-- One item.
select no, namespace, key, data, version, born, created, updated, ttl from item
where namespace = %(namespace)s and key = %(key)s
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()));

-- name: items_numbered
-- These items.
select no, namespace, key, data, version, born, created, updated, ttl from item
where no = any(%(items)s::bigint[])
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()));

-- name: items_page
-- Items under a prefix from one of them on, in the order of their names.
select no, namespace, key, data, version, born, created, updated, ttl from item
where (namespace, key) >= (%(namespace)s, %(key)s) and namespace < %(high)s
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()))
order by namespace, key limit %(most)s;

-- name: sealed_page
-- The encrypted words of items under a prefix from one of them on, in the order of their names.
select no, namespace, key, sealed, born from item
where sealed is not null and (namespace, key) >= (%(namespace)s, %(key)s) and namespace < %(high)s
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()))
order by namespace, key limit %(most)s;

-- name: items_beside
-- The numbers of items under a prefix, but for some, in the order of their first put.
select no from item
where namespace >= %(low)s and namespace < %(high)s and no <> all(%(without)s::bigint[])
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()))
order by born limit %(most)s offset %(skip)s;

-- name: count_items
-- How many items there are under a prefix.
select count(*) from item
where namespace >= %(low)s and namespace < %(high)s
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()));

-- name: namespaces
-- The namespaces under a prefix that hold items.
select distinct namespace from item
where namespace >= %(low)s and namespace < %(high)s
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()));

-- name: items_with_words
-- For each of these words, the items under a prefix that have it.
select w.word, i.no, i.born
from unnest(%(words)s::text[]) as w (word)
join item i on i.lexemes @@ ('''' || w.word || '''')::tsquery
where i.namespace >= %(low)s and i.namespace < %(high)s
    and (i.expires_at is null or i.expires_at > extract(epoch from statement_timestamp()));

-- name: items_with_beginnings
-- For each of these words, the items under a prefix that have one which begins so.
select w.word, i.no, i.born
from unnest(%(words)s::text[]) as w (word)
join item i on i.lexemes @@ ('''' || w.word || ''':*')::tsquery
where i.namespace >= %(low)s and i.namespace < %(high)s
    and (i.expires_at is null or i.expires_at > extract(epoch from statement_timestamp()));

-- name: has_likeness
-- Whether the database can compare vectors.
select 1 from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = current_schema() and p.proname = 'likeness';

-- name: items_near
-- The numbers of items under a prefix that have vectors. All of them, since the database cannot compare these.
select no from item
where namespace >= %(low)s and namespace < %(high)s
    and (expires_at is null or expires_at > extract(epoch from statement_timestamp()))
    and exists (select 1 from item_vector v where v.item = item.no and v.version = item.version);

-- name: items_nearest
-- The numbers of items under a prefix that may be the first ones by their nearest vector. `slack` is how far the
-- database, which counts in single precision, can be off. Vectors that it cannot compare are for others to look at.
with compared as (
    select i.no, max(case when v.alike then likeness(v.embedding, %(query)s::real[]) end) as score,
        bool_or(not v.alike) as odd
    from item i
    join (
        select *, coalesce(cardinality(embedding) = cardinality(%(query)s::real[]), false) as alike from item_vector
    ) v on v.item = i.no and v.version = i.version
    where i.namespace >= %(low)s and i.namespace < %(high)s
        and (i.expires_at is null or i.expires_at > extract(epoch from statement_timestamp()))
    group by i.no
)
select no from compared
where odd or score >= coalesce(
    (select score from compared where not odd order by score desc offset %(most)s - 1 limit 1), '-infinity'
) - %(slack)s::double precision;

-- name: vectors_of_items
-- The vectors of these items.
select i.no, i.namespace, i.key, i.born, v.data
from item i join item_vector v on v.item = i.no and v.version = i.version
where i.no = any(%(items)s::bigint[]) order by i.no, v.place;

-- name: saver_chain
-- A checkpoint of LangGraph's and its parents, back to the nearest full one, which comes first.
with recursive chain as (
    select c.*, 0 as back from saver_checkpoint c
    where thread = (select no from saver_thread where thread_id = %(thread)s)
    and namespace = %(namespace)s and checkpoint_id = %(checkpoint)s
    union all
    select c.*, chain.back + 1 from saver_checkpoint c join chain on c.checkpoint_id = chain.parent_id
    where not chain."full" and c.thread = (select no from saver_thread where thread_id = %(thread)s)
    and c.namespace = %(namespace)s
)
select checkpoint_id, parent_id, run_id, "full", data from chain order by back desc;

-- name: saver_newest
-- The newest checkpoint: the one with the largest id.
select checkpoint_id from saver_checkpoint
where thread = (select no from saver_thread where thread_id = %(thread)s)
    and namespace = %(namespace)s
order by checkpoint_id desc limit 1;

-- name: saver_line
-- All checkpoints of a namespace.
select checkpoint_id, parent_id, run_id, "full", data from saver_checkpoint
where thread = (select no from saver_thread where thread_id = %(thread)s)
    and namespace = %(namespace)s;

-- name: saver_namespaces
-- The namespaces in which a thread has checkpoints.
select distinct namespace from saver_checkpoint
where thread = (select no from saver_thread where thread_id = %(thread)s);

-- name: saver_keys
-- Which checkpoints there are, the newest first. What is null does not narrow it down.
select t.thread_id, namespace, checkpoint_id, data
from saver_checkpoint c join saver_thread t on t.no = c.thread
where (%(thread)s::text is null or t.thread_id = %(thread)s)
    and (%(namespace)s::text is null or namespace = %(namespace)s)
    and (%(checkpoint)s::bytea is null or checkpoint_id = %(checkpoint)s)
    and (%(before)s::bytea is null or checkpoint_id < %(before)s)
order by checkpoint_id desc, t.thread_id, namespace limit %(limit)s;

-- name: saver_writes
-- What tasks have written since checkpoints, from one id to another.
select checkpoint_id, task_id, idx, path, channel, data from saver_write
where thread = (select no from saver_thread where thread_id = %(thread)s)
    and namespace = %(namespace)s and checkpoint_id between %(first)s and %(last)s;

-- name: saver_writes_of_thread
-- What all tasks of a thread have written.
select data from saver_write where thread = (select no from saver_thread where thread_id = %(thread)s);

-- name: saver_pieces
-- The pieces with these digests, which arrive as one string of 16 bytes each.
select digest, data from saver_piece
where thread = (select no from saver_thread where thread_id = %(thread)s)
    and digest in (
    select substr(%(digests)s::bytea, at, 16) from generate_series(1, length(%(digests)s::bytea), 16) at
);

-- name: saver_digests
-- The digests of all pieces of a thread.
select digest from saver_piece where thread = (select no from saver_thread where thread_id = %(thread)s);

-- name: saver_share
-- The numbers of these threads; let nobody delete anything of them until the transaction ends.
select thread_id, no from saver_thread where thread_id = any(%(threads)s) order by thread_id for key share;

-- name: saver_touch
-- See that threads have numbers.
insert into saver_thread (thread_id) select * from unnest(%(thread)s::text[]) on conflict (thread_id) do nothing;

-- name: saver_hold
-- The number of a thread; let nobody else write to it or delete anything of it until the transaction ends.
select no from saver_thread where thread_id = %(thread)s for update;

-- name: saver_is
-- The parent of a checkpoint, and what is stored of it.
select parent_id, data from saver_checkpoint
where thread = (select no from saver_thread where thread_id = %(thread)s)
    and namespace = %(namespace)s and checkpoint_id = %(checkpoint)s;

-- name: saver_keep
-- Where a thread stands; nothing is returned when it is there already.
insert into saver_checkpoint (thread, namespace, checkpoint_id, parent_id, run_id, "full", data)
values (%(no)s, %(namespace)s, %(checkpoint)s, %(parent)s, %(run)s, %(full)s, %(data)s)
on conflict (thread, namespace, checkpoint_id) do nothing returning 1;

-- name: saver_replace
-- Another checkpoint in the place of one with the same id.
update saver_checkpoint set parent_id = %(parent)s, run_id = %(run)s, "full" = %(full)s, data = %(data)s
where thread = (select no from saver_thread where thread_id = %(thread)s)
    and namespace = %(namespace)s and checkpoint_id = %(checkpoint)s;

-- name: saver_keep_pieces
-- Pieces that are there already stay as they are.
insert into saver_piece (thread, digest, data)
select * from unnest(%(no)s::bigint[], %(digest)s::bytea[], %(data)s::bytea[])
on conflict (thread, digest) do nothing;

-- name: saver_keep_writes
-- What a task has written first is what it has written.
insert into saver_write (thread, namespace, checkpoint_id, task_id, idx, path, channel, data)
select * from unnest(
        %(no)s::bigint[], %(namespace)s::text[], %(checkpoint)s::bytea[], %(task)s::bytea[],
        %(idx)s::bigint[], %(path)s::text[], %(channel)s::text[], %(data)s::bytea[]
    )
on conflict (thread, namespace, checkpoint_id, task_id, idx) do nothing;

-- name: saver_keep_latest_writes
-- Errors, interrupts and answers give way to later ones.
insert into saver_write (thread, namespace, checkpoint_id, task_id, idx, path, channel, data)
select * from unnest(
        %(no)s::bigint[], %(namespace)s::text[], %(checkpoint)s::bytea[], %(task)s::bytea[],
        %(idx)s::bigint[], %(path)s::text[], %(channel)s::text[], %(data)s::bytea[]
    )
on conflict (thread, namespace, checkpoint_id, task_id, idx) do update
set path = excluded.path, channel = excluded.channel, data = excluded.data;

-- name: saver_threads_of_runs
-- The threads in which these runs have left checkpoints.
select thread_id from saver_thread
where no in (select thread from saver_checkpoint where run_id = any(%(runs)s));

-- name: saver_drop
-- Delete checkpoints.
delete from saver_checkpoint d
using unnest(%(no)s::bigint[], %(namespace)s::text[], %(checkpoint)s::bytea[]) as k (thread, namespace, checkpoint_id)
where d.thread = k.thread and d.namespace = k.namespace and d.checkpoint_id = k.checkpoint_id;

-- name: saver_drop_writes
-- Delete what tasks have written since these checkpoints.
delete from saver_write d
using unnest(%(no)s::bigint[], %(namespace)s::text[], %(checkpoint)s::bytea[]) as k (thread, namespace, checkpoint_id)
where d.thread = k.thread and d.namespace = k.namespace and d.checkpoint_id = k.checkpoint_id;

-- name: saver_drop_pieces
-- Delete pieces.
delete from saver_piece p
using unnest(%(no)s::bigint[], %(digest)s::bytea[]) as k (thread, digest)
where p.thread = k.thread and p.digest = k.digest;

-- name: forget_saver_checkpoints
-- Delete all checkpoints that LangGraph has kept of a thread.
delete from saver_checkpoint where thread = (select no from saver_thread where thread_id = %(thread)s);

-- name: forget_saver_writes
-- Delete what its tasks have written there.
delete from saver_write where thread = (select no from saver_thread where thread_id = %(thread)s);

-- name: forget_saver_pieces
-- Delete the pieces of both.
delete from saver_piece where thread = (select no from saver_thread where thread_id = %(thread)s);

-- name: forget_saver_thread
-- Forget the number of a thread.
delete from saver_thread where thread_id = %(thread)s;

-- name: saver_copy_checkpoints
-- Copy the checkpoints of a thread to another one.
insert into saver_checkpoint (thread, namespace, checkpoint_id, parent_id, run_id, "full", data)
select %(no)s::bigint, namespace, checkpoint_id, parent_id, run_id, "full", data
from saver_checkpoint where thread = (select no from saver_thread where thread_id = %(thread)s);

-- name: saver_copy_writes
-- Copy what its tasks have written.
insert into saver_write (thread, namespace, checkpoint_id, task_id, idx, path, channel, data)
select %(no)s::bigint, namespace, checkpoint_id, task_id, idx, path, channel, data
from saver_write where thread = (select no from saver_thread where thread_id = %(thread)s)
on conflict (thread, namespace, checkpoint_id, task_id, idx) do nothing;

-- name: saver_copy_pieces
-- Copy the pieces of both.
insert into saver_piece (thread, digest, data)
select %(no)s::bigint, digest, data from saver_piece where thread = (select no from saver_thread where thread_id = %(thread)s)
on conflict (thread, digest) do nothing;

-- name: now
-- The database's clock, in seconds since 1970.
select extract(epoch from clock_timestamp());

-- name: threads
-- Every thread of which anything is known.
select thread_id from thread union select thread_id from run union select thread_id from checkpoint
union select thread_id from task_result union select thread_id from pin
union select thread_id from saver_thread order by 1;

-- name: may_be_pruned
-- Whether a thread has older checkpoints than its last ones, made before a time.
select 1 from checkpoint
where thread_id = %(thread)s and namespace = '' and created < %(before)s
    and seq <= (select max(seq) from checkpoint where thread_id = %(thread)s and namespace = '') - %(keep_last)s
limit 1;

-- name: marks
-- Every checkpoint of a thread without what it holds: where it stands, on what, and how many bytes it takes.
select namespace, seq, checkpoint_id, parent_id, run_id, created, "full", around, octet_length(data)
from checkpoint where thread_id = %(thread)s order by namespace, seq;

-- name: hanging
-- How many results hang on each checkpoint of a thread, of which runs, whether all of them are of those that look back,
-- and how many bytes they take.
select namespace, checkpoint_id, run_id, min(case when branch <> '' or kind = 'update' then 1 else 0 end), count(*),
    coalesce(sum(octet_length(data)), 0)
from task_result where thread_id = %(thread)s group by namespace, checkpoint_id, run_id order by 1, 2, 3;

-- name: runs_of_thread
-- The runs of a thread, whether they are said to be running while somebody runs it, when they were last heard of, and
-- where they began.
select r.run_id, r.status = 'running' and t.owner is not null, coalesce(r.finished, r.created),
    r.begun_at
from run r left join thread t on t.thread_id = r.thread_id where r.thread_id = %(thread)s order by r.run_id;

-- name: weigh_events
-- How much has happened in these runs, and how many bytes that takes.
select coalesce(sum(number), 0), coalesce(sum(octet_length(data) + coalesce(octet_length(packed), 0)), 0) from event
where run_id = any(%(runs)s);

-- name: drop_checkpoints
-- Delete these checkpoints of a thread.
delete from checkpoint
where thread_id = %(thread)s and namespace = %(namespace)s and checkpoint_id = any(%(checkpoints)s);

-- name: drop_results
-- Delete what hangs on these checkpoints of a thread.
delete from task_result
where thread_id = %(thread)s and namespace = %(namespace)s and checkpoint_id = any(%(checkpoints)s);

-- name: drop_events
-- Delete what happened in these runs.
delete from event where run_id = any(%(runs)s);

-- name: drop_runs
-- Delete these runs.
delete from run where run_id = any(%(runs)s);

-- name: note_pruned
-- Remember up to which number checkpoints may be missing on purpose.
insert into pruned (thread_id, namespace, seq) values (%(thread)s, %(namespace)s, %(seq)s)
on conflict (thread_id, namespace) do update set seq = greatest(pruned.seq, excluded.seq);

-- name: pruned
-- Up to which number checkpoints of a thread may be missing on purpose.
select namespace, seq from pruned where thread_id = %(thread)s order by namespace;

-- name: forget_pruned_in
-- Delete that note of one namespace, of which nothing is left.
delete from pruned where thread_id = %(thread)s and namespace = %(namespace)s;

-- name: pins
-- What of a thread is never pruned: the ids of checkpoints, or '' for all of it.
select checkpoint_id from pin where thread_id = %(thread)s order by checkpoint_id;

-- name: pin
-- Never prune a checkpoint, or with '' a thread.
insert into pin (thread_id, checkpoint_id) values (%(thread)s, %(checkpoint)s)
on conflict (thread_id, checkpoint_id) do nothing;

-- name: unpin
-- Take that back.
delete from pin where thread_id = %(thread)s and checkpoint_id = %(checkpoint)s;

-- name: has_checkpoint
-- Whether a thread has a checkpoint of that id, in whichever namespace.
select 1 from checkpoint where thread_id = %(thread)s and checkpoint_id = %(checkpoint)s limit 1;

-- name: run_ids
-- The runs that are named anywhere in a thread.
select run_id from run where thread_id = %(thread)s union select run_id from checkpoint where thread_id = %(thread)s
union select run_id from task_result where thread_id = %(thread)s order by 1;

-- name: copy_checkpoints
-- The checkpoints of a thread once more, under another name and of other runs.
insert into checkpoint
    (thread_id, namespace, seq, checkpoint_id, parent_id, run_id, step, source, created, "full", around, data)
select %(target)s, c.namespace, c.seq, c.checkpoint_id, c.parent_id, m.fresh, c.step, c.source, c.created, c."full",
    c.around, c.data
from checkpoint c join unnest(%(old)s::text[], %(fresh)s::text[]) m(old, fresh) on m.old = c.run_id
where c.thread_id = %(thread)s;

-- name: copy_results
-- What hangs on them, in the same order; of no epoch, since those count for each thread by itself.
insert into task_result
    (thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, attempt, epoch, parent, branch, data)
select %(target)s, r.namespace, r.checkpoint_id, m.fresh, r.task_id, r.kind, r.name, r.step, r.attempt, 0, r.parent,
    r.branch, r.data
from task_result r join unnest(%(old)s::text[], %(fresh)s::text[]) m(old, fresh) on m.old = r.run_id
where r.thread_id = %(thread)s order by r.no;

-- name: copy_pruned
-- How far a thread was pruned, for its copy.
insert into pruned (thread_id, namespace, seq)
select %(target)s, namespace, seq from pruned where thread_id = %(thread)s;

-- name: whole_runs
-- The runs of a thread.
select run_id, thread_id, graph, digest, status, created, finished, error, settings
from run where thread_id = %(thread)s order by run_id;

-- name: copy_run
-- A run as it was, under another id.
insert into run (run_id, thread_id, graph, digest, status, created, finished, error, settings)
values (%(run)s, %(thread)s, %(graph)s, %(digest)s, %(status)s, %(created)s, %(finished)s, %(error)s, %(settings)s);

-- name: integrity
-- What the database itself finds wrong with its files: nothing, as PostgreSQL looks at a page when it reads it.
select 'ok';

-- name: whole_checkpoints
-- The checkpoints of a thread with what they hold.
select namespace, seq, checkpoint_id, parent_id, step, "full", data
from checkpoint where thread_id = %(thread)s order by namespace, seq;

-- name: whole_results
-- What hangs on the checkpoints of a thread, with the numbers under which it was kept.
select namespace, no, checkpoint_id, kind, name, step, epoch, branch, data
from task_result where thread_id = %(thread)s order by no;

-- name: whole_events
-- Everything that happened in a run, with the hashes.
select no, number, convert_to(data, 'UTF8'), packed, hash from event where run_id = %(run)s order by no;

-- name: epoch
-- The epoch of a thread.
select epoch from thread where thread_id = %(thread)s;

-- name: whole_items
-- Items and their encrypted words from one of them on.
select no, namespace, key, data, sealed from item where no > %(after)s order by no limit %(most)s;

-- name: whole_vectors
-- The vectors of these items.
select item, data from item_vector
where item = any(%(items)s) order by item, version, place;

-- name: whole_saved
-- Every record of a thread of LangGraph's own graphs.
select 'saver_checkpoint', c.namespace, encode(c.checkpoint_id, 'hex'), c.data
from saver_checkpoint c join saver_thread t on t.no = c.thread where t.thread_id = %(thread)s
union all select 'saver_write', w.namespace, encode(w.checkpoint_id, 'hex'), w.data
from saver_write w join saver_thread t on t.no = w.thread where t.thread_id = %(thread)s
union all select 'saver_piece', '', encode(p.digest, 'hex'), p.data
from saver_piece p join saver_thread t on t.no = p.thread where t.thread_id = %(thread)s
order by 1, 2, 3;

-- name: saved_without_parent
-- Checkpoints of LangGraph's own graphs that cannot be read, because their parents are missing.
select c.namespace, encode(c.checkpoint_id, 'hex'), encode(c.parent_id, 'hex')
from saver_checkpoint c join saver_thread t on t.no = c.thread
    left join saver_checkpoint p
        on p.thread = c.thread and p.namespace = c.namespace and p.checkpoint_id = c.parent_id
where t.thread_id = %(thread)s and not c."full" and c.parent_id is not null and p.thread is null
order by 1, 2;

-- name: lost_events
-- Runs of which events are kept and nothing else.
select run_id, min(no) from event where run_id not in (select run_id from run) group by run_id order by run_id;

-- name: version
-- The version of the database's program.
select 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1);

-- name: schema_version
-- The last migration that the database has had.
select max(no) from migration;

-- name: size
-- The bytes that the database takes on the disk.
select coalesce(sum(pg_total_relation_size(c.oid)), 0) from pg_class c
where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r';

-- name: weights
-- How many rows each table has, of events how many there are in them, and how many bytes their payloads take.
select 'checkpoint', count(*), coalesce(sum(octet_length(data)), 0) from checkpoint
union all select 'task_result', count(*), coalesce(sum(octet_length(data)), 0) from task_result
union all select 'event', coalesce(sum(number), 0), coalesce(sum(octet_length(data) + coalesce(octet_length(packed), 0)), 0)
from event
union all select 'run', count(*), coalesce(sum(octet_length(settings)), 0) from run
union all select 'item', count(*), coalesce(sum(octet_length(data)), 0) from item
union all select 'item_vector', count(*), coalesce(sum(octet_length(data)), 0) from item_vector
union all select 'saver_checkpoint', count(*), coalesce(sum(octet_length(data)), 0) from saver_checkpoint
union all select 'saver_write', count(*), coalesce(sum(octet_length(data)), 0) from saver_write
union all select 'saver_piece', count(*), coalesce(sum(octet_length(data)), 0) from saver_piece
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
    select thread_id, octet_length(data) as bytes from checkpoint
    union all select thread_id, octet_length(data) from task_result
    union all select run.thread_id, octet_length(data) + coalesce(octet_length(packed), 0)
    from event join run on run.run_id = event.run_id
) rows group by thread_id order by 3 desc, 1 limit %(limit)s;

-- name: oldest_lease
-- The thread that somebody has run for the longest, and whether nobody has heard of them for longer than their lease
-- lasts.
select t.thread_id, t.owner, t.claimed, coalesce(w.expires_at < extract(epoch from clock_timestamp()), true)
from thread t left join worker w on w.worker_id = t.worker
where t.owner is not null order by t.claimed limit 1;
