-- The first schema of a PostgreSQL store. Times are seconds since 1970, payloads are encoded records.

create table worker (
    worker_id  text primary key,
    host       text not null,
    pid        bigint not null,
    expires_at double precision not null
);

create table thread (
    thread_id text primary key,
    epoch     bigint not null default 0,
    owner     text,
    worker    text,
    claimed   double precision
);

create table run (
    run_id    text primary key,
    thread_id text not null,
    graph     text not null,
    digest    text not null,
    status    text not null,
    created   double precision not null,
    finished  double precision,
    error     text not null,
    settings  text not null,
    begun_at  text not null default ''
);
create index run_by_time on run (created desc);
create index run_by_thread on run (thread_id);

create table checkpoint (
    thread_id     text not null,
    namespace     text not null,
    seq           bigint not null,
    checkpoint_id text not null,
    parent_id     text,
    run_id        text not null,
    step          bigint not null,
    source        text not null,
    created       double precision not null,
    "full"        boolean not null,
    around        text,
    data          bytea not null,
    primary key (thread_id, namespace, seq),
    unique (thread_id, namespace, checkpoint_id)
);

create table task_result (
    no            bigint generated always as identity primary key,
    thread_id     text not null,
    namespace     text not null,
    checkpoint_id text not null,
    run_id        text not null,
    task_id       text not null,
    kind          text not null,
    name          text not null,
    step          bigint not null,
    branch        text not null,
    attempt       text not null,
    epoch         bigint not null,
    parent        text,
    data          bytea not null,
    unique (thread_id, namespace, checkpoint_id, branch, task_id, kind)
);
create index task_result_by_run on task_result (run_id);

create table event (
    run_id text not null,
    no     bigint not null,
    data   text not null,
    hash   bytea not null,
    primary key (run_id, no)
);

create table pin (
    thread_id     text not null,
    checkpoint_id text not null,
    primary key (thread_id, checkpoint_id)
);

create table pruned (
    thread_id text not null,
    namespace text not null,
    seq       bigint not null,
    primary key (thread_id, namespace)
);
