-- The first schema of a SQLite store. Times are seconds since 1970, payloads are encoded records.

create table worker (
    worker_id  text primary key,
    host       text not null,
    pid        integer not null,
    expires_at real not null
) strict, without rowid;

create table thread (
    thread_id text primary key,
    epoch     integer not null default 0,
    owner     text,
    worker    text,
    claimed   real
) strict, without rowid;

create table run (
    run_id    text primary key,
    thread_id text not null,
    graph     text not null,
    digest    text not null,
    status    text not null,
    created   real not null,
    finished  real,
    error     text not null,
    settings  text not null,
    begun_at  text not null default ''
) strict;
create index run_by_time on run (created desc);
create index run_by_thread on run (thread_id);

create table checkpoint (
    thread_id     text not null,
    namespace     text not null,
    seq           integer not null,
    checkpoint_id text not null,
    parent_id     text,
    run_id        text not null,
    step          integer not null,
    source        text not null,
    created       real not null,
    "full"        integer not null,
    around        text,
    data          blob not null,
    primary key (thread_id, namespace, seq),
    unique (thread_id, namespace, checkpoint_id)
) strict;

create table task_result (
    no            integer primary key,
    thread_id     text not null,
    namespace     text not null,
    checkpoint_id text not null,
    run_id        text not null,
    task_id       text not null,
    kind          text not null,
    name          text not null,
    step          integer not null,
    branch        text not null,
    attempt       text not null,
    epoch         integer not null,
    parent        text,
    data          blob not null,
    unique (thread_id, namespace, checkpoint_id, branch, task_id, kind)
) strict;
create index task_result_by_run on task_result (run_id);

create table event (
    run_id text not null,
    no     integer not null,
    data   text not null,
    hash   blob not null,
    primary key (run_id, no)
) strict, without rowid;

create table pin (
    thread_id     text not null,
    checkpoint_id text not null,
    primary key (thread_id, checkpoint_id)
) strict, without rowid;

create table pruned (
    thread_id text not null,
    namespace text not null,
    seq       integer not null,
    primary key (thread_id, namespace)
) strict, without rowid;
