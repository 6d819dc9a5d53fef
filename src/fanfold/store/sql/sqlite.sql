-- Every statement that fanfold says to SQLite. Each has a name and one line that says what it is for.

-- name: schema
-- The tables of a new database; harmless on one that has them.
create table if not exists thread (
    thread_id text primary key,
    owner     text
) strict;
create table if not exists run (
    run_id    text primary key,
    thread_id text not null,
    graph     text not null,
    digest    text not null,
    status    text not null,
    created   real not null,
    finished  real,
    error     text not null,
    settings  text not null
) strict;
create index if not exists run_by_time on run (created desc);
create table if not exists checkpoint (
    no            integer primary key,
    thread_id     text not null,
    namespace     text not null,
    checkpoint_id text not null,
    parent_id     text,
    run_id        text not null,
    step          integer not null,
    source        text not null,
    created       real not null,
    "full"        integer not null,
    data          blob not null,
    unique (thread_id, namespace, checkpoint_id)
) strict;
create table if not exists task_result (
    no            integer primary key,
    thread_id     text not null,
    namespace     text not null,
    checkpoint_id text not null,
    run_id        text not null,
    task_id       text not null,
    kind          text not null,
    name          text not null,
    step          integer not null,
    data          blob not null,
    parent        text,
    unique (thread_id, namespace, checkpoint_id, task_id, kind)
) strict;
create index if not exists task_result_by_run on task_result (run_id);
create table if not exists event (
    run_id    text not null,
    no        integer not null,
    data      text not null,
    primary key (run_id, no)
) strict, without rowid;

-- name: version
-- The version of the schema that the database holds; 0 for a new one.
pragma user_version;

-- name: owner
-- Who runs a thread.
select owner from thread where thread_id = ?;

-- name: claim
-- Become the runner of a thread.
insert into thread (thread_id, owner) values (:thread, :owner)
on conflict (thread_id) do update set owner = :owner;

-- name: release
-- Stop being the runner of a thread.
update thread set owner = null where thread_id = :thread and owner = :owner;

-- name: open_run
-- Admit a run, or mark one that is there as running again.
insert into run (run_id, thread_id, graph, digest, status, created, error, settings)
values (:run, :thread, :graph, :digest, :status, :created, '', :settings)
on conflict (run_id) do update set status = :status, finished = null, error = '', digest = :digest;

-- name: close_run
-- A sitting of a run has ended.
update run set status = :status, finished = :finished, error = :error where run_id = :run;

-- name: keep_result
-- Something that a task has come to. A node's result that was kept before stays; anything else is replaced.
insert into task_result (thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, data, parent)
values (:thread_id, :namespace, :checkpoint_id, :run_id, :task_id, :kind, :name, :step, :data, :parent)
on conflict (thread_id, namespace, checkpoint_id, task_id, kind) do update set run_id = :run_id, data = :data
where kind <> 'result';

-- name: keep_checkpoint
-- Where a thread stands after a step.
insert into checkpoint (thread_id, namespace, checkpoint_id, parent_id, run_id, step, source, created, "full", data)
values (:thread_id, :namespace, :checkpoint_id, :parent_id, :run_id, :step, :source, :created, :full, :data);

-- name: keep_event
-- One thing that happened, numbered on from what the run has.
insert into event (run_id, no, data)
values (:run, (select coalesce(max(no), -1) + 1 from event where run_id = :run), :data);

-- name: newest_checkpoint
-- The last checkpoint of a thread.
select checkpoint_id from checkpoint where thread_id = ? and namespace = ? order by no desc limit 1;

-- name: chain
-- A checkpoint and its parents, back to the nearest that holds all values.
with recursive chain as (
    select * from checkpoint where thread_id = :thread and namespace = :namespace and checkpoint_id = :checkpoint
    union all
    select c.* from checkpoint c join chain on c.checkpoint_id = chain.parent_id
    where not chain."full" and c.thread_id = :thread and c.namespace = :namespace
)
select thread_id, namespace, checkpoint_id, parent_id, run_id, step, source, created, "full", data
from chain order by no;

-- name: results_of_checkpoint
-- What the tasks of a checkpoint have come to, in the order in which it was kept.
select thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, data, parent
from task_result where thread_id = ? and namespace = ? and checkpoint_id = ? order by no;

-- name: history
-- All checkpoints of a thread, the newest first.
select thread_id, namespace, checkpoint_id, parent_id, run_id, step, source, created, "full", data
from checkpoint where thread_id = ? and namespace = ? order by no desc;

-- name: forget_checkpoints
-- Delete the checkpoints of a thread.
delete from checkpoint where thread_id = ?;

-- name: forget_results
-- Delete what hangs on the checkpoints of a thread.
delete from task_result where thread_id = ?;

-- name: forget_events
-- Delete what happened in the runs of a thread.
delete from event where run_id in (select run_id from run where thread_id = ?);

-- name: forget_runs
-- Delete the runs of a thread.
delete from run where thread_id = ?;

-- name: forget_thread
-- Delete the thread itself.
delete from thread where thread_id = ?;

-- name: runs_named
-- The runs whose id begins with the given text, first the one that is it; two are enough to know that it is ambiguous.
select run_id, thread_id, graph, digest, status, created, finished, error, settings
from run where substr(run_id, 1, length(:start)) = :start order by run_id limit 2;

-- name: runs
-- The newest runs first.
select run_id, thread_id, graph, digest, status, created, finished, error, settings
from run order by created desc, rowid desc limit ?;

-- name: results_of_run
-- Everything that tasks of a run have come to, in the order in which it was kept.
select thread_id, namespace, checkpoint_id, run_id, task_id, kind, name, step, data, parent
from task_result where run_id = ? order by no;

-- name: events_of_run
-- Everything that happened in a run, in order.
select no, data from event where run_id = ? order by no;
