-- Events that end together share a row, which has the number of the first and the hash of the last of them, and says how
-- many they are: they are `packed`, and `data` is empty. A row with nothing packed is of one event, as text.

alter table event add column number integer not null default 1;
alter table event add column packed blob;
