-- +goose NO TRANSACTION
-- +goose Up
-- Only a log that existed before lacks the index; it is built without stopping writers. What an interrupted build left
-- behind is dropped first.
-- +goose StatementBegin
do $$
begin
    if exists (select from pg_index where indexrelid = to_regclass('core.idx_entity_change_log_tx') and not indisvalid) then
        drop index core.idx_entity_change_log_tx;
    end if;
end
$$;
-- +goose StatementEnd
create index concurrently if not exists idx_entity_change_log_tx on core.tb_entity_change_log (tx_id, pk_entity_change_log);
