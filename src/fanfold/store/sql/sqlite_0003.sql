-- What LangGraph's own graphs keep. A checkpoint is stored as what differs from its parent, unless it is full. Ids of
-- checkpoints and tasks are 16 bytes, or longer where they are no UUIDs; the newest checkpoint has the largest.

create table saver_thread (
    no        integer primary key,
    thread_id text not null unique
) strict;

create table saver_checkpoint (
    thread        integer not null,
    namespace     text not null,
    checkpoint_id blob not null,
    parent_id     blob,
    run_id        text,
    "full"        integer not null,
    data          blob not null,
    primary key (thread, namespace, checkpoint_id)
) strict, without rowid;
create index saver_checkpoint_by_run on saver_checkpoint (run_id) where run_id is not null;

create table saver_write (
    thread        integer not null,
    namespace     text not null,
    checkpoint_id blob not null,
    task_id       blob not null,
    idx           integer not null,
    path          text not null,
    channel       text not null,
    data          blob not null,
    primary key (thread, namespace, checkpoint_id, task_id, idx)
) strict, without rowid;

create table saver_piece (
    thread integer not null,
    digest blob not null,
    data   blob not null,
    primary key (thread, digest)
) strict;
