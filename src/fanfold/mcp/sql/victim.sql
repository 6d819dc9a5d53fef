-- What the owner of a store says while its door is attacked.

-- name: place
-- Who we are, in which schema, and over which connection.
select quote_ident(session_user::text), session_user::text, quote_ident(current_schema()), pg_backend_pid();

-- name: make
-- Something that no query may read, write or call.
create table {schema}.{table} (secret text not null);
insert into {schema}.{table} values ('{secret}');
create sequence {schema}.{sequence};
create function {schema}.{function}() returns bigint language sql security definer as
    $f$ insert into {schema}.{table} values ('x') returning 1::bigint $f$;
create procedure {schema}.{procedure}() language sql as $f$ delete from {schema}.{table} $f$;
grant execute on function {schema}.{function}() to public;
listen {channel};

-- name: forget
-- Take it away.
unlisten {channel};
drop procedure if exists {schema}.{procedure}();
drop function if exists {schema}.{function}();
drop sequence if exists {schema}.{sequence};
drop table if exists {schema}.{table};

-- name: state
-- What may not have changed, by what it is.
select 'the secret table', coalesce((select string_agg(secret, ',') from {schema}.{table}), '')
union all select 'the sequence', last_value || ' ' || is_called from {schema}.{sequence}
union all select 'tables and views', count(*)::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where quote_ident(n.nspname) in ('{schema}', '{door}', 'public') or n.nspname ~ '^pg_temp'
union all select 'functions', count(*)::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where quote_ident(n.nspname) in ('{schema}', '{door}', 'public') or n.nspname ~ '^pg_temp'
union all select 'large objects', count(*)::text from pg_largeobject_metadata
union all select 'the role', row(r.*)::text from pg_roles r where quote_ident(r.rolname) = '{reader}'
union all select 'the role''s privileges', coalesce(string_agg(c.relname || c.relacl::text, ' ' order by c.relname), '')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where quote_ident(n.nspname) = '{door}'
union all select 'locks of the role', count(*)::text from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where quote_ident(a.usename) = '{reader}' and l.locktype = 'advisory'
union all select 'statements of the role', count(*)::text from pg_stat_activity a
    where quote_ident(a.usename) = '{reader}' and a.state <> 'idle'
union all select 'our own connection', count(*)::text from pg_stat_activity a where a.pid = pg_backend_pid();

-- name: session
-- What a session of the role has, as seen from within.
select current_user, session_user, current_setting('transaction_read_only'), current_setting('transaction_isolation'),
    current_setting('default_transaction_read_only'), current_setting('statement_timeout'),
    current_setting('search_path'), current_setting('row_security'), current_setting('role'),
    coalesce(current_setting('left.behind', true), ''), pg_my_temp_schema()::text,
    (select count(*) from pg_prepared_statements where name <> 'asked'), (select count(*) from pg_cursors where name <> ''),
    (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
    (select count(*) from pg_listening_channels());
