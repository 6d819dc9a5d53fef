-- What LangGraph's own graphs keep. A checkpoint is stored as what differs from its parent, unless it is full. Ids of
-- checkpoints and tasks are 16 bytes, or longer where they are no UUIDs; the newest checkpoint has the largest.

create table saver_thread (
    no        bigint generated always as identity primary key,
    thread_id text not null unique
);

create table saver_checkpoint (
    thread        bigint not null,
    namespace     text not null,
    checkpoint_id bytea not null,
    parent_id     bytea,
    run_id        text,
    "full"        boolean not null,
    data          bytea not null,
    primary key (thread, namespace, checkpoint_id)
);
create index saver_checkpoint_by_run on saver_checkpoint (run_id) where run_id is not null;

create table saver_write (
    thread        bigint not null,
    idx           bigint not null,
    namespace     text not null,
    checkpoint_id bytea not null,
    task_id       bytea not null,
    path          text not null,
    channel       text not null,
    data          bytea not null,
    primary key (thread, namespace, checkpoint_id, task_id, idx)
);

create table saver_piece (
    thread bigint not null,
    digest bytea not null,
    data   bytea not null,
    primary key (thread, digest)
);
