-- The parts of what `fanfold mcp setup-role` prints or runs. {names} are quoted already.

-- name: role
-- A role that may connect, and nothing else by itself.
do $$ begin
    if not exists (select from pg_roles where rolname = {role_text}) then
        create role {role};
    end if;
end $$;
alter role {role} with login noinherit connection limit {connections};
-- Only who has these may even take them away, so that is left out where there is nothing to take.
do $$ begin
    if exists (
        select from pg_roles where rolname = {role_text}
        and (rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls)
    ) then
        alter role {role} with nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
    end if;
end $$;
grant connect on database {database} to {role};

-- name: password
-- What it says who it is with: a secret that only the role can prove to know.
alter role {role} password {password};

-- name: settings
-- Defaults of its sessions; the door sets its own caps besides, for each statement.
alter role {role} in database {database} set search_path = {path};
alter role {role} in database {database} set default_transaction_read_only = on;
alter role {role} in database {database} set statement_timeout = '{seconds}s';
alter role {role} in database {database} set lock_timeout = '{seconds}s';
alter role {role} in database {database} set idle_in_transaction_session_timeout = '{seconds}s';
alter role {role} in database {database} set work_mem = '16MB';

-- name: disk
-- How much a statement may put aside on the disk. Only a superuser may say so; elsewhere the time is the only limit.
do $$ begin
    execute format('alter role %I in database %I set temp_file_limit = %L', {role_text}, {database_text}, '256MB');
exception when insufficient_privilege then
    raise notice 'temp_file_limit was not set: only a superuser may';
end $$;

-- name: door
-- A schema of views, which is all that the role sees of the store. They read as their owner does.
create schema if not exists {door};
revoke all on schema {door} from public;
grant usage on schema {door} to {role};

-- name: view
-- One of them.
drop view if exists {door}.{view};
create view {door}.{view} with (security_barrier) as
{body};
grant select on {door}.{view} to {role};

-- name: closed
-- Nothing in the store's own schema, whoever was generous before.
revoke all on all tables in schema {schema} from {role};
revoke all on all sequences in schema {schema} from {role};
revoke all on schema {schema} from {role};

-- name: opened
-- All tables and views of a schema that you have named, and those that you make in it later.
grant usage on schema {schema} to {role};
grant select on all tables in schema {schema} to {role};
alter default privileges in schema {schema} grant select on tables to {role};
