-- Every statement that the door says to PostgreSQL by itself.

-- name: begin
-- Read only, and one snapshot, whatever the statement asks for.
begin transaction isolation level repeatable read read only;

-- name: settle
-- Fix the snapshot, after which nothing can make the transaction write; the server's own caps; and where names are
-- looked for: the role may have views over several stores, and its own setting knows the last one.
select set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true),
       set_config('idle_in_transaction_session_timeout', $2, true), set_config('work_mem', '16MB', true),
       set_config('max_parallel_workers_per_gather', '0', true), set_config('client_connection_check_interval', $3, true),
       set_config('search_path', coalesce($4, current_setting('search_path')), true);

-- name: leave
-- Nothing is ever committed.
rollback;

-- name: forget
-- Nothing of the session stays: settings, roles, locks, prepared statements, temporary tables, channels.
discard all;

-- name: strengths
-- What the role may do beyond reading; each is a reason not to let it in.
with me as (select * from pg_roles where rolname = session_user),
schemas as (
    select oid, nspname from pg_namespace
    where nspname not in ('pg_catalog', 'information_schema') and nspname !~ '^pg_(toast|temp)'
      and has_schema_privilege(session_user, oid, 'usage')
)
select 'it is a superuser' from me where rolsuper
union all select 'it may make roles' from me where rolcreaterole
union all select 'it may make databases' from me where rolcreatedb
union all select 'it may replicate' from me where rolreplication
union all select 'it may pass row security by' from me where rolbypassrls
union all select format('it is a member of %I', r.rolname)
    from pg_auth_members m join me on me.oid = m.member join pg_roles r on r.oid = m.roleid
union all select format('it owns %s', c.oid::regclass) from pg_class c join me on me.oid = c.relowner
union all select format('it owns the function %s', p.oid::regprocedure) from pg_proc p join me on me.oid = p.proowner
union all select format('it owns the schema %I', n.nspname) from pg_namespace n join me on me.oid = n.nspowner
union all select format('it owns the database %I', d.datname) from pg_database d join me on me.oid = d.datdba
union all select format('it may make schemas in %I', current_database())
    where has_database_privilege(session_user, current_database(), 'create')
union all select format('it may make objects in the schema %I', nspname) from schemas
    where nspname <> 'public' and has_schema_privilege(session_user, oid, 'create')
union all select format('it may write to %s', c.oid::regclass)
    from pg_class c join schemas n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'f')
      and (has_table_privilege(session_user, c.oid, 'delete, truncate')
           or has_any_column_privilege(session_user, c.oid, 'insert, update'))
union all select format('it may move the sequence %s', c.oid::regclass)
    from pg_class c join schemas n on n.oid = c.relnamespace
    -- Not joined by `and`: the server may look at either first, and of a table it is an error to ask.
    where case when c.relkind = 'S' then has_sequence_privilege(session_user, c.oid, 'usage, update') end
union all select format('it may call %s, which acts as its owner', p.oid::regprocedure)
    from pg_proc p join schemas n on n.oid = p.pronamespace
    where p.prosecdef and has_function_privilege(session_user, p.oid, 'execute')
union all select format('it may call %s, which leaves this transaction for another connection', p.oid::regprocedure)
    from pg_extension e
    join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.classid = 'pg_proc'::regclass
    join pg_proc p on p.oid = d.objid
    join schemas n on n.oid = p.pronamespace
    where e.extname = 'dblink' and p.proname in ('dblink', 'dblink_exec', 'dblink_connect')
      and has_function_privilege(session_user, p.oid, 'execute')
limit 5;

-- name: readable
-- What the role may read, with its columns.
select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), n.nspname = any(current_schemas(false)), n.nspname
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
  and n.nspname !~ '^pg_(toast|temp)' and has_schema_privilege(session_user, n.oid, 'usage')
  and has_table_privilege(session_user, c.oid, 'select')
order by n.nspname, c.relname, a.attnum limit 2000;

-- name: place
-- The database, and the schema in which its user's tables are.
select current_database(), current_schema();

-- name: holds_store
-- Whether the table that remembers a store's migrations is there.
select to_regclass(%s) is not null;
