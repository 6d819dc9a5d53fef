-- Long-term items. A namespace is written as its labels between dots: ('a', 'b') is '.a.b.', so that what lies under a
-- prefix is one range. `words` is what a search for words looks at, each once; of an encrypted item they are in `sealed`.
-- Versions count over all items, so that none has a version twice, also when it was deleted meanwhile. `born` is the
-- version of the first put, and the order of items.

create sequence item_version;

create table item (
    no         bigint generated always as identity primary key,
    namespace  text collate "C" not null,
    key        text collate "C" not null,
    data       bytea not null,
    words      text not null,
    sealed     bytea,
    version    bigint not null,
    born       bigint not null,
    created    double precision not null,
    updated    double precision not null,
    ttl        double precision,
    expires_at double precision,
    -- Words are taken as they are: they were found, and made lower case, before they came here.
    lexemes    tsvector generated always as (array_to_tsvector(string_to_array(nullif(words, ''), ' '))) stored,
    unique (namespace, key)
);
create index item_by_word on item using gin (lexemes);
create index item_by_expiry on item (expires_at) where expires_at is not null;
create index item_sealed on item (namespace) where sealed is not null;

-- Vectors are those of one version of an item: what is of an older one counts no more. `embedding` is there for the
-- database to compare, where it can: see `likeness`.
create table item_vector (
    item      bigint not null references item (no) on delete cascade,
    version   bigint not null,
    place     bigint not null,
    data      bytea not null,
    embedding real[],
    primary key (item, version, place)
);

-- The cosine of two vectors of length 1, by pgvector, where that is there or can be made to be; otherwise there is no
-- such function, and vectors are compared by us. It goes into `public`, since others who use the database may need it,
-- and would lose it with a schema of ours.
do $$
declare
    place name;
begin
    begin
        create extension if not exists vector schema public;
    exception when feature_not_supported or undefined_file or insufficient_privilege or invalid_schema_name then
        null;  -- it is not installed, or not for us
    end;
    select n.nspname into place
    from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';
    if place is not null then
        execute format(
            'create function likeness(one real[], other real[]) returns double precision
            language sql immutable parallel safe as $f$ select -(one::%1$I.vector operator(%1$I.<#>) other::%1$I.vector) $f$',
            place
        );
    end if;
end $$;

-- How far each writer has come with what may not be done twice.
create table turn (
    writer text primary key,
    no     bigint not null,
    at     double precision not null
);
