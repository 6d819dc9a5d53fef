-- Events that end together share a row, whose number and hash are the last one's: they are `packed`, and `data` is
-- empty. A row with nothing packed is of one event, as text.

alter table event add column packed bytea;
