-- Long-term items. A namespace is written as its labels between dots: ('a', 'b') is '.a.b.', so that what lies under a
-- prefix is one range. `words` is what a search for words looks at, each once; of an encrypted item they are in `sealed`.
-- Versions count over all items, so that none has a version twice, also when it was deleted meanwhile. `born` is the
-- version of the first put, and the order of items.

create table item (
    no         integer primary key,
    namespace  text not null,
    key        text not null,
    data       blob not null,
    words      text not null,
    sealed     blob,
    version    integer not null,
    born       integer not null,
    created    real not null,
    updated    real not null,
    ttl        real,
    expires_at real,
    unique (namespace, key)
) strict;
create index item_by_expiry on item (expires_at) where expires_at is not null;
create index item_sealed on item (namespace) where sealed is not null;

create table item_version (
    last integer not null
) strict;
insert into item_version (last) values (0);

-- Vectors are those of one version of an item: what is of an older one counts no more.
create table item_vector (
    item    integer not null,
    version integer not null,
    place   integer not null,
    data    blob not null,
    primary key (item, version, place)
) strict, without rowid;

-- Words are taken as they are: they were found, and made lower case, before they came here.
create virtual table item_words using fts5 (
    words, content = 'item', content_rowid = 'no', tokenize = "ascii tokenchars '_'", detail = 'none', columnsize = 0
);

create trigger item_added after insert on item begin
    update item_version set last = max(last, new.version); insert into item_words (rowid, words)
    values (new.no, new.words); end;
create trigger item_changed after update of version on item begin
    update item_version set last = max(last, new.version); insert into item_words (item_words, rowid, words)
    values ('delete', old.no, old.words); insert into item_words (rowid, words) values (new.no, new.words); end;
create trigger item_gone after delete on item begin
    delete from item_vector where item = old.no; insert into item_words (item_words, rowid, words)
    values ('delete', old.no, old.words); end;

-- How far each writer has come with what may not be done twice.
create table turn (
    writer text primary key,
    no     integer not null,
    at     real not null
) strict, without rowid;
